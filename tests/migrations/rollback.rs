//! tenant_rollback() undoes applied migrations with their down scripts, newest first, and all of them or none.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    newest_first_down_to_the_target,
    down_to_nothing_and_up_again,
    nothing_after_the_target_changes_nothing,
    missing_down_script_is_refused_before_anything_runs,
    failing_down_script_changes_nothing,
    unknown_target_is_refused,
    repeatable_migrations_are_not_undone,
    nontransactional_down_scripts_run_in_the_callers_transaction,
    down_scripts_run_in_the_sandbox,
    rollback_is_for_instance_admins,
    deleted_and_unknown_tenants,
    part_of_the_callers_transaction,
    other_tenants_are_unchanged,
    late_version_is_undone_in_version_order,
];

const ROLLBACK: &str = "SELECT concat_ws(' ', slug, from_version, to_version, undone) FROM tenant_rollback($1, $2)";

fn add(db: &Db, version: &str, up: &str, down: Option<&str>) {
    let sql = "SELECT version FROM tenant_migration_add($1, 'change ' || $1, $2, $3)";
    one::<String>(&mut db.admin(), sql, &[&version, &up, &down]);
}

/// Registers versions 1 to 3, which create a table each and log when they are undone, and creates a tenant with them.
fn three_versions(db: &Db) -> (Uuid, Client) {
    add(db, "1", "CREATE TABLE log (n serial, what text)", Some("DROP TABLE log"));
    add(db, "2", "CREATE TABLE two (n int)", Some("DROP TABLE two; INSERT INTO log (what) VALUES ('two')"));
    add(db, "3", "CREATE TABLE three (n int)", Some("DROP TABLE three; INSERT INTO log (what) VALUES ('three')"));
    (db.new_tenant("acme", new_user()), db.admin())
}

fn logged(db: &Db) -> String {
    let sql = "SELECT coalesce(string_agg(what, ' ' ORDER BY n), '') FROM tenant_acme.log";
    one(&mut db.superuser(), sql, &[])
}

/// Asserts that ledger, count and version of the tenant agree with `versions`.
#[track_caller]
fn at(db: &Db, tenant: Uuid, versions: &str) {
    let sql = "SELECT coalesce(string_agg(a.version, ' ' ORDER BY m.sort_key), '') || '|' ||
                   coalesce(min(t.schema_version), '') || '|' || min(t.applied)
               FROM fluxbase_tenant.tenants t LEFT JOIN fluxbase_tenant.applied_migrations a ON a.tenant_id = t.id
               LEFT JOIN fluxbase_tenant.migrations m USING (version) WHERE t.id = $1";
    let last = versions.split(' ').rfind(|version| !version.starts_with("R__")).unwrap_or_default();
    let count = versions.split(' ').filter(|version| !version.is_empty()).count();
    assert_eq!(one::<String>(&mut db.superuser(), sql, &[&tenant]), format!("{versions}|{last}|{count}"));
}

