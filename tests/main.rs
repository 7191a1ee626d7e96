//! The suite: every case runs once on every server, each in a database of its own.

mod support;

mod attacks;
mod docs;
mod fleet;
mod isolation;
mod members;
mod migrations;
mod tenants;
mod world;

use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use support::{File, Server, run_case};

/// The number of cases that run at once. Cases mostly wait for servers, and each uses a few connections.
const THREADS: usize = 4;

/// Returns the files and cases of each folder. A case that is missing from its file's `cases!`, or a file that is
/// missing from its folder's `files!`, is unused code, which the compiler reports.
fn folders() -> Vec<(&'static str, Vec<File>)> {
    vec![
        ("attacks", attacks::all()),
        ("docs", docs::all()),
        ("fleet", fleet::all()),
        ("isolation", isolation::all()),
        ("members", members::all()),
        ("migrations", migrations::all()),
        ("tenants", tenants::all()),
        ("world", world::all()),
    ]
}

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let servers = Server::all().unwrap_or_else(|problem| {
        eprintln!("error: {problem}");
        std::process::exit(2);
    });
    support::panics::keep_for_the_report();

    let mut trials = Vec::new();
    for server in &servers {
        for (folder, files) in folders() {
            for (file, case) in
                files.into_iter().flat_map(|(file, cases)| cases.into_iter().map(move |case| (file, case)))
            {
                let name = format!("pg{}::{folder}::{file}::{}", server.install.major, case.name);
                let server = Arc::clone(server);
                trials.push(Trial::test(name, move || run_case(&server, case)));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Stops the servers and removes their folders before exit(), which runs no destructors.
    drop(servers);
    conclusion.exit();
}
