//! A tenant's schema that was renamed, and schemas of no tenant: the audit finds them, and no fix drops what they
//! contain.

use crate::cases;
use crate::support::Db;
use crate::support::audit::{Installation, assert_none, findings, is_sql, new_cluster};
use crate::support::people::{new_user, one, reached, run};

cases![renamed_schema_is_renamed_back, renamed_to_one_of_two, schemas_of_no_tenant, relations_elsewhere];

fn renamed_schema_is_renamed_back(db: &Db) {
    let mut soil = Installation::new(db);
    let member = soil.db.new_member(soil.acme);
    run(&mut soil.superuser, "INSERT INTO tenant_acme.notes (body) VALUES ('x')");
    soil.assert_repaired(
        "ALTER SCHEMA tenant_acme RENAME TO \"Acme Corp\"",
        &[("error", "tenant acme", "schema tenant_acme was renamed to \"Acme Corp\"")],
    );
    assert_eq!(reached(&mut soil.db.as_user(member), "tenant_acme.notes"), 1);
    assert_eq!(one::<i64>(&mut soil.db.as_user(member), "SELECT tenant_acme.counted()", &[]), 1);
    assert_eq!(reached(&mut soil.db.as_user(new_user()), "tenant_acme.notes"), 0);
}

/// Which of two schemas is the tenant's cannot be known. Neither is renamed or dropped.
fn renamed_to_one_of_two(db: &Db) {
    let mut soil = Installation::in_cluster(&new_cluster(db));
    let script = soil.fill("ALTER SCHEMA tenant_acme RENAME TO first; CREATE SCHEMA second AUTHORIZATION {o}");
    run(&mut soil.superuser, &script);
    let found = findings(&soil.db);
    let missing = found.iter().find(|one| one.object == "tenant acme").expect("the schema is missing");
    assert_eq!(missing.problem, "schema tenant_acme does not exist");
    assert!(!is_sql(&missing.fix), "{}", missing.fix);
    let first = found.iter().find(|one| one.object == "schema first").expect("it belongs to no tenant");
    assert!(!is_sql(&first.fix), "{}", first.fix);
    run(&mut soil.superuser, "DROP SCHEMA second; ALTER SCHEMA first RENAME TO tenant_acme");
    assert_none(&soil.db, "renamed by hand");
}

fn schemas_of_no_tenant(db: &Db) {
    let mut soil = Installation::in_cluster(&new_cluster(db));
    soil.assert_repaired(
        "CREATE SCHEMA empty AUTHORIZATION {o}",
        &[("warning", "schema empty", "is owned by an owner role but belongs to no tenant")],
    );
    let script = soil.fill("CREATE SCHEMA used AUTHORIZATION {o}; CREATE TABLE used.t (n int)");
    run(&mut soil.superuser, &script);
    let found = findings(&soil.db);
    assert_eq!(found.len(), 1);
    assert!(found[0].object == "schema used" && !is_sql(&found[0].fix), "{}", found[0].fix);
}

fn relations_elsewhere(db: &Db) {
    let mut soil = Installation::new(db);
    let elsewhere = "is owned by the owner role of tenant acme, but is not in its schema: tenant_delete() drops it";
    soil.assert_repaired(
        "CREATE TABLE lost (id serial PRIMARY KEY); ALTER TABLE lost OWNER TO {o}",
        &[("warning", "table public.lost", elsewhere)],
    );
    soil.assert_repaired(
        "CREATE VIEW found AS TABLE lost; ALTER VIEW found OWNER TO {o}",
        &[("warning", "view public.found", elsewhere)],
    );
    soil.assert_repaired(
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        &[("warning", "schema public", "lets every role create objects, which other roles may find by their names")],
    );
}
