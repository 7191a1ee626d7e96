//! tenant_drift() reports the differences of the tenants that differ, and nothing about other tenants.

use uuid::Uuid;

use crate::cases;
use crate::support::audit::shared_cluster;
use crate::support::drift::{EVERYTHING, drift, drift_of};
use crate::support::people::{new_user, one, run};
use crate::support::{Db, expect_refusal};

cases![
    no_drift_however_tenants_are_created,
    ordinary_use_is_no_drift,
    names_that_need_quotes,
    names_that_are_also_schema_names,
    tenants_on_different_versions,
    one_tenant_of_a_fleet,
    rows_show_what_is_expected_and_what_is_found,
    missing_schema,
    changed_repeatable_migration,
    unfinished_migration,
    deleted_and_suspended_tenants,
    drift_is_for_instance_admins,
];

#[track_caller]
fn assert_none(db: &Db, when: &str) {
    let lines = drift(&mut db.admin(), "tenant_drift()");
    assert!(lines.is_empty(), "{when}: {lines:#?}");
}

fn new_tenants(db: &Db, slugs: &[&str]) -> Vec<Uuid> {
    slugs.iter().map(|slug| db.new_tenant(slug, new_user())).collect()
}

fn no_drift_however_tenants_are_created(db: &Db) {
    let db = Db::new(&shared_cluster(db));
    assert_none(&db, "no tenant");
    let early = db.new_tenant("early", new_user());
    assert_none(&db, "no migration");
    db.add_migration("1", EVERYTHING);
    db.add_migration(
        "2",
        "ALTER TABLE plain DROP COLUMN c; DROP INDEX notes_lower_idx; ALTER TYPE mood ADD VALUE 'fine'",
    );
    db.add_migration("3", "ALTER TABLE plain ADD COLUMN c int; ALTER TABLE notes ADD CHECK (length(body) < 100)");
    db.add_migration("R__view", "CREATE OR REPLACE VIEW lengths AS SELECT id, length(body) FROM notes");
    assert_none(&db, "nothing applied, and ledger empty");
    new_tenants(&db, &["at-once", "other"]);
    let mut admin = db.admin();
    for target in ["'1'", "'2'", "NULL"] {
        run(&mut admin, &format!("SELECT tenant_migrate('{early}', {target})"));
        assert_none(&db, target);
    }
    run(&mut admin, "SELECT * FROM tenant_migrate_all()");
    run(&mut admin, &format!("SELECT tenant_repair('{early}')"));
    assert_none(&db, "repaired");
    run(&mut admin, &format!("SELECT tenant_clone('{early}', 'twin', with_data => true)"));
    assert_none(&db, "cloned");
    run(&mut admin, "SELECT tenant_delete(id) FROM tenant_list()");
}

fn ordinary_use_is_no_drift(db: &Db) {
    let db = Db::new(&shared_cluster(db));
    db.add_migration("1", EVERYTHING);
    let (user, mut superuser) = (new_user(), db.superuser());
    let acme = db.new_tenant("acme", user);
    let mut client = db.as_user(user);
    run(
        &mut client,
        "SELECT tenant_set_current('acme');
         INSERT INTO people (\"Full Name\") SELECT 'Ann' FROM generate_series(1, 100);
         INSERT INTO notes (body, who) SELECT 'x', id FROM people; INSERT INTO split SELECT 1, '2020-01-01';
         DELETE FROM notes WHERE id > 50; UPDATE people SET m = 'sad'",
    );
    run(&mut superuser, "SELECT setval('tenant_acme.s', 99); ANALYZE");
    run(&mut superuser, "ALTER TABLE tenant_acme.plain DROP COLUMN a, ADD COLUMN a int NOT NULL DEFAULT 1");
    assert_none(&db, "in use");
    // Granting what the defaults grant already makes the privileges explicit and changes none of them.
    run(
        &mut superuser,
        "GRANT EXECUTE ON FUNCTION tenant_acme.g(int) TO PUBLIC; GRANT USAGE ON TYPE tenant_acme.mood TO PUBLIC",
    );
    assert_none(&db, "explicit grants");
    run(&mut db.admin(), &format!("SELECT tenant_delete('{acme}')"));
}

fn names_that_need_quotes(db: &Db) {
    db.configure("fluxbase_tenant.schema_prefix", "App (x).*");
    db.add_migration(
        "1",
        r#"CREATE TABLE "My Notes" (id serial PRIMARY KEY, "The Body" text, here text DEFAULT current_schema());
           CREATE INDEX "An ""Index""" ON "My Notes" ("The Body");
           CREATE TYPE "Mood" AS ENUM ('it''s');
           CREATE FUNCTION "Do It"(m "Mood") RETURNS int LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT 1';
           CREATE VIEW "A.B" AS SELECT "The Body", 'it''s'::"Mood" IS NULL AS n FROM "My Notes" WHERE "The Body" = 'it''s';
           DO $$ BEGIN EXECUTE format('ALTER TABLE %I.%I ADD CHECK (here <> %L)', current_schema(), 'My Notes', 'in ' || current_schema()); END $$"#,
    );
    let [acme, _] = new_tenants(db, &["acme", "b-2"])[..] else { unreachable!() };
    assert_none(db, "names are quoted");
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        r#"SET search_path = "App (x).*acme"; ALTER TABLE "My Notes" DROP COLUMN here; DROP FUNCTION "Do It"("Mood")"#,
    );
    run(&mut superuser, "SET search_path = public");
    let expected = [
        r#"column "My Notes".here missing"#,
        r#"constraint "My Notes"."My Notes_here_check" missing"#,
        r#"function "Do It"("Mood") missing"#,
    ];
    assert_eq!(drift_of(&mut superuser, acme), expected);
}

