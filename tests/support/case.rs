//! A case and how it is run.

use std::sync::{Arc, OnceLock};

use libtest_mimic::Failed;

use super::install::Install;
use super::{Cluster, Db, panics};

/// One test: a name and what it does with a fresh database that has the extension.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub run: fn(&Db),
}

/// Lists the cases of a file: `cases![last_admin_stays, outsider_sees_nothing];`
#[macro_export]
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub fn cases() -> Vec<$crate::support::Case> {
            vec![$($crate::support::Case { name: stringify!($name), run: $name }),*]
        }
    };
}

/// The name of a file and its cases.
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

/// An installed server with the cluster that its cases share, started by the first of them.
pub struct Server {
    pub install: Install,
    cluster: OnceLock<Result<Arc<Cluster>, String>>,
}

impl Server {
    pub fn all() -> Result<Vec<Arc<Server>>, String> {
        let installs = Install::all()?;
        Ok(installs.into_iter().map(|install| Arc::new(Server { install, cluster: OnceLock::new() })).collect())
    }

    /// A failed start is remembered: the other cases need not wait for it again.
    fn cluster(&self) -> Result<Arc<Cluster>, String> {
        self.cluster.get_or_init(|| Cluster::try_start(&self.install, &[])).clone()
    }
}

pub fn run_case(server: &Server, case: Case) -> Result<(), Failed> {
    let cluster = server.cluster()?;
    panics::caught(|| (case.run)(&Db::new(&cluster))).map_err(Failed::from)
}
