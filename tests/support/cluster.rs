//! A throw-away cluster: its own folder in /tmp, a Unix socket and nothing else to connect to, gone when dropped.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use postgres::{Client, Config, NoTls};
use tempfile::TempDir;

use super::account::{Account, server_command};
use super::guardian::Guardian;
use super::install::Install;

pub const SUPERUSER: &str = "postgres";

/// What is thrown away need not survive a power cut.
const SETTINGS: &[&str] = &[
    "listen_addresses = ''",
    "fsync = off",
    // Cases that run fleets share the cluster, and each takes a few.
    "max_worker_processes = 64",
    "synchronous_commit = off",
    "full_page_writes = off",
    "max_connections = 200",
];

pub struct Cluster {
    pub install: Install,
    // Before the folder: the server stops first, then its folder goes.
    guardian: Mutex<Option<Guardian>>,
    folder: TempDir,
    databases: AtomicU32,
    pub(super) template: OnceLock<()>,
}

impl Cluster {
    /// A cluster of one's own, with settings of one's own such as `"max_locks_per_transaction = 10"`.
    pub fn start(install: &Install, settings: &[&str]) -> Arc<Cluster> {
        Cluster::try_start(install, settings).unwrap_or_else(|problem| panic!("{problem}"))
    }

    pub fn try_start(install: &Install, settings: &[&str]) -> Result<Arc<Cluster>, String> {
        let folder = new_folder();
        let mut initdb = server_command(install.bin("initdb"));
        initdb.args(["--pgdata=data", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]);
        run(initdb.arg(format!("--username={SUPERUSER}")).current_dir(folder.path()))?;
        configure(folder.path(), settings);
        Cluster::guarded(install, folder)
    }

    /// A hot standby of this cluster, in step with it as far as the network of one machine goes.
    pub fn standby(&self) -> Arc<Cluster> {
        let folder = new_folder();
        let mut copy = server_command(self.install.bin("pg_basebackup"));
        copy.args(["--pgdata=data", "--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        copy.args(["--host".as_ref(), self.folder().as_os_str()]).arg(format!("--username={SUPERUSER}"));
        run(copy.current_dir(folder.path())).unwrap_or_else(|problem| panic!("{problem}"));
        configure(folder.path(), &["hot_standby = on"]);
        Cluster::guarded(&self.install, folder).unwrap_or_else(|problem| panic!("{problem}"))
    }

    fn guarded(install: &Install, folder: TempDir) -> Result<Arc<Cluster>, String> {
        let guardian = Guardian::start(install, folder.path())?;
        Ok(Arc::new(Cluster {
            install: install.clone(),
            guardian: Mutex::new(Some(guardian)),
            folder,
            databases: AtomicU32::new(0),
            template: OnceLock::new(),
        }))
    }

    /// Stops and starts. `mode` is pg_ctl's: `fast`, or `immediate` for a crash and recovery from it.
    pub fn restart(&self, mode: &str) {
        let mut guardian = self.guardian.lock().expect("no restart panicked");
        if let Some(running) = guardian.take() {
            running.stop(mode);
        }
        *guardian = Some(Guardian::start(&self.install, self.folder()).unwrap_or_else(|problem| panic!("{problem}")));
    }

    /// Holds the data, the log and the socket.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("server.log")).unwrap_or_default()
    }

    pub fn config(&self, role: &str, database: &str) -> Config {
        let mut config = Config::new();
        config.host_path(self.folder()).user(role).dbname(database);
        config
    }

    /// The superuser's session in a database.
    pub fn superuser(&self, database: &str) -> Client {
        self.config(SUPERUSER, database)
            .connect(NoTls)
            .unwrap_or_else(|e| panic!("cannot connect: {e:?}\n{}", self.log()))
    }

    pub(super) fn next_name(&self) -> String {
        format!("case_{}", self.databases.fetch_add(1, Ordering::Relaxed))
    }
}

/// In /tmp, wherever TMPDIR points: the servers' user can enter it, and the socket's path stays below 107 bytes.
fn new_folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("fluxbase-").tempdir_in("/tmp").expect("/tmp takes a folder");
    if let Some(account) = Account::of_servers() {
        account.own(folder.path());
    }
    folder
}

fn configure(folder: &Path, settings: &[&str]) {
    let file = folder.join("data/postgresql.conf");
    let mut text = fs::read_to_string(&file).expect("initdb writes postgresql.conf");
    text += &format!("\nunix_socket_directories = '{}'\n", folder.display());
    for setting in SETTINGS.iter().chain(settings) {
        text += &format!("{setting}\n");
    }
    fs::write(file, text).expect("postgresql.conf is ours to write");
}

fn run(command: &mut Command) -> Result<(), String> {
    let ran = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed:\n{}", String::from_utf8_lossy(&ran.stderr)))
}
