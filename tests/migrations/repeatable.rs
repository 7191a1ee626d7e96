//! A migration whose version begins with R__ can change. It is then applied again, after all other migrations.

use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    applied_again_after_its_text_changed,
    unchanged_text_is_not_pending,
    text_changed_back_is_not_pending,
    applied_last_and_not_counted_as_the_version,
    new_tenants_get_the_current_text,
    pending_is_counted_per_tenant,
    tenant_migrate_applies_it_as_well,
    changed_nontransactional_text,
    failure_keeps_the_previous_state,
    invalid_repeatable_migrations_are_refused,
    not_applied_when_the_target_is_a_version,
    changed_while_a_tenant_applies_the_old_text,
    changed_while_the_fleet_runs,
];

/// Registers the text, or replaces the registered one.
#[track_caller]
fn repeat(db: &Db, version: &str, up: &str) {
    let sql = "SELECT version FROM tenant_migration_add($1, 'again', $2)";
    assert_eq!(one::<String>(&mut db.admin(), sql, &[&version, &up]), version);
}

fn view(n: i32) -> String {
    format!("CREATE OR REPLACE VIEW latest AS SELECT {n} AS n; INSERT INTO log VALUES ({n})")
}

/// Returns the value of the tenant's view, and the values that the migrations logged.
#[track_caller]
fn view_and_log(db: &Db, slug: &str) -> String {
    let sql = format!(
        "SELECT (SELECT n FROM tenant_{slug}.latest) || ':' || string_agg(n::text, ' ') FROM tenant_{slug}.log"
    );
    one(&mut db.superuser(), &sql, &[])
}

fn new_fleet_with_view(db: &Db, tenants: usize) {
    db.new_fleet(tenants);
    db.add_migration("2", "CREATE TABLE log (n int)");
    repeat(db, "R__view", &view(1));
    db.migrate_all("");
}

fn applied_again_after_its_text_changed(db: &Db) {
    new_fleet_with_view(db, 3);
    assert_eq!(db.migration_status(), ["t1 2 0", "t2 2 0", "t3 2 0"]);
    for n in 2..5 {
        repeat(db, "R__view", &view(n));
        assert_eq!(db.migration_status(), ["t1 2 1", "t2 2 1", "t3 2 1"]);
        assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1", "t3 migrated 1"]);
        db.assert_all_is_done();
    }
    for slug in ["t1", "t2", "t3"] {
        assert_eq!(view_and_log(db, slug), "4:1 2 3 4");
    }
    let listed = "SELECT version || ' ' || repeatable FROM tenant_migration_list()";
    assert_eq!(column::<String>(&mut db.admin(), listed, &[]), ["1 false", "2 false", "R__view true"]);
    let ledger =
        "SELECT count(*) FROM fluxbase_tenant.applied_migrations a JOIN fluxbase_tenant.migrations m USING (version)
                  WHERE version = 'R__view' AND a.checksum = m.checksum";
    assert_eq!(one::<i64>(&mut db.superuser(), ledger, &[]), 3);
}

fn unchanged_text_is_not_pending(db: &Db) {
    new_fleet_with_view(db, 2);
    repeat(db, "R__view", &view(1));
    repeat(db, "R__view", &view(1).replace("; ", ";\r\n").replace(";\r\n", "; "));
    assert_eq!(db.migrate_all(""), [""; 0]);
    let id: Uuid = one(&mut db.admin(), "SELECT id FROM tenant_get_by_slug('t1')", &[]);
    assert_eq!(one::<i32>(&mut db.admin(), "SELECT applied FROM tenant_migrate($1)", &[&id]), 0);
    assert_eq!(view_and_log(db, "t1"), "1:1");
}

fn text_changed_back_is_not_pending(db: &Db) {
    new_fleet_with_view(db, 2);
    repeat(db, "R__view", &view(2));
    assert_eq!(db.migrate_all("tenants => '{t1}'"), ["t1 migrated 1"]);
    repeat(db, "R__view", &view(1));
    // Tenant t2 never applied the other text, so it has the current one.
    assert_eq!(db.migration_status(), ["t1 2 1", "t2 2 0"]);
    assert_eq!(db.migrate_all(""), ["t1 migrated 1"]);
    assert_eq!((view_and_log(db, "t1"), view_and_log(db, "t2")), ("1:1 2 1".into(), "1:1".into()));
    db.assert_all_is_done();
}

fn applied_last_and_not_counted_as_the_version(db: &Db) {
    db.new_fleet(1);
    repeat(db, "R__b", "INSERT INTO log VALUES (12)");
    repeat(db, "R__a", "INSERT INTO log VALUES (11)");
    db.add_migration("zz", "INSERT INTO log VALUES (10)");
    db.add_migration("3", "INSERT INTO log VALUES (3)");
    db.add_migration("2", "CREATE TABLE log (n int); CREATE VIEW latest AS SELECT 0 AS n");
    let sql = "SELECT from_version || ' ' || to_version || ' ' || applied FROM tenant_migrate_all()";
    assert_eq!(column::<String>(&mut db.admin(), sql, &[]), ["1 zz 5"]);
    assert_eq!(view_and_log(db, "t1"), "0:3 10 11 12");
    // A late version is applied before the changed migration, and the tenant's version stays the highest one.
    repeat(db, "R__a", "INSERT INTO log VALUES (21)");
    db.add_migration("4", "INSERT INTO log VALUES (4)");
    assert_eq!(column::<String>(&mut db.admin(), sql, &[]), ["zz zz 2"]);
    assert_eq!(view_and_log(db, "t1"), "0:3 10 11 12 4 21");
    db.assert_all_is_done();
}

