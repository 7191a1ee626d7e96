//! Migrations are registered once and in one order, and bring every tenant to the same version.

use serde_json::json;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    add_returns_the_row_and_repeats_it,
    changed_text_of_a_registered_version_is_refused,
    line_endings_do_not_matter,
    checksum_covers_both_scripts,
    scripts_that_do_not_parse_are_refused_at_registration,
    versions_sort_as_numbers_then_texts,
    one_number_written_twice_is_refused,
    invalid_versions,
    migrate_applies_what_is_pending,
    migrate_stops_at_the_target,
    late_version_is_applied,
    data_of_suspended_tenants_is_migrated_too,
    new_tenants_get_everything,
    deleted_are_skipped_and_suspended_are_not,
    status_lists_each_tenant,
    functions_are_for_instance_admins,
    ledger_records_what_who_and_when,
];

const ADD: &str = "SELECT * FROM tenant_migration_add($1, $2, $3, $4)";
const VERSIONS: &str = "SELECT version FROM tenant_migration_list()";
const MIGRATE: &str = "SELECT * FROM tenant_migrate($1)";

fn add_returns_the_row_and_repeats_it(db: &Db) {
    let mut admin = db.admin();
    let (up, down) = ("CREATE TABLE notes (body text)", Some("DROP TABLE notes"));
    let row = admin.query_one(ADD, &[&"1", &"notes", &up, &down]).unwrap();
    let columns: Vec<&str> = row.columns().iter().map(|c| c.name()).collect();
    assert_eq!(columns, ["version", "name", "up", "down", "transactional", "repeatable", "checksum", "created_at"]);
    assert_eq!((row.get(0), row.get(1), row.get(2), row.get(3)), ("1", "notes", up, down));
    let again = admin.query_one(ADD, &[&"1", &"another name", &up, &down]).unwrap();
    assert_eq!((again.get(0), again.get(1)), ("1", "notes"), "the existing row");
    assert_eq!(column::<String>(&mut admin, VERSIONS, &[]), ["1"]);

    // With named arguments, and without a down script.
    run(&mut admin, "SELECT tenant_migration_add(version => '2', name => 'two', up => 'SELECT 1')");
    let down: Option<String> = one(&mut admin, "SELECT down FROM tenant_migration_list() WHERE version = '2'", &[]);
    assert_eq!(down, None);
}

fn changed_text_of_a_registered_version_is_refused(db: &Db) {
    let mut admin = db.admin();
    let (up, down) = ("SELECT 1", Some("SELECT 2"));
    admin.query_one(ADD, &[&"1", &"one", &up, &down]).unwrap();
    for (up, down) in [("SELECT 3", down), ("SELECT 1 ", down), (up, None), (up, Some("SELECT 3")), (up, Some(""))] {
        let words = expect_refusal(admin.query(ADD, &[&"1", &"one", &up, &down]), "conflict")
            .message("migration version \"1\" is registered with another text")
            .hint_has("new version")
            .words();
        assert_eq!(words.sqlstate, "55000");
    }
}

fn line_endings_do_not_matter(db: &Db) {
    let mut admin = db.admin();
    let unix = "CREATE TABLE notes (\n  body text\n);\n";
    let row = admin.query_one(ADD, &[&"1", &"notes", &unix, &None::<&str>]).unwrap();
    let sum: String = one(&mut admin, "SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')", &[&unix]);
    assert_eq!(row.get::<_, &str>("checksum"), sum);
    for ending in ["\r\n", "\r"] {
        let text = unix.replace('\n', ending);
        let row = admin.query_one(ADD, &[&"1", &"notes", &text, &None::<&str>]).unwrap();
        assert_eq!(row.get::<_, &str>("up"), unix);
    }
    expect_refusal(admin.query(ADD, &[&"1", &"notes", &unix.replace('\n', " "), &None::<&str>]), "conflict");
    // A script with Windows line endings runs.
    run(&mut admin, "SELECT tenant_migration_add('2', 'w', E'INSERT INTO notes\\r\\nVALUES (''x'');\\r\\n')");
    let id = db.new_tenant("acme", new_user());
    assert_eq!(one::<String>(&mut admin, "SELECT schema_version FROM tenant_get($1)", &[&id]), "2");
}