fn newest_first_down_to_the_target(db: &Db) {
    let (id, mut admin) = three_versions(db);
    at(db, id, "1 2 3");
    let row = admin.query_one("SELECT * FROM tenant_rollback($1, '2')", &[&id]).unwrap();
    let columns: Vec<&str> = row.columns().iter().map(|c| c.name()).collect();
    assert_eq!(columns, ["tenant_id", "slug", "from_version", "to_version", "undone"]);
    let result = (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
    assert_eq!(result, (id, "acme", "3", "2", 1));
    assert_eq!((logged(db), db.tables_of(id)), ("three".into(), vec!["log".into(), "two".into()]));
    at(db, id, "1 2");
    let again = one::<i32>(&mut admin, "SELECT applied FROM tenant_migrate($1)", &[&id]);
    assert_eq!(again, 1);
    assert_eq!(one::<String>(&mut admin, ROLLBACK, &[&id, &"01"]), "acme 3 1 2", "versions are compared as numbers");
    assert_eq!(logged(db), "three three two");
    at(db, id, "1");
    assert_eq!(db.migration_status(), ["acme 1 2"]);
}

fn down_to_nothing_and_up_again(db: &Db) {
    let (id, mut admin) = three_versions(db);
    for _ in 0..2 {
        let row = admin.query_one("SELECT to_version, undone FROM tenant_rollback($1, '0')", &[&id]).unwrap();
        assert_eq!((row.get::<_, Option<String>>(0), row.get::<_, i32>(1)), (None, 3));
        assert_eq!(db.tables_of(id), [""; 0]);
        at(db, id, "");
        assert_eq!(db.migrate_all(""), ["acme migrated 3"]);
        at(db, id, "1 2 3");
        db.assert_tables_are_protected(id);
    }
    db.assert_all_is_done();
    // A registered version 0 is an ordinary version, so a rollback to it keeps it.
    add(db, "0", "CREATE TABLE zero ()", None);
    assert_eq!(db.migrate_all(""), ["acme migrated 1"]);
    assert_eq!(one::<String>(&mut admin, ROLLBACK, &[&id, &"0"]), "acme 3 0 3");
    assert_eq!(db.tables_of(id), ["zero"]);
}

fn nothing_after_the_target_changes_nothing(db: &Db) {
    let (id, mut admin) = three_versions(db);
    assert_eq!(one::<String>(&mut admin, ROLLBACK, &[&id, &"3"]), "acme 3 3 0");
    db.add_migration("4", "SELECT 1");
    assert_eq!(one::<String>(&mut admin, ROLLBACK, &[&id, &"4"]), "acme 3 3 0", "the tenant never applied version 4");
    at(db, id, "1 2 3");
}

fn missing_down_script_is_refused_before_anything_runs(db: &Db) {
    let (id, mut admin) = three_versions(db);
    add(db, "4", "CREATE TABLE four ()", None);
    add(db, "5", "CREATE TABLE five ()", Some("INSERT INTO log (what) VALUES ('five')"));
    add(db, "6", "CREATE TABLE six ()", None);
    db.migrate_all("");
    let refused = admin.query(ROLLBACK, &[&id, &"2"]);
    expect_refusal(refused, "conflict")
        .message("there is no down script for migration version 4, 6")
        .hint_has("new migration");
    assert_eq!(logged(db), "");
    at(db, id, "1 2 3 4 5 6");
    expect_refusal(admin.query(ROLLBACK, &[&id, &"5"]), "conflict");
    // An empty down script counts as one: there is nothing to undo.
    add(db, "7", "SELECT 7", Some(""));
    db.migrate_all("");
    assert_eq!(one::<String>(&mut admin, ROLLBACK, &[&id, &"6"]), "acme 7 6 1");
}

fn failing_down_script_changes_nothing(db: &Db) {
    let (id, mut admin) = three_versions(db);
    add(db, "2.5", "SELECT 1", Some("INSERT INTO log (what) VALUES ('gone'); SELECT 1 / 0; SELECT 3"));
    db.migrate_all("");
    expect_error(admin.query(ROLLBACK, &[&id, &"0"]), "22012")
        .context_has("migration version \"2.5\" (change 2.5), down, statement 2 of 3");
    assert_eq!(logged(db), "");
    assert_eq!(db.tables_of(id), ["log", "three", "two"]);
    at(db, id, "1 2 2.5 3");
    // A down script that fails because its table no longer exists changes nothing either.
    run(&mut db.superuser(), "DROP TABLE tenant_acme.three");
    expect_error(admin.query(ROLLBACK, &[&id, &"2"]), "42P01");
    at(db, id, "1 2 2.5 3");
    assert_eq!(one::<i32>(&mut admin, "SELECT applied FROM tenant_migrate($1)", &[&id]), 0);
}

fn unknown_target_is_refused(db: &Db) {
    let (id, mut admin) = three_versions(db);
    for unknown in ["4", "latest", "00", "0.0", "-1"] {
        expect_refusal(admin.query(ROLLBACK, &[&id, &unknown]), "invalid_argument")
            .message(&format!("migration version \"{unknown}\" is not registered"));
    }
    expect_refusal(admin.query(ROLLBACK, &[&id, &""]), "invalid_argument").message("invalid migration version");
    expect_refusal(admin.query(ROLLBACK, &[&id, &None::<&str>]), "invalid_argument");
    expect_refusal(admin.query(ROLLBACK, &[&None::<Uuid>, &"1"]), "invalid_argument");
    at(db, id, "1 2 3");
}

fn repeatable_migrations_are_not_undone(db: &Db) {
    let (id, mut admin) = three_versions(db);
    db.add_migration("R__view", "CREATE OR REPLACE VIEW latest AS SELECT 1 AS n");
    db.migrate_all("");
    assert_eq!(one::<String>(&mut admin, ROLLBACK, &[&id, &"1"]), "acme 3 1 2");
    at(db, id, "1 R__view");
    assert_eq!(one::<i32>(&mut db.superuser(), "SELECT n FROM tenant_acme.latest", &[]), 1);
    assert_eq!(db.migrate_all(""), ["acme migrated 2"]);
    // With a repeatable migration as the target, no version comes after it.
    assert_eq!(one::<String>(&mut admin, ROLLBACK, &[&id, &"R__view"]), "acme 3 3 0");
    assert_eq!(one::<i32>(&mut admin, "SELECT undone FROM tenant_rollback($1, '0')", &[&id]), 3);
    let left: Vec<String> = column(&mut db.superuser(), "SELECT version FROM fluxbase_tenant.applied_migrations", &[]);
    assert_eq!(left, ["R__view"]);
    assert_eq!(db.migrate_all(""), ["acme migrated 3"]);
    db.assert_all_is_done();
}

fn nontransactional_down_scripts_run_in_the_callers_transaction(db: &Db) {
    let (id, mut admin) = three_versions(db);
    let outside = "SELECT tenant_migration_add($1, 'x', $2, $3, transactional => false)";
    let up = "CREATE INDEX CONCURRENTLY two_idx ON two (n); VACUUM two";
    let down = "INSERT INTO log (what) VALUES ('four'); DROP INDEX CONCURRENTLY two_idx; VACUUM two;
                CREATE INDEX CONCURRENTLY back_idx ON two (n); REINDEX TABLE CONCURRENTLY two";
    admin.query(outside, &[&"4", &up, &down]).unwrap();
    assert_eq!(db.migrate_all(""), ["acme migrated 1"]);
    // It runs in the caller's transaction, so it can be rolled back.
    run(&mut admin, "BEGIN");
    assert_eq!(one::<String>(&mut admin, ROLLBACK, &[&id, &"3"]), "acme 4 3 1");
    run(&mut admin, "ROLLBACK");
    let indexes = "SELECT coalesce(string_agg(indexname, ' '), '') FROM pg_indexes WHERE schemaname = 'tenant_acme'";
    assert_eq!(one::<String>(&mut db.superuser(), indexes, &[]), "two_idx");
    assert_eq!(logged(db), "");
    assert_eq!(one::<String>(&mut admin, ROLLBACK, &[&id, &"3"]), "acme 4 3 1");
    assert_eq!(one::<String>(&mut db.superuser(), indexes, &[]), "back_idx");
    assert_eq!(logged(db), "four");
    at(db, id, "1 2 3");
}

fn down_scripts_run_in_the_sandbox(db: &Db) {
    let (id, mut admin) = three_versions(db);
    db.new_tenant("other", new_user());
    for (version, down) in [
        ("11", "SET ROLE postgres"),
        ("12", "DROP TABLE tenant_other.two"),
        ("13", "SELECT * FROM fluxbase_tenant.tenants"),
        ("14", "SELECT tenant_delete(id) FROM tenant_list()"),
        ("15", "DROP SCHEMA tenant_other CASCADE"),
    ] {
        add(db, version, "SELECT 1", Some(down));
        run(&mut admin, &format!("SELECT tenant_migrate('{id}', '{version}')"));
        expect_error(admin.query(ROLLBACK, &[&id, &"3"]), "42501").context_has("down, statement 1 of 1");
        run(
            &mut db.superuser(),
            &format!("DELETE FROM fluxbase_tenant.applied_migrations WHERE version = '{version}'"),
        );
        run(&mut admin, &format!("SELECT tenant_migration_remove('{version}')"));
    }
    add(db, "20", "SELECT 1", Some("INSERT INTO log (what) SELECT current_user || ' ' || tenant_current_id()"));
    run(&mut admin, &format!("SELECT tenant_migrate('{id}')"));
    run(&mut admin, &format!("SELECT tenant_rollback('{id}', '3')"));
    assert_eq!(logged(db), format!("{} {id}", Db::owner_role(id)));
}

fn rollback_is_for_instance_admins(db: &Db) {
    let user = new_user();
    add(db, "1", "CREATE TABLE one ()", Some("DROP TABLE one"));
    let id = db.new_tenant("acme", user);
    for mut client in [db.as_user(user), db.as_service(id), db.as_user(new_user())] {
        let refused = client.query(ROLLBACK, &[&id, &"0"]);
        let error = refused.expect_err("the caller is no instance admin").code().cloned();
        assert!(["42501", "P0002"].contains(&error.unwrap().code()));
    }
    expect_refusal(db.as_user(user).query(ROLLBACK, &[&id, &"0"]), "forbidden").message_has("roll back a tenant");
    expect_refusal(db.server().query(ROLLBACK, &[&id, &"0"]), "unauthenticated");
    expect_error(db.outsider().query(ROLLBACK, &[&id, &"0"]), "42501");
    at(db, id, "1");
}

fn deleted_and_unknown_tenants(db: &Db) {
    let (id, mut admin) = three_versions(db);
    expect_refusal(admin.query(ROLLBACK, &[&Uuid::new_v4(), &"1"]), "not_found");
    run(&mut admin, &format!("SELECT tenant_soft_delete('{id}')"));
    expect_refusal(admin.query(ROLLBACK, &[&id, &"1"]), "conflict").hint_has("tenant_restore()");
    run(&mut admin, &format!("SELECT tenant_restore('{id}'), tenant_suspend('{id}')"));
    assert_eq!(one::<String>(&mut admin, ROLLBACK, &[&id, &"1"]), "acme 3 1 2");
}

fn part_of_the_callers_transaction(db: &Db) {
    let (id, mut admin) = three_versions(db);
    run(&mut admin, &format!("BEGIN; SELECT tenant_rollback('{id}', '0'); SELECT tenant_migrate('{id}', '2')"));
    // Another session waits for the lock and does not deadlock.
    let mut other = db.admin();
    run(&mut other, "SET lock_timeout = '200 ms'");
    expect_error(other.query(ROLLBACK, &[&id, &"1"]), "55P03");
    run(&mut admin, "ROLLBACK");
    at(db, id, "1 2 3");
    assert_eq!(one::<String>(&mut other, ROLLBACK, &[&id, &"1"]), "acme 3 1 2");
}

fn other_tenants_are_unchanged(db: &Db) {
    let (id, mut admin) = three_versions(db);
    let other = db.new_tenant("other", new_user());
    run(&mut admin, &format!("SELECT tenant_rollback('{id}', '0')"));
    at(db, other, "1 2 3");
    assert_eq!(db.tables_of(other), ["log", "three", "two"]);
    // A migration that one tenant has applied stays registered.
    expect_refusal(admin.query("SELECT tenant_migration_remove('3')", &[]), "conflict");
    run(&mut admin, &format!("SELECT tenant_rollback('{other}', '2'); SELECT tenant_migration_remove('3')"));
    assert_eq!(db.migration_status(), ["acme 2", "other 2 0"]);
}

/// A version that was applied late is undone according to its number.
fn late_version_is_undone_in_version_order(db: &Db) {
    let (id, mut admin) = three_versions(db);
    add(db, "1.5", "CREATE TABLE late ()", Some("DROP TABLE late; INSERT INTO log (what) VALUES ('late')"));
    db.migrate_all("");
    assert_eq!(one::<String>(&mut admin, ROLLBACK, &[&id, &"2"]), "acme 3 2 1");
    at(db, id, "1 1.5 2");
    assert_eq!(one::<String>(&mut admin, ROLLBACK, &[&id, &"1"]), "acme 2 1 2");
    assert_eq!(logged(db), "three two late");
}
