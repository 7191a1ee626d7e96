//! Tenants by the number, and runs over all of them.

use std::time::{Duration, Instant};

use postgres::Client;

use super::Db;
use super::people::{column, one, run};

impl Db {
    /// Migration 1, which makes a table `items`, and tenants t1 to tn that have it.
    #[track_caller]
    pub fn new_fleet(&self, tenants: usize) {
        self.add_migration("1", "CREATE TABLE items (id int PRIMARY KEY, body text)");
        run(
            &mut self.admin(),
            &format!("SELECT tenant_create('t' || g, 'T' || g) FROM generate_series(1, {tenants}) g"),
        );
    }

    /// Registers a migration that runs outside a transaction.
    #[track_caller]
    pub fn add_nontransactional(&self, version: &str, up: &str) {
        let sql = "SELECT version FROM tenant_migration_add($1, 'change ' || $1, $2, transactional => false)";
        one::<String>(&mut self.admin(), sql, &[&version, &up]);
    }

    /// Migrates all, or as `arguments` say: slug, status, number applied and SQLSTATE of each tenant visited.
    #[track_caller]
    pub fn migrate_all(&self, arguments: &str) -> Vec<String> {
        let sql = format!(
            "SELECT concat_ws(' ', slug, status, applied, sqlstate) FROM tenant_migrate_all({arguments}) ORDER BY slug"
        );
        column(&mut self.admin(), &sql, &[])
    }

    /// As `migrate_all`, while the case goes on.
    pub fn migrate_all_aside(&self, arguments: &str) -> std::thread::JoinHandle<Result<Vec<String>, postgres::Error>> {
        let mut client = self.admin();
        let sql = format!(
            "SELECT concat_ws(' ', slug, status, applied, sqlstate) FROM tenant_migrate_all({arguments}) ORDER BY slug"
        );
        std::thread::spawn(move || Ok(client.query(&sql, &[])?.iter().map(|row| row.get(0)).collect()))
    }

    /// Of each tenant: slug, version, number pending, and how far an unfinished migration is.
    #[track_caller]
    pub fn migration_status(&self) -> Vec<String> {
        let sql = "SELECT concat_ws(' ', slug, version, pending, unfinished) FROM tenant_migration_status()";
        column(&mut self.admin(), sql, &[])
    }

    /// Nothing of a run is left: no worker, no lock, no note, no invalid index, no lower-than-registered version.
    #[track_caller]
    pub fn assert_all_is_done(&self) {
        self.assert_no_workers();
        let mut superuser = self.superuser();
        let left: Vec<String> = column(&mut superuser, LEFT, &[]);
        assert!(left.is_empty(), "{left:#?}");
    }

    #[track_caller]
    pub fn assert_no_workers(&self) {
        let mut superuser = self.superuser();
        until("the workers are gone", || workers(&mut superuser).is_empty());
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

/// On the tenants' roles, schemas and tables, by sessions in this database; a lock on a role belongs to no database.
const LOCKS: &str = "
    SELECT format('%s %s %s', l.locktype, coalesce(l.relation::regclass::text, l.objid::text), l.mode)
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE a.datname = current_database() AND l.pid <> pg_backend_pid() AND a.backend_type <> 'autovacuum worker'
      AND l.locktype IN ('relation', 'object', 'tuple', 'advisory')";

/// The process ids of the workers in this database.
#[track_caller]
pub fn workers(client: &mut Client) -> Vec<i32> {
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'fluxbase_tenant fleet'
               AND datname = current_database()";
    column(client, sql, &[])
}

#[track_caller]
pub fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < Duration::from_secs(30), "not in 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