fn checksum_covers_both_scripts(db: &Db) {
    let mut admin = db.admin();
    let mut sum = |version: &str, up: &str, down: Option<&str>| -> String {
        admin.query_one(ADD, &[&version, &"n", &up, &down]).unwrap().get("checksum")
    };
    let sums = [
        sum("1", "SELECT 1; SELECT 2", None),
        sum("2", "SELECT 1; SELECT 2", Some("")),
        sum("3", "SELECT 1; ", Some("SELECT 2")),
        sum("4", "SELECT 1", Some("; SELECT 2")),
    ];
    let distinct: std::collections::HashSet<&String> = sums.iter().collect();
    assert_eq!(distinct.len(), sums.len());
}

fn scripts_that_do_not_parse_are_refused_at_registration(db: &Db) {
    let mut admin = db.admin();
    for bad in ["CREATE TABEL notes ()", "SELECT 1; SELEC 2", "SELECT 'open", "\\set x 1", "DO $$ BEGIN END"] {
        expect_error(admin.query(ADD, &[&"1", &"bad", &bad, &None::<&str>]), "42601");
        expect_error(admin.query(ADD, &[&"1", &"bad", &"SELECT 1", &Some(bad)]), "42601");
    }
    for control in [
        "COMMIT",
        "BEGIN",
        "BEGIN; SELECT 1",
        "SELECT 1; COMMIT",
        "BEGIN; SELECT 1; COMMIT; SELECT 2",
        "BEGIN; SELECT 1; COMMIT; BEGIN; SELECT 2; COMMIT",
        "BEGIN; SELECT 1; ROLLBACK",
        "SAVEPOINT a",
        "SELECT 1; ROLLBACK; SELECT 2",
        "PREPARE TRANSACTION 'x'",
        "START TRANSACTION; SAVEPOINT a; SELECT 1; COMMIT",
    ] {
        for (up, down) in [(control, None), ("SELECT 1", Some(control))] {
            expect_refusal(admin.query(ADD, &[&"1", &"bad", &up, &down]), "invalid_argument")
                .message("a migration must not contain transaction control")
                .hint_has("one transaction");
        }
    }
    for copy in ["COPY notes FROM STDIN", "SELECT 1; COPY (SELECT 1) TO STDOUT"] {
        expect_refusal(admin.query(ADD, &[&"1", &"bad", &copy, &None::<&str>]), "invalid_argument")
            .message("a migration must not contain COPY to or from the client")
            .hint_has("INSERT");
    }
    assert!(column::<String>(&mut admin, VERSIONS, &[]).is_empty());
}

fn versions_sort_as_numbers_then_texts(db: &Db) {
    let ordered = [
        "0",
        "1",
        "1.0",
        "1.2",
        "1.10",
        "1.10.1",
        "2",
        "007",
        "9",
        "10",
        "010.1",
        "20260131120000",
        "99999999999999999999999999999999999999",
        "1a",
        "2026-01-31",
        "V10",
        "V9",
        "a",
        "é",
    ];
    let mut shuffled = ordered;
    shuffled.reverse();
    shuffled.swap(2, 7);
    for version in shuffled {
        db.add_migration(version, "SELECT 1");
    }
    assert_eq!(column::<String>(&mut db.admin(), VERSIONS, &[]), ordered);
    let id = db.new_tenant("acme", new_user());
    assert_eq!(one::<String>(&mut db.admin(), "SELECT schema_version FROM tenant_get($1)", &[&id]), "é");
    // The tenant has applied all of them, whatever order they were registered in.
    db.add_migration("zz", "CREATE TABLE z ()");
    let before: i64 = one(
        &mut db.superuser(),
        "SELECT count(*) FROM fluxbase_tenant.applied_migrations WHERE tenant_id = $1",
        &[&id],
    );
    assert_eq!(before, ordered.len() as i64);
}

fn one_number_written_twice_is_refused(db: &Db) {
    let mut admin = db.admin();
    for (first, second) in [("7", "007"), ("0001.2", "1.02"), ("00", "0")] {
        db.add_migration(first, "SELECT 1");
        expect_refusal(admin.query(ADD, &[&second, &"n", &"SELECT 1", &None::<&str>]), "conflict")
            .message(&format!("migration version \"{second}\" is the same number as \"{first}\""))
            .hint_has("one way");
    }
}

fn invalid_versions(db: &Db) {
    let mut admin = db.admin();
    for version in ["", " ", "\n", &"1".repeat(101), &"é".repeat(51)] {
        expect_refusal(admin.query(ADD, &[&version, &"n", &"SELECT 1", &None::<&str>]), "invalid_argument")
            .message("invalid migration version")
            .hint_has("20260131120000");
    }
    for version in ["1'; DROP", "a \"b\" %s", "a\nb", &"1".repeat(100)] {
        db.add_migration(version, "SELECT 1");
    }
    db.new_tenant("acme", new_user());
}

