//! A throw-away cluster: its own folder in /tmp, a Unix socket and nothing else to connect to, gone when dropped.

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

    /// Kills every process of the server at one moment, as the kernel does when memory runs out, and starts again: recovery
    /// is done when this returns.
    pub fn crash(&self) {
        let postmaster = self.postmaster();
        // Stopped, it has no more children than those that are listed.
        signal("STOP", &[postmaster]);
        let mut all = children_of(postmaster);
        all.push(postmaster);
        signal("KILL", &all);
        let started = Instant::now();
        while all.iter().any(|pid| is_alive(*pid)) {
            assert!(started.elapsed() < Duration::from_secs(10), "killed processes are still there");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.restart("immediate");
    }

    fn postmaster(&self) -> u32 {
        let file = fs::read_to_string(self.folder().join("data/postmaster.pid")).expect("the server runs");
        file.lines().next().and_then(|line| line.trim().parse().ok()).expect("postmaster.pid begins with a pid")
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

/// As the servers' user, who can end nobody else's processes.
fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    // Some may have ended meanwhile.
    let _ = server_command("sh").args(["-c", &format!("kill -{name} {pids} 2>/dev/null")]).status();
}

/// State and parent of a process.
fn process(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may hold anything.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn is_alive(pid: u32) -> bool {
    process(pid).is_some_and(|(state, _)| state != 'Z')
}

fn children_of(parent: u32) -> Vec<u32> {
    let folders = fs::read_dir("/proc").expect("/proc is there").flatten();
    let pids = folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok());
    pids.filter(|pid| process(*pid).is_some_and(|(_, of)| of == parent)).collect()
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
