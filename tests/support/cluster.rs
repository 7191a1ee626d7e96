//! A temporary cluster: it has its own folder in /tmp, listens only on a Unix socket, and is removed when dropped.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};
use tempfile::TempDir;

use super::account::{Account, server_command};
use super::guardian::Guardian;
use super::install::Install;

pub const SUPERUSER: &str = "postgres";

/// Settings of every cluster. Durability is off, because no test needs the data after the machine crashes.
const SETTINGS: &[&str] = &[
    "listen_addresses = ''",
    "fsync = off",
    // Cases that run fleets share the cluster, and each needs a few workers.
    "max_worker_processes = 64",
    "synchronous_commit = off",
    "full_page_writes = off",
    "max_connections = 200",
];

pub struct Cluster {
    pub install: Install,
    // Declared before the folder: the server must stop before its folder is removed.
    guardian: Mutex<Option<Guardian>>,
    folder: TempDir,
    databases: AtomicU32,
    pub(super) template: OnceLock<()>,
}

impl Cluster {
    /// Starts a cluster with additional settings, such as `"max_locks_per_transaction = 10"`.
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

    /// Starts a hot standby of this cluster, which streams from it.
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

    /// Stops and starts the server. `mode` is pg_ctl's: `fast`, or `immediate` for a crash and its recovery.
    pub fn restart(&self, mode: &str) {
        let mut guardian = self.guardian.lock().expect("no restart panicked");
        if let Some(running) = guardian.take() {
            running.stop(mode);
        }
        *guardian = Some(Guardian::start(&self.install, self.folder()).unwrap_or_else(|problem| panic!("{problem}")));
    }

    /// Kills all processes of the server at once, as the kernel does when memory runs out, and starts the server again.
    /// Recovery is complete when this returns.
    pub fn crash(&self) {
        let postmaster = self.postmaster();
        // A stopped postmaster starts no further children, so the list is complete.
        signal("STOP", &[postmaster]);
        let mut all = children_of(postmaster);
        all.push(postmaster);
        signal("KILL", &all);
        let started = Instant::now();
        while all.iter().any(|pid| is_alive(*pid)) {
            assert!(started.elapsed() < Duration::from_secs(10), "killed processes are still alive");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.restart("immediate");
    }

    fn postmaster(&self) -> u32 {
        let file = fs::read_to_string(self.folder().join("data/postmaster.pid")).expect("the server runs");
        file.lines().next().and_then(|line| line.trim().parse().ok()).expect("postmaster.pid begins with a pid")
    }

    /// Returns the folder that holds the data, the log and the socket.
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

    /// Connects to a database as the superuser.
    pub fn superuser(&self, database: &str) -> Client {
        self.config(SUPERUSER, database)
            .connect(NoTls)
            .unwrap_or_else(|e| panic!("cannot connect: {e:?}\n{}", self.log()))
    }

    pub(super) fn next_name(&self) -> String {
        format!("case_{}", self.databases.fetch_add(1, Ordering::Relaxed))
    }
}

/// Sends a signal as the servers' user, which cannot signal any other user's processes.
fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    // Some processes may have ended already.
    let _ = server_command("sh").args(["-c", &format!("kill -{name} {pids} 2>/dev/null")]).status();
}

/// Returns the state and the parent of a process.
fn process(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may contain any character, even parentheses.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_alive(pid: u32) -> bool {
    process(pid).is_some_and(|(state, _)| state != 'Z')
}

fn children_of(parent: u32) -> Vec<u32> {
    let folders = fs::read_dir("/proc").expect("/proc exists").flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    pids.filter(|pid| process(*pid).is_some_and(|(_, of)| of == parent)).collect()
}

/// Creates the cluster's folder in /tmp and ignores TMPDIR: the servers' user can enter /tmp, and the socket's path
/// stays below 107 bytes.
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
    fs::write(file, text).expect("postgresql.conf is writable");
}

fn run(command: &mut Command) -> Result<(), String> {
    let ran = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed:\n{}", String::from_utf8_lossy(&ran.stderr)))
}