fn migrate_applies_what_is_pending(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    let mut admin = db.admin();
    db.add_migration("1", "CREATE TABLE notes (body text)");
    db.add_migration("2", "ALTER TABLE notes ADD written_at timestamptz");
    let row = admin.query_one(MIGRATE, &[&id]).unwrap();
    let columns: Vec<&str> = row.columns().iter().map(|c| c.name()).collect();
    assert_eq!(columns, ["tenant_id", "slug", "status", "from_version", "to_version", "applied"]);
    let result = (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4), row.get(5));
    assert_eq!(result, (id, "acme", "migrated", None::<&str>, "2", 2));
    admin.query("SELECT body, written_at FROM tenant_acme.notes", &[]).unwrap();

    let row = admin.query_one(MIGRATE, &[&id]).unwrap();
    assert_eq!((row.get(2), row.get(3), row.get(4), row.get(5)), ("migrated", "2", "2", 0), "nothing to do");
    expect_refusal(admin.query(MIGRATE, &[&Uuid::new_v4()]), "not_found").message("tenant not found");
}

fn migrate_stops_at_the_target(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    for version in ["1", "2", "10"] {
        db.add_migration(version, &format!("CREATE TABLE t{version} ()"));
    }
    let mut admin = db.admin();
    let migrate = "SELECT from_version, to_version, applied FROM tenant_migrate($1, $2)";
    let mut to = |target: &str| {
        let row = admin.query_one(migrate, &[&id, &target]).unwrap();
        (row.get::<_, Option<String>>(0), row.get::<_, String>(1), row.get::<_, i32>(2))
    };
    assert_eq!(to("02"), (None, "2".into(), 2), "versions are compared as numbers");
    assert_eq!(to("1"), (Some("2".into()), "2".into(), 0), "a lower target undoes nothing");
    assert_eq!(to("10"), (Some("2".into()), "10".into(), 1));
    for unknown in ["3", "latest", "11"] {
        expect_refusal(admin.query(migrate, &[&id, &unknown]), "invalid_argument")
            .message(&format!("migration version \"{unknown}\" is not registered"))
            .hint_has("tenant_migration_list()");
    }
    expect_refusal(admin.query(migrate, &[&id, &""]), "invalid_argument").message("invalid migration version");
}

fn late_version_is_applied(db: &Db) {
    db.add_migration("1", "CREATE TABLE a ()");
    db.add_migration("3", "CREATE TABLE c ()");
    let id = db.new_tenant("acme", new_user());
    db.add_migration("2", "CREATE TABLE b ()");
    let row = db.admin().query_one(MIGRATE, &[&id]).unwrap();
    let result: (&str, &str, i32) = (row.get("from_version"), row.get("to_version"), row.get("applied"));
    assert_eq!(result, ("3", "3", 1));
    db.admin().query("SELECT * FROM tenant_acme.b", &[]).unwrap();
}

fn data_of_suspended_tenants_is_migrated_too(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (n int); INSERT INTO notes VALUES (1)");
    let user = new_user();
    let id = db.new_tenant("paused", user);
    run(&mut db.admin(), &format!("SELECT tenant_suspend('{id}')"));
    let force = if db.major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
    let up = format!("UPDATE notes SET n = 2; SET LOCAL {force} = regress; CREATE TABLE copy AS TABLE notes");
    let add = "SELECT tenant_migration_add('2', 'two', $1, 'DELETE FROM notes; DROP TABLE copy')";
    db.admin().query(add, &[&up]).unwrap();
    db.admin().query_one(MIGRATE, &[&id]).unwrap();
    assert_eq!(column::<i32>(&mut db.admin(), "SELECT n FROM tenant_paused.copy", &[]), [2]);
    for mut client in [db.as_user(user), db.as_service(id)] {
        expect_error(client.query("SELECT * FROM tenant_paused.notes", &[]), "42501");
    }
    db.admin().query_one("SELECT * FROM tenant_rollback($1, '1')", &[&id]).unwrap();
    assert_eq!(column::<i32>(&mut db.admin(), "SELECT n FROM tenant_paused.notes", &[]), [0; 0]);
}