/// If a table, a column or an alias has the name of a tenant schema, the definitions that PostgreSQL prints are
/// ambiguous.
fn names_that_are_also_schema_names(db: &Db) {
    db.configure("fluxbase_tenant.schema_prefix", "");
    db.add_migration(
        "1",
        "CREATE TABLE notes (id serial PRIMARY KEY, body text, parent int REFERENCES notes, CHECK (notes.body <> 'notes'));
         CREATE VIEW body AS SELECT notes.id, body.body FROM notes JOIN notes body ON body.id = notes.parent;
         CREATE FUNCTION id(notes) RETURNS int LANGUAGE sql AS 'SELECT $1.id'",
    );
    let tenants = new_tenants(db, &["notes", "body", "id", "fluxbase", "table"]);
    assert_none(db, "names of schemas");
    let mut superuser = db.superuser();
    for tenant in tenants {
        let schema = db.schema_of(tenant);
        run(&mut superuser, &format!("ALTER TABLE \"{schema}\".notes ALTER body SET DEFAULT 'x'"));
        assert_eq!(drift_of(&mut superuser, tenant), ["column notes.body different"], "{schema}");
    }
}

fn tenants_on_different_versions(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (id int)");
    let old = db.new_tenant("old", new_user());
    db.add_migration("2", "ALTER TABLE notes ADD COLUMN body text");
    let new = db.new_tenant("new", new_user());
    assert_none(db, "each schema agrees with its ledger");
    run(
        &mut db.superuser(),
        "ALTER TABLE tenant_old.notes ADD COLUMN body text; ALTER TABLE tenant_new.notes DROP COLUMN body",
    );
    let mut admin = db.admin();
    assert_eq!(
        drift(&mut admin, "tenant_drift()"),
        ["old: column notes.body unexpected", "new: column notes.body missing"]
    );
    assert_eq!(drift_of(&mut admin, old), ["column notes.body unexpected"]);
    assert_eq!(drift_of(&mut admin, new), ["column notes.body missing"]);
}

fn one_tenant_of_a_fleet(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (id serial PRIMARY KEY, body text); CREATE VIEW seen AS TABLE notes");
    for n in 0..30 {
        db.new_tenant(&format!("t{n}"), new_user());
    }
    assert_none(db, "thirty intact tenants");
    run(&mut db.superuser(), "CREATE INDEX mine ON tenant_t17.notes (body)");
    assert_eq!(drift(&mut db.admin(), "tenant_drift()"), ["t17: index mine unexpected"]);
}

fn rows_show_what_is_expected_and_what_is_found(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (id int NOT NULL, body text DEFAULT 'x')");
    let acme = db.new_tenant("acme", new_user());
    let owner = Db::owner_role(acme);
    run(
        &mut db.superuser(),
        &format!(
            "ALTER TABLE tenant_acme.notes ALTER body SET DEFAULT 'tenant_acme', OWNER TO postgres;
             ALTER POLICY tenant_isolation ON tenant_acme.notes USING (fluxbase_tenant.accessible('{acme}') OR true);
             GRANT SELECT (id) ON tenant_acme.notes TO app_user WITH GRANT OPTION"
        ),
    );
    let rows = db.admin().query("SELECT tenant_id, object, expected, found FROM tenant_drift($1)", &[&acme]).unwrap();
    let texts =
        |row: &postgres::Row| -> [String; 3] { [1, 2, 3].map(|i| row.get::<_, Option<String>>(i).unwrap_or_default()) };
    let found: Vec<[String; 3]> = rows.iter().map(texts).collect();
    assert!(rows.iter().all(|row| row.get::<_, Uuid>(0) == acme));
    let expected = [
        ["column notes.body", "text DEFAULT 'x'::text", "text DEFAULT 'tenant_acme'::text"],
        ["grant on column notes.id to app_user", "", "SELECT WITH GRANT OPTION"],
        ["owner of table notes", &owner, "postgres"],
        [
            "policy notes.tenant_isolation",
            &format!("RESTRICTIVE FOR ALL TO PUBLIC USING (fluxbase_tenant.accessible('{acme}'::uuid))"),
            &format!("RESTRICTIVE FOR ALL TO PUBLIC USING ((fluxbase_tenant.accessible('{acme}'::uuid) OR true))"),
        ],
    ];
    assert_eq!(found, expected);
}

