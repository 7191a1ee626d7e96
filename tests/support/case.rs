//! Test cases, and how they run.

use std::sync::{Arc, OnceLock};

use libtest_mimic::Failed;

use super::install::Install;
use super::{Cluster, Db, panics};

/// A test: its name, and a function that gets a fresh database with the extension.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub run: fn(&Db),
}

/// Lists the cases of a file: `cases![last_admin_cannot_be_removed, outsider_sees_nothing];`
#[macro_export]
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub fn cases() -> Vec<$crate::support::Case> {
            vec![$($crate::support::Case { name: stringify!($name), run: $name }),*]
        }
    };
}

/// The name of a test file and its cases.
pub type File = (&'static str, Vec<Case>);

/// Lists the files of a folder: `files![keys, names];`
#[macro_export]
macro_rules! files {
    ($($file:ident),* $(,)?) => {
        pub fn all() -> Vec<$crate::support::File> {
            vec![$((stringify!($file), $file::cases())),*]
        }
    };
}

/// An installed PostgreSQL and the cluster that its cases share. The first case starts the cluster.
pub struct Server {
    pub install: Install,
    cluster: OnceLock<Result<Arc<Cluster>, String>>,
}

impl Server {
    pub fn all() -> Result<Vec<Arc<Server>>, String> {
        let installs = Install::all()?;
        Ok(installs.into_iter().map(|install| Arc::new(Server { install, cluster: OnceLock::new() })).collect())
    }

    /// Returns the shared cluster. A failed start is remembered, so that the other cases fail at once.
    fn cluster(&self) -> Result<Arc<Cluster>, String> {
        self.cluster.get_or_init(|| Cluster::try_start(&self.install, &[])).clone()
    }
}

pub fn run_case(server: &Server, case: Case) -> Result<(), Failed> {
    let cluster = server.cluster()?;
    panics::caught(|| (case.run)(&Db::new(&cluster))).map_err(Failed::from)
}
