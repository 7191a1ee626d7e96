//! Libraries that a test compiles for the server, to stand for those of others.

use std::path::PathBuf;
use std::process::Command;

use super::Db;

impl Db {
    /// Compiles C against this server's headers; the path is what LOAD and session_preload_libraries take.
    #[track_caller]
    pub fn compile_library(&self, name: &str, source: &str) -> PathBuf {
        let folder = self.socket_dir();
        // Cases share the cluster's folder.
        let file = |kind: &str| folder.join(format!("{name}_{}.{kind}", self.name()));
        let (code, library) = (file("c"), file("so"));
        std::fs::write(&code, source).expect("the cluster's folder is ours to write");
        let asked = Command::new(self.bin("pg_config")).arg("--includedir-server").output().expect("pg_config runs");
        let headers = String::from_utf8(asked.stdout).expect("a path");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-I", headers.trim(), "-o"]).arg(&library).arg(&code);
        let ran = compiler.output().unwrap_or_else(|e| panic!("cannot run cc: {e}"));
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        library
    }
}
