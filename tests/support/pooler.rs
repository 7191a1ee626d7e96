//! PgBouncer in front of a cluster, in transaction mode with one server connection.

use std::fs;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use postgres::{Client, Config, NoTls};
use tempfile::TempDir;

use super::account::{Account, server_command};
use super::{Db, paths};

/// Ends the pooler when the pipe closes: because the suite closes it, or because the suite dies.
const SCRIPT: &str = r#""$1" --quiet pgbouncer.ini & read -r _; kill $!"#;

pub struct Pooler {
    guardian: Child,
    folder: TempDir,
    database: String,
}

impl Pooler {
    /// Starts a pooler that lets in one role, the application's trusted back end.
    pub fn start(db: &Db, role: &str) -> Pooler {
        let folder = tempfile::Builder::new().prefix("pooler-").tempdir_in("/tmp").expect("/tmp takes a folder");
        let socket = folder.path().display();
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = {socket}\n\
             auth_type = trust\nauth_file = users.txt\npool_mode = transaction\ndefault_pool_size = 1\n\
             ignore_startup_parameters = extra_float_digits\nlogfile = {socket}/log\n",
            db.socket_dir().display(),
            db.port(),
        );
        fs::write(folder.path().join("pgbouncer.ini"), settings).expect("the folder is writable");
        fs::write(folder.path().join("users.txt"), format!("\"{role}\" \"\"\n")).expect("the folder is writable");
        if let Some(account) = Account::of_servers() {
            account.own(folder.path());
        }
        let guardian = server_command("sh")
            .args(["-c", SCRIPT, "guardian"])
            .arg(paths::private().join("pgbouncer/usr/sbin/pgbouncer"))
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run sh: {e}"));
        let mut pooler = Pooler { guardian, folder, database: db.name().to_owned() };
        pooler.wait(role);
        pooler
    }

    fn wait(&mut self, role: &str) {
        let started = Instant::now();
        while self.try_connect_as(role).is_err() {
            if started.elapsed() > Duration::from_secs(10) {
                drop(self.guardian.stdin.take());
                let mut log = String::new();
                let _ = self.guardian.stderr.take().map(|mut stderr| stderr.read_to_string(&mut log));
                panic!("PgBouncer did not start:\n{log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Connects as a client of the pool. Its statements must be simple ones, because a prepared statement stays on the
    /// server connection that all clients share.
    pub fn connect_as(&self, role: &str) -> Client {
        self.try_connect_as(role).unwrap_or_else(|e| panic!("{role} cannot connect to the pooler: {e:?}"))
    }

    fn try_connect_as(&self, role: &str) -> Result<Client, postgres::Error> {
        let mut config = Config::new();
        config.host_path(self.folder.path()).port(6432).user(role).dbname(&self.database).connect(NoTls)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
    }
}
