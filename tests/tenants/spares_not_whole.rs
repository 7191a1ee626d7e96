//! Spare tenants that cannot be used: a restore has taken their owners or grants, or they contain their own name.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_refusal};

cases![broken_spares_are_passed_over, a_broken_spare_is_repaired, text_with_the_name_of_the_spare];

const BREAK: [&str; 4] = [
    "ALTER SCHEMA {s} OWNER TO CURRENT_USER",
    "REVOKE ALL ON SCHEMA {s} FROM fluxbase_tenant_user",
    "ALTER TABLE {s}.notes OWNER TO CURRENT_USER",
    "REVOKE ALL ON {s}.notes FROM fluxbase_tenant_user",
];

fn spare(client: &mut Client) -> (Uuid, String) {
    run(client, "SELECT tenant_spares_fill(1)");
    let row = client.query_one("SELECT id, quote_ident(schema_name) FROM fluxbase_tenant.tenants WHERE spare", &[]);
    let row = row.unwrap();
    (row.get(0), row.get(1))
}

fn broken_spares_are_passed_over(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (n int)");
    let mut superuser = db.superuser();
    for (number, damage) in BREAK.iter().enumerate() {
        let (broken, schema) = spare(&mut superuser);
        run(&mut superuser, &damage.replace("{s}", &schema));
        let user = new_user();
        let id = db.new_tenant(&format!("new-{number}"), user);
        assert_ne!(id, broken, "{damage}");
        run(&mut db.as_user(user), &format!("INSERT INTO tenant_new_{number}.notes VALUES (1)"));
        let row = superuser.query_one("SELECT made, migrated, dropped FROM tenant_spares_fill(1)", &[]).unwrap();
        assert_eq!((row.get(0), row.get(1), row.get(2)), (1, 0, 1), "{damage}: the broken one is replaced");
        // The whole one is used.
        let (whole, _) = spare(&mut superuser);
        assert_eq!(db.new_tenant(&format!("next-{number}"), new_user()), whole);
    }
}

fn a_broken_spare_is_repaired(db: &Db) {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    db.add_migration("1", "CREATE TABLE notes (n int)");
    let mut superuser = db.superuser();
    let (id, schema) = spare(&mut superuser);
    for damage in BREAK {
        run(&mut superuser, &damage.replace("{s}", &schema));
    }
    let fix = "SELECT DISTINCT fix FROM tenant_check() WHERE severity = 'error' AND fix LIKE '%tenant_repair%'";
    for fix in column::<String>(&mut superuser, fix, &[]) {
        run(&mut superuser, &fix);
    }
    let repaired = "SELECT object FROM fluxbase_tenant.tenants t, tenant_repair(t.id) WHERE t.id = $1";
    assert!(column::<String>(&mut superuser, repaired, &[&id]).len() <= 1, "only what the audit does not report");
    let user = new_user();
    assert_eq!(db.new_tenant("new", user), id);
    run(&mut db.as_user(user), "INSERT INTO tenant_new.notes VALUES (1)");
    expect_refusal(db.as_user(user).query("SELECT * FROM tenant_repair($1)", &[&id]), "forbidden");
    expect_refusal(db.admin().query("SELECT * FROM tenant_repair($1)", &[&new_user()]), "not_found");
}

/// Such text would not be renamed with the schema.
fn text_with_the_name_of_the_spare(db: &Db) {
    let scripts = [
        ("a row", "CREATE TABLE {t} (k text, v text); INSERT INTO {t} VALUES ('schema', current_schema())"),
        (
            "an index",
            "CREATE TABLE {t} (n int); DO $$ BEGIN EXECUTE format('CREATE INDEX %I ON {t} (n)', current_schema() || '_n'); END $$",
        ),
        (
            "a comment",
            "CREATE TABLE {t} (n int); DO $$ BEGIN EXECUTE format('COMMENT ON TABLE {t} IS %L', 'of ' || current_schema()); END $$",
        ),
        (
            "a function",
            "DO $$ BEGIN EXECUTE format('CREATE FUNCTION {t}() RETURNS text LANGUAGE sql AS %L', format('SELECT %L', current_schema())); END $$",
        ),
        ("a default", "DO $$ BEGIN EXECUTE format('CREATE TABLE {t} (s text DEFAULT %L)', current_schema()); END $$"),
    ];
    let mut superuser = db.superuser();
    for (number, (what, script)) in scripts.iter().enumerate() {
        let version = (number + 1).to_string();
        db.add_migration(&version, &script.replace("{t}", &format!("t{number}")));
        let filled = superuser.query("SELECT * FROM tenant_spares_fill(1)", &[]);
        expect_refusal(filled, "conflict").message_has("contains the name of its schema").hint_has("spare_tenants");
        // Tenants are created from scratch, and have their own name.
        let id = db.new_tenant(&format!("t{number}"), new_user());
        let drift: Vec<String> = column(&mut superuser, "SELECT object FROM tenant_drift($1)", &[&id]);
        assert!(drift.is_empty(), "{what}: {drift:?}");
        let remove = format!("SELECT tenant_delete('{id}'); SELECT tenant_migration_remove('{version}')");
        run(&mut superuser, &remove);
    }
    db.add_migration(
        "9",
        "CREATE TABLE fine (id serial, v text DEFAULT current_schema()); CREATE VIEW seen AS TABLE fine; COMMENT ON TABLE fine IS 'x';
         CREATE FUNCTION f() RETURNS bigint LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT count(*) FROM fine'",
    );
    let row = superuser.query_one("SELECT made FROM tenant_spares_fill(1)", &[]).unwrap();
    assert_eq!(row.get::<_, i32>(0), 1);
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM fluxbase_tenant.tenants WHERE spare", &[]), 1);
}