fn new_tenants_get_the_current_text(db: &Db) {
    new_fleet_with_view(db, 1);
    repeat(db, "R__view", &view(7));
    let id = db.new_tenant("late", new_user());
    assert_eq!(view_and_log(db, "late"), "7:7");
    assert_eq!(one::<String>(&mut db.admin(), "SELECT schema_version FROM tenant_get($1)", &[&id]), "2");
    assert_eq!(db.migrate_all(""), ["t1 migrated 1"]);
    db.assert_all_is_done();
}

fn pending_is_counted_per_tenant(db: &Db) {
    new_fleet_with_view(db, 3);
    repeat(db, "R__more", "SELECT 1");
    repeat(db, "R__view", &view(2));
    db.add_migration("3", "SELECT 3");
    assert_eq!(db.migration_status(), ["t1 2 3", "t2 2 3", "t3 2 3"]);
    assert_eq!(db.migrate_all("tenants => '{t2}'"), ["t2 migrated 3"]);
    assert_eq!(db.migration_status(), ["t1 2 3", "t2 3 0", "t3 2 3"]);
    repeat(db, "R__more", "SELECT 2");
    assert_eq!(db.migration_status(), ["t1 2 3", "t2 3 1", "t3 2 3"]);
    let third: Uuid = one(&mut db.admin(), "SELECT id FROM tenant_get_by_slug('t3')", &[]);
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{third}')"));
    assert_eq!(db.migrate_all(""), ["t1 migrated 3", "t2 migrated 1"]);
    repeat(db, "R__view", &view(3));
    run(&mut db.admin(), &format!("SELECT tenant_restore('{third}')"));
    assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1", "t3 migrated 3"]);
    assert_eq!(view_and_log(db, "t3"), "3:1 3");
    db.assert_all_is_done();
}

fn tenant_migrate_applies_it_as_well(db: &Db) {
    new_fleet_with_view(db, 1);
    let mut admin = db.admin();
    let id: Uuid = one(&mut admin, "SELECT id FROM tenant_get_by_slug('t1')", &[]);
    let migrate = "SELECT concat_ws(' ', status, from_version, to_version, applied) FROM tenant_migrate($1)";
    repeat(db, "R__view", &view(2));
    assert_eq!(one::<String>(&mut admin, migrate, &[&id]), "migrated 2 2 1");
    assert_eq!(one::<String>(&mut admin, migrate, &[&id]), "migrated 2 2 0");
    // Registered and applied in a transaction that is rolled back.
    run(&mut admin, "BEGIN");
    admin.query("SELECT tenant_migration_add('R__view', 'x', $1)", &[&view(3)]).unwrap();
    assert_eq!(one::<String>(&mut admin, migrate, &[&id]), "migrated 2 2 1");
    run(&mut admin, "ROLLBACK");
    assert_eq!(db.migration_status(), ["t1 2 0"]);
    assert_eq!(view_and_log(db, "t1"), "2:1 2");
    db.assert_all_is_done();
}

fn changed_nontransactional_text(db: &Db) {
    new_fleet_with_view(db, 2);
    let outside = "SELECT version FROM tenant_migration_add('R__upkeep', 'u', $1, transactional => false)";
    let mut admin = db.admin();
    one::<String>(&mut admin, outside, &[&"VACUUM items; INSERT INTO log VALUES (50)"]);
    assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1"]);
    one::<String>(&mut admin, outside, &[&"INSERT INTO log VALUES (60); SELECT 1 / n FROM latest WHERE n = 0; VACUUM"]);
    run(&mut db.superuser(), "CREATE OR REPLACE VIEW tenant_t1.latest AS SELECT 0 AS n");
    assert_eq!(db.migrate_all("retries => 0"), ["t1 failed 0 22012", "t2 migrated 1"]);
    assert_eq!(db.migration_status(), ["t1 2 1 R__upkeep, 1 of 3 statements done", "t2 2 0"]);
    // A changed text is applied from its first statement.
    one::<String>(&mut admin, outside, &[&"INSERT INTO log VALUES (70); VACUUM items"]);
    assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1"]);
    assert_eq!((view_and_log(db, "t1"), view_and_log(db, "t2")), ("0:1 50 60 70".into(), "1:1 50 60 70".into()));
    // The same text can become transactional.
    repeat(db, "R__upkeep", "INSERT INTO log VALUES (80)");
    assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1"]);
    db.assert_all_is_done();
}

