//! Shared tables during the removal of a tenant: the thief's tables, and what is left in them.

use uuid::Uuid;

use super::Db;
use super::fleet::until;
use super::people::{column, one, run};
use super::scene::Scene;

/// Creates a table in schema lair that the thief owns and a superuser has shared, with a row for each tenant. The
/// thief has turned off FORCE ROW LEVEL SECURITY, as an owner can.
pub fn bait(scene: &Scene, table: &str, tenants: &[Uuid]) {
    run(&mut scene.thief(), &format!("CREATE TABLE {table} (n int)"));
    run(&mut scene.db.superuser(), &format!("SELECT tenant_protect('{table}')"));
    let mut thief = scene.thief();
    run(&mut thief, &format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"));
    for tenant in tenants {
        run(&mut thief, &format!("INSERT INTO {table} VALUES (1, '{tenant}')"));
    }
}

/// Creates a DELETE trigger on the table, whose function the thief owns.
pub fn trigger(scene: &Scene, table: &str, name: &str, when: &str, body: &str) {
    run(
        &mut scene.thief(),
        &format!(
            "CREATE FUNCTION lair.{name}() RETURNS trigger LANGUAGE plpgsql AS $trigger$ BEGIN {body} END $trigger$;
             CREATE TRIGGER {name} {when} DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION lair.{name}()"
        ),
    );
}

/// Counts the tenant's rows in a shared table, as a superuser.
pub fn left(db: &Db, table: &str, tenant: Uuid) -> i64 {
    one(&mut db.superuser(), &format!("SELECT count(*) FROM {table} WHERE tenant_id = $1"), &[&tenant])
}

/// Waits until no removal is pending and no removal worker runs.
pub fn removed(db: &Db) {
    let mut superuser = db.superuser();
    until("the removals are complete", || {
        one::<bool>(
            &mut superuser,
            "SELECT NOT EXISTS (SELECT FROM fluxbase_tenant.removals) AND NOT EXISTS (
                 SELECT FROM pg_stat_activity WHERE backend_type = 'fluxbase_tenant removal' AND datname = current_database())",
            &[],
        )
    });
}

/// Waits until tenant_check() reports rows that are left in the table, and returns the problem.
pub fn reported(db: &Db, object: &str) -> String {
    let mut superuser = db.superuser();
    let mut found = Vec::<String>::new();
    until("the remaining rows are reported", || {
        found = column(
            &mut superuser,
            "SELECT problem FROM tenant_check() WHERE object = $1 AND problem LIKE '%deleted tenants remain%'",
            &[&object],
        );
        !found.is_empty()
    });
    found.remove(0)
}
