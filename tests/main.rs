//! The suite: every case runs once on every server, each in a database of its own.

mod cases;
mod support;

use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use support::{Server, run_case};

/// The cases wait for servers more than they compute, and each holds a few connections.
const THREADS: usize = 4;

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
        for (file, cases) in cases::all() {
            for case in cases {
                let name = format!("pg{}::{file}::{}", server.install.major, case.name);
                let server = Arc::clone(server);
                trials.push(Trial::test(name, move || run_case(&server, case)));
            }
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Before the exit, which runs no destructors: stops the servers and removes their folders.
    drop(servers);
    conclusion.exit();
}
