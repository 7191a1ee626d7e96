//! Fixtures for the tests of tenant_check(): an intact installation to damage, and assertions on what the check reports
//! and how its fixes repair it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use postgres::Client;
use uuid::Uuid;

use super::people::{new_user, run};
use super::{Cluster, Db};

/// Starts a cluster for one case: for damage that affects the whole cluster, such as roles and their settings.
pub fn new_cluster(db: &Db) -> Arc<Cluster> {
    Cluster::start(db.install(), &["session_preload_libraries = 'fluxbase_tenant'"])
}

/// Returns a cluster that is started once per server, for cases whose damage stays in their own database.
pub fn shared_cluster(db: &Db) -> Arc<Cluster> {
    static STARTED: Mutex<BTreeMap<u32, Arc<Cluster>>> = Mutex::new(BTreeMap::new());
    let mut started = STARTED.lock().expect("no start panicked");
    Arc::clone(started.entry(db.major()).or_insert_with(|| new_cluster(db)))
}

pub const TABLES: &str = "
    CREATE TABLE notes (id serial PRIMARY KEY, body text);
    CREATE VIEW seen AS TABLE notes;
    CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = tenant_acme, pg_temp
        AS 'SELECT count(*) FROM notes'";

pub const SHARED: &str = "
    CREATE TABLE jobs (n int); SELECT tenant_protect('jobs');
    CREATE TABLE split (n int, account uuid) PARTITION BY LIST (n); CREATE TABLE part PARTITION OF split FOR VALUES IN (1);
    SELECT tenant_protect('split', 'account')";

/// Severity, object and problem of a finding.
pub type Expected<'a> = (&'a str, &'a str, &'a str);

pub struct Found {
    pub severity: String,
    pub object: String,
    pub problem: String,
    pub fix: String,
}

#[track_caller]
pub fn findings(db: &Db) -> Vec<Found> {
    let rows = db.admin().query("SELECT severity, object, problem, fix FROM tenant_check()", &[]);
    let rows = rows.unwrap_or_else(|e| panic!("tenant_check: {e:?}"));
    rows.iter()
        .map(|row| Found { severity: row.get(0), object: row.get(1), problem: row.get(2), fix: row.get(3) })
        .collect()
}

#[track_caller]
pub fn assert_none(db: &Db, when: &str) {
    let left: Vec<String> =
        findings(db).into_iter().map(|f| format!("{}: {}: {}", f.object, f.problem, f.fix)).collect();
    assert!(left.is_empty(), "{when}: {left:#?}");
}

pub fn is_sql(fix: &str) -> bool {
    ["SELECT ", "ALTER ", "REVOKE ", "DROP ", "CREATE OR REPLACE "].iter().any(|verb| fix.starts_with(verb))
}

/// An intact installation with a tenant acme and shared tables, which cases damage.
pub struct Installation {
    pub db: Db,
    pub superuser: Client,
    pub acme: Uuid,
}

impl Installation {
    pub fn new(db: &Db) -> Installation {
        Installation::in_cluster(&shared_cluster(db))
    }

    pub fn in_cluster(cluster: &Arc<Cluster>) -> Installation {
        let db = Db::new(cluster);
        let acme = db.new_tenant("acme", new_user());
        db.migrate(acme, TABLES);
        let mut superuser = db.superuser();
        run(&mut superuser, SHARED);
        Installation { db, superuser, acme }
    }

    /// Fills the placeholders of a case: `{t}` is the tenant's id, `{o}` its owner role, `{d}` the database.
    pub fn fill(&self, text: &str) -> String {
        let owner = Db::owner_role(self.acme);
        text.replace("{t}", &self.acme.to_string()).replace("{o}", &owner).replace("{d}", self.db.name())
    }

    /// Runs the damaging script `seed`, and asserts that tenant_check() reports exactly `expected`.
    #[track_caller]
    pub fn plant(&mut self, seed: &str, expected: &[Expected]) -> Vec<Found> {
        assert_none(&self.db, "before");
        let script = self.fill(seed);
        run(&mut self.superuser, &script);
        let found = findings(&self.db);
        let reported: Vec<Expected> = found.iter().map(|f| (&*f.severity, &*f.object, &*f.problem)).collect();
        let wanted: Vec<[String; 3]> =
            expected.iter().map(|(s, o, p)| [self.fill(s), self.fill(o), self.fill(p)]).collect();
        let wanted: Vec<Expected> = wanted.iter().map(|[s, o, p]| (&**s, &**o, &**p)).collect();
        assert_eq!(reported, wanted, "{script}");
        found
    }

    /// Asserts that the damage is found, and that running the fixes verbatim repairs it. Two passes, because a fix
    /// can reveal another finding.
    #[track_caller]
    pub fn assert_repaired(&mut self, seed: &str, expected: &[Expected]) {
        let mut found = self.plant(seed, expected);
        for _ in 0..2 {
            for finding in &found {
                assert!(is_sql(&finding.fix), "{seed}: {}", finding.fix);
                let fixed = self.superuser.batch_execute(&finding.fix);
                fixed.unwrap_or_else(|e| panic!("{seed}: {}: {e:?}", finding.fix));
            }
            found = findings(&self.db);
        }
        assert_none(&self.db, seed);
    }

    /// Asserts that the damage is found, that the fix is advice rather than SQL, and that `undo`, which follows the
    /// advice, repairs it.
    #[track_caller]
    pub fn assert_advised(&mut self, seed: &str, expected: &[Expected], undo: &str) {
        for finding in self.plant(seed, expected) {
            assert!(!is_sql(&finding.fix) && finding.fix.len() > 20, "{seed}: {}", finding.fix);
        }
        let undo = self.fill(undo);
        run(&mut self.superuser, &undo);
        assert_none(&self.db, seed);
    }
}

/// Deletes the tenant: its owner role would survive the database, and the next case would find it.
impl Drop for Installation {
    fn drop(&mut self) {
        let deleted = self.superuser.batch_execute("SELECT tenant_delete(id) FROM fluxbase_tenant.tenants");
        assert!(deleted.is_ok() || std::thread::panicking(), "{deleted:?}");
    }
}