fn failure_keeps_the_previous_state(db: &Db) {
    new_fleet_with_view(db, 2);
    repeat(db, "R__view", "CREATE OR REPLACE VIEW latest AS SELECT 9 AS n; SELECT 1 / (SELECT count(*) FROM items)");
    run(&mut db.superuser(), "INSERT INTO tenant_t2.items VALUES (1, 'x')");
    assert_eq!(db.migrate_all(""), ["t1 failed 0 22012", "t2 migrated 1"]);
    assert_eq!((view_and_log(db, "t1"), view_and_log(db, "t2")), ("1:1".into(), "9:1".into()));
    assert_eq!(db.migration_status(), ["t1 2 1", "t2 2 0"]);
    repeat(db, "R__view", &view(3));
    assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1"]);
    db.assert_all_is_done();
}

fn invalid_repeatable_migrations_are_refused(db: &Db) {
    new_fleet_with_view(db, 1);
    let mut admin = db.admin();
    let down = admin.query("SELECT tenant_migration_add('R__x', 'x', 'SELECT 1', 'SELECT 2')", &[]);
    expect_refusal(down, "invalid_argument").message("a repeatable migration cannot have a down script");
    expect_error(admin.query("SELECT tenant_migration_add('R__view', 'x', 'SELEC')", &[]), "42601");
    expect_refusal(admin.query("SELECT tenant_migration_add('R__view', 'x', 'COMMIT')", &[]), "invalid_argument");
    expect_refusal(admin.query("SELECT tenant_migration_remove('R__view')", &[]), "conflict");
    assert_eq!(db.migration_status(), ["t1 2 0"]);
    // A repeatable migration that no tenant has applied can be removed.
    repeat(db, "R__never", "SELECT 1");
    run(&mut admin, "SELECT tenant_migration_remove('R__never')");
    assert_eq!(db.migration_status(), ["t1 2 0"]);
    // Only instance admins can register it.
    let user = db.as_user(new_user()).query("SELECT tenant_migration_add('R__view', 'x', 'SELECT 1')", &[]);
    expect_refusal(user, "forbidden");
}

fn not_applied_when_the_target_is_a_version(db: &Db) {
    new_fleet_with_view(db, 1);
    repeat(db, "R__view", &view(2));
    db.add_migration("3", "INSERT INTO log VALUES (3)");
    db.add_migration("4", "INSERT INTO log VALUES (4)");
    assert_eq!(db.migrate_all("'3'"), ["t1 migrated 1"]);
    assert_eq!(db.migration_status(), ["t1 3 2"]);
    assert_eq!(db.migrate_all("'3'"), [""; 0]);
    assert_eq!(db.migrate_all("'R__view'"), ["t1 migrated 2"]);
    assert_eq!(view_and_log(db, "t1"), "2:1 3 4 2");
    db.assert_all_is_done();
}

fn changed_while_a_tenant_applies_the_old_text(db: &Db) {
    new_fleet_with_view(db, 2);
    let id: Uuid = one(&mut db.admin(), "SELECT id FROM tenant_get_by_slug('t1')", &[]);
    for (level, n) in [("READ COMMITTED", 2), ("REPEATABLE READ", 4)] {
        repeat(db, "R__view", &view(n));
        let mut applying = db.admin();
        run(&mut applying, &format!("BEGIN ISOLATION LEVEL {level}; SELECT tenant_migrate('{id}')"));
        let mut changing = db.admin();
        run(&mut changing, "SET lock_timeout = '100 ms'");
        let change = "SELECT tenant_migration_add('R__view', 'x', $1)";
        changing.query(change, &[&view(n)]).unwrap();
        changing.query(change, &[&view(n + 1)]).unwrap();
        run(&mut applying, "COMMIT");
        assert_eq!(db.migration_status(), ["t1 2 1", "t2 2 1"], "{level}");
        assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1"]);
    }
    // A transaction that took its snapshot before the change applies the old text.
    repeat(db, "R__view", &view(6));
    let mut late = db.admin();
    run(&mut late, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT tenant_migration_status()");
    repeat(db, "R__view", &view(7));
    late.query("SELECT tenant_migrate($1)", &[&id]).unwrap();
    run(&mut late, "COMMIT");
    assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1"]);
    db.assert_all_is_done();
}

/// A tenant that was visited before the change is visited again in the next run, so that none keeps the old text
/// permanently.
fn changed_while_the_fleet_runs(db: &Db) {
    new_fleet_with_view(db, 8);
    repeat(db, "R__view", &format!("{}; SELECT pg_sleep(0.05)", view(2)));
    let ran = db.migrate_all_in_background("");
    std::thread::sleep(std::time::Duration::from_millis(150));
    repeat(db, "R__view", &view(3));
    ran.join().unwrap().unwrap();
    let left = db.migrate_all("");
    assert!(left.iter().all(|line| line.ends_with("migrated 1")), "{left:?}");
    for tenant in 1..=8 {
        let state = view_and_log(db, &format!("t{tenant}"));
        assert!(["3:1 2 3", "3:1 3"].contains(&state.as_str()), "{state}");
    }
    db.assert_all_is_done();
}