fn missing_schema(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (id serial PRIMARY KEY)");
    let [acme, _] = new_tenants(db, &["acme", "other"])[..] else { unreachable!() };
    run(&mut db.superuser(), "SET client_min_messages = error; DROP SCHEMA tenant_acme CASCADE");
    assert_eq!(drift(&mut db.admin(), "tenant_drift()"), ["acme: schema tenant_acme missing"]);
    // An empty schema in its place is drift too.
    run(&mut db.superuser(), "CREATE SCHEMA tenant_acme");
    let expected = [
        format!("default privileges of {} on tables missing", Db::owner_role(acme)),
        "grant on schema tenant_acme to fluxbase_tenant_user missing".into(),
        "owner of schema tenant_acme different".into(),
        "table notes missing".into(),
    ];
    assert_eq!(drift_of(&mut db.admin(), acme), expected);
}

/// The text that a tenant applied is not kept. So the objects of this migration are not compared, and all others are.
fn changed_repeatable_migration(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (id int, body text)");
    db.add_migration("R__a", "CREATE OR REPLACE FUNCTION a() RETURNS int LANGUAGE sql AS 'SELECT 1'");
    db.add_migration("R__b", "CREATE OR REPLACE VIEW b AS SELECT id, a() FROM notes");
    let acme = db.new_tenant("acme", new_user());
    assert_none(db, "as registered");
    db.add_migration("R__a", "CREATE OR REPLACE FUNCTION a() RETURNS int LANGUAGE sql AS 'SELECT 2'");
    assert_eq!(drift(&mut db.admin(), "tenant_drift()"), [r#"acme: migration "R__a" different"#]);
    run(
        &mut db.superuser(),
        "CREATE OR REPLACE FUNCTION tenant_acme.a() RETURNS int LANGUAGE sql AS 'SELECT 3';
         CREATE OR REPLACE VIEW tenant_acme.b AS SELECT id, 0 AS a FROM tenant_acme.notes",
    );
    assert_eq!(drift_of(&mut db.admin(), acme), [r#"migration "R__a" different"#, "view b different"]);
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{acme}')"));
    assert_eq!(drift_of(&mut db.admin(), acme), ["view b different"]);
}

fn unfinished_migration(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (id int)");
    let acme = db.new_tenant("acme", new_user());
    let add = "SELECT version FROM tenant_migration_add('2', 'two', $1, transactional => false)";
    let script = "CREATE INDEX done ON notes (id); SELECT 1 / 0";
    one::<String>(&mut db.admin(), add, &[&script]);
    run(&mut db.admin(), "SELECT * FROM tenant_migrate_all()");
    let mut admin = db.admin();
    assert_eq!(drift_of(&mut admin, acme), [r#"migration "2" unfinished"#, "index done unexpected"]);
    let row = admin.query_one("SELECT expected, found FROM tenant_drift() WHERE problem = 'unfinished'", &[]).unwrap();
    assert_eq!([row.get::<_, &str>(0), row.get(1)], ["2 statements done", "1 statements done"]);
}

fn deleted_and_suspended_tenants(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (id int)");
    let [gone, away] = new_tenants(db, &["gone", "away"])[..] else { unreachable!() };
    run(&mut db.superuser(), "DROP TABLE tenant_gone.notes, tenant_away.notes");
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{gone}'), tenant_suspend('{away}')"));
    assert_eq!(drift(&mut db.admin(), "tenant_drift()"), ["away: table notes missing"]);
    assert_eq!(drift_of(&mut db.admin(), gone), ["table notes missing"]);
}

fn drift_is_for_instance_admins(db: &Db) {
    let (user, instance_admin) = (new_user(), new_user());
    let acme = db.new_tenant("acme", user);
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{instance_admin}')"));
    for call in ["tenant_drift()".to_string(), format!("tenant_drift('{acme}')")] {
        let ask = format!("SELECT * FROM {call}");
        for mut client in [db.as_user(user), db.as_service(acme)] {
            expect_refusal(client.query(&ask, &[]), "forbidden");
        }
        for mut client in [db.server(), db.user_role()] {
            expect_refusal(client.query(&ask, &[]), "unauthenticated");
        }
        for mut client in [db.admin(), db.as_user(instance_admin)] {
            assert_eq!(client.query(&ask, &[]).unwrap().len(), 0);
        }
    }
    let none = format!("SELECT * FROM tenant_drift('{}')", Uuid::new_v4());
    expect_refusal(db.admin().query(&none, &[]), "not_found").message("tenant not found");
}
