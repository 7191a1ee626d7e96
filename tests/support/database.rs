//! A database for each case, copied from a template with the extension, and connections to it as each kind of role.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use postgres::{Client, NoTls};
use uuid::Uuid;

use super::Cluster;
use super::cluster::SUPERUSER;
use super::install::Install;

/// The application's trusted back end, which sets the current user.
pub const APP_SERVER: &str = "app_server";
/// An untrusted SQL role: it may call the functions, and cannot set the current user.
pub const APP_USER: &str = "app_user";
/// An instance admin as long as no user id is set.
pub const APP_ADMIN: &str = "app_admin";
/// A role that can connect and has been granted nothing.
pub const APP_OUTSIDER: &str = "app_outsider";

const TEMPLATE: &str = "case_template";

/// Roles belong to the cluster, so they are created once, with the template.
const ROLES: &str = "
    CREATE ROLE app_server LOGIN;
    CREATE ROLE app_user LOGIN;
    CREATE ROLE app_admin LOGIN;
    CREATE ROLE app_outsider LOGIN;
    GRANT fluxbase_tenant_server TO app_server;
    GRANT fluxbase_tenant_user TO app_user;
    GRANT fluxbase_tenant_admin TO app_admin;";

pub struct Db {
    pub cluster: Arc<Cluster>,
    name: String,
    /// Whether the database is dropped with this handle.
    owned: bool,
}

impl Db {
    /// Creates a fresh database with the extension.
    pub fn new(cluster: &Arc<Cluster>) -> Db {
        cluster.template.get_or_init(|| make_template(cluster));
        Db::create(cluster, TEMPLATE)
    }

    /// Creates an empty database, for CREATE EXTENSION or a restore. The login roles exist.
    pub fn empty(cluster: &Arc<Cluster>) -> Db {
        cluster.template.get_or_init(|| make_template(cluster));
        Db::create(cluster, "template0")
    }

    /// Creates an empty database in a cluster that has none of the extension's roles yet.
    pub fn bare(cluster: &Arc<Cluster>) -> Db {
        Db::create(cluster, "template0")
    }

    fn create(cluster: &Arc<Cluster>, template: &str) -> Db {
        let name = cluster.next_name();
        let created =
            cluster.superuser("postgres").batch_execute(&format!("CREATE DATABASE {name} TEMPLATE {template}"));
        created.unwrap_or_else(|e| panic!("cannot copy the database {template}: {e:?}"));
        Db { cluster: Arc::clone(cluster), name, owned: true }
    }

    /// Returns the database of the same name in another cluster, such as a standby. It is not dropped with the handle.
    pub fn same_on(&self, cluster: &Arc<Cluster>) -> Db {
        Db { cluster: Arc::clone(cluster), name: self.name.clone(), owned: false }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn major(&self) -> u32 {
        self.install().major
    }

    /// Returns the server's installation, to start another cluster: `Cluster::start(db.install(),
    /// &["max_locks_per_transaction = 10"])`.
    pub fn install(&self) -> &Install {
        &self.cluster.install
    }

    pub fn socket_dir(&self) -> &Path {
        self.cluster.folder()
    }

    pub fn port(&self) -> u16 {
        5432
    }

    pub fn bin(&self, program: &str) -> PathBuf {
        self.install().bin(program)
    }

    pub fn superuser(&self) -> Client {
        self.connect_as(SUPERUSER, "")
    }

    /// Connects as the application's back end, the usual caller.
    pub fn server(&self) -> Client {
        self.connect_as(APP_SERVER, "")
    }

    pub fn user_role(&self) -> Client {
        self.connect_as(APP_USER, "")
    }

    pub fn admin(&self) -> Client {
        self.connect_as(APP_ADMIN, "")
    }

    pub fn outsider(&self) -> Client {
        self.connect_as(APP_OUTSIDER, "")
    }

    /// Connects with `options` as in PGOPTIONS: `-c fluxbase_tenant.user_id=...`.
    pub fn connect_as(&self, role: &str, options: &str) -> Client {
        self.try_connect_as(role, options).unwrap_or_else(|e| panic!("{role} cannot connect: {e:?}"))
    }

    pub fn try_connect_as(&self, role: &str, options: &str) -> Result<Client, postgres::Error> {
        self.cluster.config(role, &self.name).options(options).connect(NoTls)
    }

    /// Sets the current user for the rest of the session; None for no user.
    pub fn act_as(&self, client: &mut Client, user: Option<Uuid>) {
        let value = user.map(|id| id.to_string()).unwrap_or_default();
        let set = client.batch_execute(&format!("SET fluxbase_tenant.user_id = '{value}'"));
        set.unwrap_or_else(|e| panic!("cannot set the user: {e:?}"));
    }

    /// Returns a command for a program that uses libpq, whose environment names this database and the superuser.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        for variable in ["PGOPTIONS", "PGSERVICE", "PGHOSTADDR", "PGPASSWORD", "PGSSLMODE"] {
            command.env_remove(variable);
        }
        command.env("PGHOST", self.socket_dir()).env("PGPORT", self.port().to_string());
        command.env("PGDATABASE", &self.name).env("PGUSER", SUPERUSER);
        command.stdin(Stdio::null());
        command
    }

    /// Runs one of PostgreSQL's own programs, which must succeed, and returns its output: `db.tool("pg_dump",
    /// &["--format=custom"])`.
    #[track_caller]
    pub fn tool(&self, program: &str, arguments: &[&str]) -> String {
        let ran = self.command(self.bin(program)).args(arguments).output();
        let ran = ran.unwrap_or_else(|e| panic!("cannot run {program}: {e}"));
        assert!(ran.status.success(), "{program} failed:\n{}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).unwrap_or_else(|_| panic!("{program} printed what is not UTF-8"))
    }

    /// Runs psql as `role` in this database, without a start-up file and with `script` on standard input.
    pub fn psql(&self, role: &str, arguments: &[&str], script: &str) -> Output {
        let mut psql = self.command(self.bin("psql"));
        psql.arg("-X").args(arguments).env("PGUSER", role);
        feed(&mut psql, script)
    }
}

/// Runs a command with the text on its standard input.
pub fn feed(command: &mut Command, text: &str) -> Output {
    use std::io::Write;
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|e| panic!("cannot run {piped:?}: {e}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let text = text.to_owned();
    // Written by another thread: if both pipes fill up, the command and the suite would wait for each other.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("the command was started");
    // A command that ends early does not read everything. Its status and output say why.
    let _ = writer.join();
    output
}

impl Drop for Db {
    fn drop(&mut self) {
        if !self.owned {
            return;
        }
        if let Ok(mut client) = self.cluster.config(SUPERUSER, "postgres").connect(NoTls) {
            let _ = client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

fn make_template(cluster: &Cluster) {
    let made = cluster.superuser("postgres").batch_execute(&format!("CREATE DATABASE {TEMPLATE} TEMPLATE template0"));
    made.unwrap_or_else(|e| panic!("cannot create the template: {e:?}"));
    let mut client = cluster.superuser(TEMPLATE);
    let ready = client.batch_execute("CREATE EXTENSION fluxbase_tenant").and_then(|()| client.batch_execute(ROLES));
    ready.unwrap_or_else(|e| panic!("cannot create the extension: {e:?}"));
    // CREATE DATABASE cannot copy a database that has sessions.
    client.close().expect("the session ends");
}