fn new_tenants_get_everything(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text)");
    db.add_migration("2", "INSERT INTO notes (body) VALUES ('welcome')");
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let mut client = db.as_user(user);
    assert_eq!(one::<String>(&mut client, "SELECT schema_version FROM tenant_get($1)", &[&id]), "2");
    run(&mut client, "SELECT tenant_set_current('acme'); INSERT INTO notes (body) VALUES ('mine')");
    assert_eq!(column::<String>(&mut client, "SELECT body FROM notes ORDER BY id", &[]), ["welcome", "mine"]);
    run(&mut client, "UPDATE notes SET body = 'changed' WHERE id = 2; DELETE FROM notes WHERE id = 1");
    assert_eq!(column::<String>(&mut client, "SELECT body FROM notes", &[]), ["changed"]);
    expect_error(client.batch_execute("TRUNCATE notes"), "42501");
    expect_error(client.batch_execute("ALTER TABLE notes ADD x int"), "42501");
}

fn deleted_are_skipped_and_suspended_are_not(db: &Db) {
    let (gone, paused) = (db.new_tenant("gone", new_user()), db.new_tenant("paused", new_user()));
    let mut admin = db.admin();
    run(&mut admin, &format!("SELECT tenant_soft_delete('{gone}'), tenant_suspend('{paused}')"));
    db.add_migration("1", "CREATE TABLE notes (body text)");
    let row = admin.query_one(MIGRATE, &[&gone]).unwrap();
    assert_eq!((row.get("status"), row.get("to_version"), row.get("applied")), ("skipped", None::<&str>, 0));
    let row = admin.query_one(MIGRATE, &[&paused]).unwrap();
    assert_eq!((row.get("status"), row.get("to_version"), row.get("applied")), ("migrated", "1", 1));
    run(&mut admin, &format!("SELECT tenant_restore('{gone}')"));
    assert_eq!(admin.query_one(MIGRATE, &[&gone]).unwrap().get::<_, &str>("status"), "migrated");
}

fn status_lists_each_tenant(db: &Db) {
    let (a, b) = (db.new_tenant("a", new_user()), db.new_tenant("b", new_user()));
    let gone = db.new_tenant("gone", new_user());
    db.add_migration("1", "CREATE TABLE x ()");
    db.add_migration("2", "CREATE TABLE y ()");
    let mut admin = db.admin();
    run(&mut admin, &format!("SELECT tenant_migrate('{b}', '1'), tenant_soft_delete('{gone}')"));
    let rows = admin.query("SELECT * FROM tenant_migration_status()", &[]).unwrap();
    let status: Vec<(Uuid, String, Option<String>, i64)> =
        rows.iter().map(|r| (r.get("tenant_id"), r.get("slug"), r.get("version"), r.get("pending"))).collect();
    assert_eq!(status, [(a, "a".into(), None, 2), (b, "b".into(), Some("1".into()), 1)]);
}

fn functions_are_for_instance_admins(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    for (call, action) in [
        ("tenant_migration_add('1', 'n', 'SELECT 1')", "register a migration"),
        ("tenant_migration_list()", "list migrations"),
        ("tenant_migrate('{id}')", "migrate a tenant"),
        ("tenant_migration_status()", "see the migration status of all tenants"),
    ] {
        let sql = format!("SELECT * FROM {}", call.replace("{id}", &id.to_string()));
        for mut client in [db.as_user(user), db.as_service(id)] {
            expect_refusal(client.query(&sql, &[]), "forbidden")
                .message(&format!("permission denied to {action}"))
                .hint_has("instance admin");
        }
        expect_refusal(db.server().query(&sql, &[]), "unauthenticated");
        db.admin().query(&sql, &[]).unwrap();
    }
}

fn ledger_records_what_who_and_when(db: &Db) {
    let instance_admin = new_user();
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{instance_admin}')"));
    let id = db.new_tenant("acme", new_user());
    db.add_migration("1", "SELECT 1");
    db.as_user(instance_admin).query_one(MIGRATE, &[&id]).unwrap();
    let row: serde_json::Value = one(
        &mut db.superuser(),
        "SELECT jsonb_build_object('version', a.version, 'by', a.applied_by, 'same', a.checksum = m.checksum,
                                   'recent', a.applied_at > now() - interval '1 minute')
         FROM fluxbase_tenant.applied_migrations a JOIN fluxbase_tenant.migrations m USING (version)
         WHERE tenant_id = $1",
        &[&id],
    );
    assert_eq!(row, json!({"version": "1", "by": instance_admin.to_string(), "same": true, "recent": true}));
}
