//! Runs the tests that use other languages' clients, which bind parameters as uuid, text and jsonb without casts.

use std::process::Command;

use crate::cases;
use crate::support::database::APP_SERVER;
use crate::support::{Db, paths};

cases![psycopg, node_postgres];

fn psycopg(db: &Db) {
    let mut python = db.command("python3");
    python.args(["-m", "unittest", "discover", "--start-directory"]).arg(paths::client_suite("psycopg"));
    python.env("PYTHONPATH", paths::private().join("python")).env("PYTHONDONTWRITEBYTECODE", "1");
    passes(db, python);
}

fn node_postgres(db: &Db) {
    let folder = paths::client_suite("node");
    let files =
        std::fs::read_dir(&folder).expect("the folder exists").map(|entry| entry.expect("a readable entry").path());
    let mut node = db.command("node");
    // Files are passed by name, because a folder means different things to different versions of node.
    node.arg("--test").args(files.filter(|file| file.to_string_lossy().ends_with(".test.js")));
    node.env("NODE_PATH", paths::private().join("node/node_modules"));
    passes(db, node);
}

/// Runs a client's tests as the application's role. With trust authentication they can connect as any other role too.
#[track_caller]
fn passes(db: &Db, mut suite: Command) {
    suite.env("PGUSER", APP_SERVER).env("FLUXBASE_TENANT_MAJOR", db.major().to_string());
    let ran = suite.output().unwrap_or_else(|e| panic!("cannot run {suite:?}: {e}"));
    let output = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{suite:?} failed:\n{output}");
}
