//! Shared tables when a tenant is deleted: bait of a thief's, and what is left of a tenant.

use uuid::Uuid;

use super::Db;
use super::fleet::until;
use super::people::{column, one, run};
use super::scene::Scene;

/// A table of the thief's in schema lair, shared by a superuser's word, with a row of each of these tenants. The thief has
/// taken the force away, as owners may.
pub fn bait(scene: &Scene, table: &str, tenants: &[Uuid]) {
    run(&mut scene.thief(), &format!("CREATE TABLE {table} (n int)"));
    run(&mut scene.db.superuser(), &format!("SELECT tenant_protect('{table}')"));
    let mut thief = scene.thief();
    run(&mut thief, &format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"));
    for tenant in tenants {
        run(&mut thief, &format!("INSERT INTO {table} VALUES (1, '{tenant}')"));
    }
}

pub fn trigger(scene: &Scene, table: &str, name: &str, when: &str, body: &str) {
    run(
        &mut scene.thief(),
        &format!(
            "CREATE FUNCTION lair.{name}() RETURNS trigger LANGUAGE plpgsql AS $trigger$ BEGIN {body} END $trigger$;
             CREATE TRIGGER {name} {when} DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION lair.{name}()"
        ),
    );
}

pub fn left(db: &Db, table: &str, tenant: Uuid) -> i64 {
    one(&mut db.superuser(), &format!("SELECT count(*) FROM {table} WHERE tenant_id = $1"), &[&tenant])
}

/// Nothing is left to remove, and no worker is.
pub fn removed(db: &Db) {
    let mut superuser = db.superuser();
    until("everything is removed", || {
        one::<bool>(
            &mut superuser,
            "SELECT NOT EXISTS (SELECT FROM fluxbase_tenant.removals) AND NOT EXISTS (
                 SELECT FROM pg_stat_activity WHERE backend_type = 'fluxbase_tenant removal' AND datname = current_database())",
            &[],
        )
    });
}

/// Why something is left, as tenant_check() says.
pub fn reported(db: &Db, object: &str) -> String {
    let mut superuser = db.superuser();
    let mut found = Vec::<String>::new();
    until("what is left is reported", || {
        found = column(
            &mut superuser,
            "SELECT problem FROM tenant_check() WHERE object = $1 AND problem LIKE '%deleted tenants are left%'",
            &[&object],
        );
        !found.is_empty()
    });
    found.remove(0)
}
