//! Fleets of tenants, and runs over all of them.

use std::time::{Duration, Instant};

use postgres::Client;

use super::Db;
use super::people::{column, one, run};

impl Db {
    /// Registers migration 1, which creates a table `items`, and creates tenants t1 to tn, which apply it.
    #[track_caller]
    pub fn new_fleet(&self, tenants: usize) {
        self.add_migration("1", "CREATE TABLE items (id int PRIMARY KEY, body text)");
        run(
            &mut self.admin(),
            &format!("SELECT tenant_create('t' || g, 'T' || g) FROM generate_series(1, {tenants}) g"),
        );
    }

    /// Registers a nontransactional migration.
    #[track_caller]
    pub fn add_nontransactional(&self, version: &str, up: &str) {
        let sql = "SELECT version FROM tenant_migration_add($1, 'change ' || $1, $2, transactional => false)";
        one::<String>(&mut self.admin(), sql, &[&version, &up]);
    }

    /// Runs tenant_migrate_all() with these arguments, and returns a line for each visited tenant: slug, status, number
    /// of migrations applied, SQLSTATE.
    #[track_caller]
    pub fn migrate_all(&self, arguments: &str) -> Vec<String> {
        let sql = format!(
            "SELECT concat_ws(' ', slug, status, applied, sqlstate) FROM tenant_migrate_all({arguments}) ORDER BY slug"
        );
        column(&mut self.admin(), &sql, &[])
    }

    /// Runs `migrate_all` in another thread.
    pub fn migrate_all_in_background(
        &self,
        arguments: &str,
    ) -> std::thread::JoinHandle<Result<Vec<String>, postgres::Error>> {
        let mut client = self.admin();
        let sql = format!(
            "SELECT concat_ws(' ', slug, status, applied, sqlstate) FROM tenant_migrate_all({arguments}) ORDER BY slug"
        );
        std::thread::spawn(move || Ok(client.query(&sql, &[])?.iter().map(|row| row.get(0)).collect()))
    }

    /// Returns a line for each tenant: slug, version, number of pending migrations, and the progress of an unfinished
    /// migration.
    #[track_caller]
    pub fn migration_status(&self) -> Vec<String> {
        let sql = "SELECT concat_ws(' ', slug, version, pending, unfinished) FROM tenant_migration_status()";
        column(&mut self.admin(), sql, &[])
    }

    /// Asserts that a run is complete and left nothing behind: no worker, lock, unfinished migration, error or invalid
    /// index, and every tenant has applied all migrations.
    #[track_caller]
    pub fn assert_all_is_done(&self) {
        self.assert_no_workers();
        let mut superuser = self.superuser();
        let left: Vec<String> = column(&mut superuser, LEFT, &[]);
        assert!(left.is_empty(), "{left:#?}");
    }

    /// Asserts that the workers have ended and left no locks.
    #[track_caller]
    pub fn assert_no_workers(&self) {
        let mut superuser = self.superuser();
        until("the workers have ended", || workers(&mut superuser).is_empty());
        let left: Vec<String> = column(&mut superuser, LOCKS, &[]);
        assert!(left.is_empty(), "{left:#?}");
    }
}

const LEFT: &str = "
    SELECT format('%s: %s pending', slug, pending) FROM tenant_migration_status() WHERE pending <> 0
    UNION ALL SELECT format('%s: %s', slug, unfinished) FROM tenant_migration_status() WHERE unfinished IS NOT NULL
    UNION ALL SELECT format('%s: %s', slug, last_error) FROM tenant_migration_status() WHERE last_error IS NOT NULL
    UNION ALL SELECT format('invalid: %s', indexrelid::regclass) FROM pg_index WHERE NOT indisvalid
    UNION ALL SELECT format('wrong count: %s', slug) FROM fluxbase_tenant.tenants t,
              LATERAL (SELECT count(*) AS least, coalesce(sum(m.revision), 0) AS most FROM fluxbase_tenant.applied_migrations a
                       JOIN fluxbase_tenant.migrations m ON m.version = a.version WHERE a.tenant_id = t.id) l
              WHERE t.applied NOT BETWEEN l.least AND l.most
    UNION ALL SELECT severity || ': ' || object || ': ' || problem FROM tenant_check() WHERE severity = 'error'";

/// Locks on roles, schemas and tables that are held by sessions of this database. A lock on a role has no database of
/// its own.
const LOCKS: &str = "
    SELECT format('%s %s %s', l.locktype, coalesce(l.relation::regclass::text, l.objid::text), l.mode)
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE a.datname = current_database() AND l.pid <> pg_backend_pid() AND a.backend_type <> 'autovacuum worker'
      AND l.locktype IN ('relation', 'object', 'tuple', 'advisory')";

/// Returns the process ids of the fleet's workers in this database.
#[track_caller]
pub fn workers(client: &mut Client) -> Vec<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'fluxbase_tenant fleet'
               AND datname = current_database()";
    column(client, sql, &[])
}

/// Waits up to 30 seconds until the condition holds; `what` names it in the failure.
#[track_caller]
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < Duration::from_secs(30), "not in 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
