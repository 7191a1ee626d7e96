//! A migration runs as the tenant's owner role and cannot leave the sandbox: it cannot use another role, another
//! tenant, the catalog, or a superuser's rights.

use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_error};

cases![
    objects_outside_the_schema,
    runs_as_the_owner_role,
    role_cannot_be_changed,
    other_tenants_are_not_accessible,
    catalog_is_not_accessible,
    superusers_features_are_not_available,
    session_state_cannot_be_changed,
    identity_is_the_tenants_service_context,
    functions_it_creates_gain_no_rights,
    owner_role_cannot_be_granted,
    migration_cannot_end_the_transaction,
    refusal_leaves_the_session_unchanged,
    cursors_of_the_caller,
];

const MIGRATE: &str = "SELECT * FROM tenant_migrate($1)";

/// Asserts that each script is refused, as it is and in a DO block, and leaves the session unchanged.
#[track_caller]
fn refused(db: &Db, scripts: &[&str], sqlstates: &[&str]) {
    let id: Uuid = match db.admin().query_opt("SELECT id FROM tenant_list() WHERE slug = 'acme'", &[]).unwrap() {
        Some(row) => row.get(0),
        None => db.new_tenant("acme", new_user()),
    };
    let mut admin = db.admin();
    for script in scripts {
        let quoted = format!("DO $do$ BEGIN EXECUTE $run${script}$run$; END $do$");
        for text in [script.to_string(), quoted] {
            run(&mut admin, "BEGIN");
            let add = "SELECT version FROM tenant_migration_add('77', 'bad', $1)";
            one::<String>(&mut admin, add, &[&text]);
            let result = admin.query(MIGRATE, &[&id]);
            let Err(error) = result else { panic!("{text} succeeded") };
            let code = error.code().unwrap_or_else(|| panic!("{text}: {error:?}")).code();
            assert!(sqlstates.contains(&code), "{text}: {error:?}");
            run(&mut admin, "ROLLBACK");
            assert_eq!(one::<String>(&mut admin, "SELECT current_user::text", &[]), "app_admin");
        }
    }
}

fn runs_as_the_owner_role(db: &Db) {
    db.add_migration(
        "1",
        "CREATE TABLE who AS SELECT current_user::text AS me, current_schema()::text AS schema,
         current_setting('search_path') AS path, current_setting('is_superuser') AS super",
    );
    for mut client in [db.admin(), db.superuser()] {
        let id: Uuid = one(&mut client, "SELECT id FROM tenant_create(name => 'Acme')", &[]);
        let schema = db.schema_of(id);
        let row = db.superuser().query_one(&format!("SELECT * FROM {schema}.who"), &[]).unwrap();
        let owner = Db::owner_role(id);
        let found: (&str, &str, &str) = (row.get("me"), row.get("schema"), row.get("path"));
        assert_eq!(found, (owner.as_str(), schema.as_str(), format!("{schema}, public, pg_temp").as_str()));
        let owners: Vec<String> =
            column(&mut client, "SELECT DISTINCT tableowner::text FROM pg_tables WHERE schemaname = $1", &[&schema]);
        assert_eq!(owners, [owner]);
    }
}

fn role_cannot_be_changed(db: &Db) {
    let scripts = [
        "SET ROLE postgres",
        "SET ROLE NONE",
        "SET LOCAL ROLE app_admin",
        "RESET ROLE",
        "SET SESSION AUTHORIZATION postgres",
        "SET SESSION AUTHORIZATION DEFAULT",
        "RESET SESSION AUTHORIZATION",
        "SELECT set_config('role', 'postgres', true)",
        "SELECT set_config('role', 'none', false)",
        "SELECT set_config('session_authorization', 'postgres', true)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SET role = postgres AS 'SELECT 1'; SELECT f()",
    ];
    refused(db, &scripts, &["42501"]);
}

fn other_tenants_are_not_accessible(db: &Db) {
    db.add_migration("0", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('secret')");
    let other = db.new_tenant("other", new_user());
    let owner = Db::owner_role(other);
    let scripts = [
        "SELECT * FROM tenant_other.notes",
        "INSERT INTO tenant_other.notes VALUES ('x')",
        "CREATE TABLE tenant_other.mine ()",
        "DROP TABLE tenant_other.notes",
        "DROP SCHEMA tenant_other CASCADE",
        "CREATE VIEW peek AS SELECT * FROM tenant_other.notes",
        "ALTER TABLE notes SET SCHEMA tenant_other",
        "COMMENT ON TABLE tenant_other.notes IS 'x'",
        &format!("GRANT {owner} TO CURRENT_USER"),
        &format!("REASSIGN OWNED BY {owner} TO CURRENT_USER"),
        &format!("DROP ROLE {owner}"),
        &format!("ALTER SCHEMA tenant_acme OWNER TO {owner}"),
        &format!("CREATE TABLE x (); ALTER TABLE x OWNER TO {owner}"),
    ];
    refused(db, &scripts, &["42501"]);
    assert_eq!(db.traces(other, "tenant_other"), 3);
}

fn catalog_is_not_accessible(db: &Db) {
    let scripts = [
        "SELECT * FROM fluxbase_tenant.tenants",
        "INSERT INTO fluxbase_tenant.members SELECT gen_random_uuid()",
        "UPDATE fluxbase_tenant.tenants SET name = 'x'",
        "CREATE TABLE fluxbase_tenant.mine ()",
        "DROP EXTENSION fluxbase_tenant",
        "SELECT * FROM tenant_create('b', 'B')",
        "SELECT * FROM tenant_list()",
        "SELECT * FROM tenant_get()",
        "SELECT * FROM tenant_grant_instance_admin(gen_random_uuid())",
        "SELECT * FROM tenant_migration_add('9', 'n', 'SELECT 1')",
        "SELECT * FROM tenant_set_current('acme')",
        "SELECT tenant_reset_current()",
        "SELECT fluxbase_tenant.visible_tenant_ids()",
        "CREATE OR REPLACE FUNCTION public.tenant_is_instance_admin() RETURNS bool LANGUAGE sql AS 'SELECT true'",
    ];
    refused(db, &scripts, &["42501"]);
}

fn superusers_features_are_not_available(db: &Db) {
    let scripts = [
        "CREATE ROLE mine",
        "CREATE SCHEMA mine",
        "CREATE TABLE public.mine ()",
        "CREATE EXTENSION plpgsql SCHEMA public",
        "CREATE FUNCTION f() RETURNS int LANGUAGE c AS '/lib/x.so', 'f'",
        "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION fluxbase_tenant.after_ddl()",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/never'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT pg_terminate_backend(pg_backend_pid() + 0) FROM pg_authid",
        "SELECT rolpassword FROM pg_authid",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "ALTER ROLE CURRENT_USER BYPASSRLS",
        "ALTER ROLE postgres SET work_mem = '1MB'",
        "ALTER SYSTEM SET work_mem = '1MB'",
        "SET session_replication_role = replica",
        "SET log_statement = 'none'",
        "LOAD '/lib/x.so'",
        "ALTER SCHEMA tenant_acme RENAME TO tenant_mine",
        "CREATE SERVER s FOREIGN DATA WRAPPER nothing",
        "CREATE PUBLICATION p FOR ALL TABLES",
    ];
    refused(db, &scripts, &["42501", "42710", "42704", "58P01", "25001", "0A000"]);
    assert!(!std::path::Path::new("/tmp/never").exists());
}

fn session_state_cannot_be_changed(db: &Db) {
    let restricted = [
        "CREATE TEMP TABLE t ()",
        "CREATE TEMP VIEW v AS SELECT 1",
        "SELECT 1 AS x INTO TEMP t",
        "LISTEN channel",
        "UNLISTEN *",
        "PREPARE p AS SELECT 1",
        "DEALLOCATE ALL",
        "DISCARD PLANS",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    ];
    refused(db, &restricted, &["42501", "0A000", "42P16"]);
    let only_outside = ["VACUUM", "CREATE DATABASE mine", "DISCARD ALL", "DROP DATABASE template0"];
    refused(db, &only_outside, &["25001", "42501", "0A000"]);
}

fn identity_is_the_tenants_service_context(db: &Db) {
    let other = db.new_tenant("other", new_user());
    db.add_migration(
        "1",
        &format!(
            "CREATE TABLE seen AS SELECT tenant_current_user_id() AS user_id, tenant_current_id() AS tenant_id,
             tenant_is_instance_admin() AS instance_admin, tenant_has_access('{other}') AS other,
             current_setting('fluxbase_tenant.user_id') AS setting"
        ),
    );
    let instance_admin = new_user();
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{instance_admin}')"));
    let mut client = db.as_user(instance_admin);
    run(&mut client, "SELECT tenant_set_current('other')");
    let id: Uuid = one(&mut client, "SELECT id FROM tenant_create('acme', 'Acme')", &[]);
    let row = db.superuser().query_one("SELECT * FROM tenant_acme.seen", &[]).unwrap();
    assert_eq!(row.get::<_, Option<Uuid>>("user_id"), None);
    assert_eq!(row.get::<_, Uuid>("tenant_id"), id);
    assert_eq!((row.get("instance_admin"), row.get("other"), row.get("setting")), (false, false, ""));
    // The session's own identity is restored.
    assert_eq!(one::<Uuid>(&mut client, "SELECT tenant_current_id()", &[]), other);
    assert!(one::<bool>(&mut client, "SELECT tenant_is_instance_admin()", &[]));
    let set = [
        format!("SET fluxbase_tenant.user_id = '{instance_admin}'"),
        format!("SET LOCAL fluxbase_tenant.tenant_id = '{other}'"),
        format!("SELECT set_config('fluxbase_tenant.user_id', '{instance_admin}', true)"),
        "RESET fluxbase_tenant.user_id".into(),
        "SET fluxbase_tenant.create_policy = 'authenticated'".into(),
    ];
    refused(db, &set.each_ref().map(String::as_str), &["42501"]);
}

/// Row-level security and privileges are those of the functions' owner or of the caller and never more, even if an
/// instance admin or a superuser calls the functions later.
fn functions_it_creates_gain_no_rights(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('secret')");
    db.new_tenant("victim", new_user());
    db.add_migration(
        "2",
        "CREATE FUNCTION steal() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN RETURN QUERY EXECUTE 'SELECT body FROM tenant_victim.notes'; END $$;
         CREATE FUNCTION become() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN EXECUTE 'SET ROLE postgres'; END $$",
    );
    let user = new_user();
    let id = db.new_tenant("thief", user);
    let mut client = db.as_user(user);
    run(&mut client, "SELECT tenant_set_current('thief')");
    expect_error(client.query("SELECT * FROM steal()", &[]), "42501");
    expect_error(client.query("SELECT become()", &[]), "42501");
    expect_error(db.superuser().query("SELECT * FROM tenant_thief.steal()", &[]), "42501");

    // A trigger that one migration creates runs in the sandbox again when the next migration fires it.
    db.add_migration(
        "3",
        "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN EXECUTE 'RESET ROLE'; RETURN NEW; END $$;
         CREATE TRIGGER leave BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION leave()",
    );
    db.add_migration("4", "INSERT INTO notes VALUES ('fires')");
    expect_error(db.superuser().query(MIGRATE, &[&id]), "42501");
}

fn owner_role_cannot_be_granted(db: &Db) {
    let scripts = [
        "DO $$ BEGIN EXECUTE format('GRANT %I TO app_user', current_user); END $$",
        "DO $$ BEGIN EXECUTE format('ALTER ROLE %I LOGIN', current_user); END $$",
        "DO $$ BEGIN EXECUTE format('ALTER ROLE %I RENAME TO mine', current_user); END $$",
        "GRANT fluxbase_tenant_owner TO app_user",
        "GRANT fluxbase_tenant_admin TO CURRENT_USER",
    ];
    refused(db, &scripts, &["42501", "0A000"]);
}

fn migration_cannot_end_the_transaction(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text)");
    db.add_migration("2", "DO $$ BEGIN INSERT INTO notes VALUES ('x'); COMMIT; END $$");
    let id = Uuid::new_v4();
    let create = "SELECT * FROM tenant_create('acme', 'Acme', id => $1)";
    expect_error(db.admin().query(create, &[&id]), "2D000").context_has("migration version \"2\"");
    assert_eq!(db.traces(id, "tenant_acme"), 0);
}

fn refusal_leaves_the_session_unchanged(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    db.add_migration("1", "SET ROLE postgres");
    let mut admin = db.admin();
    for _ in 0..3 {
        expect_error(admin.query(MIGRATE, &[&id]), "42501");
        run(&mut admin, "SET ROLE app_admin; RESET ROLE; CREATE TEMP TABLE t (); DROP TABLE t");
        run(&mut admin, "LISTEN channel; UNLISTEN *");
        assert!(one::<bool>(&mut admin, "SELECT tenant_is_instance_admin()", &[]));
    }
}

/// A migration can name the caller's cursors, whose rows belong to the caller.
fn cursors_of_the_caller(db: &Db) {
    let acme = db.new_tenant("acme", new_user());
    let mut superuser = db.superuser();
    run(&mut superuser, "CREATE TABLE secrets (n int); INSERT INTO secrets VALUES (1), (2), (3)");
    for (version, command, refusal) in [
        ("1", "EXECUTE 'FETCH report'", "55000"),
        ("2", "EXECUTE 'MOVE report'", "55000"),
        ("3", "CLOSE c", "24000"),
        ("4", "FETCH c INTO r", "55000"),
        ("5", "EXECUTE 'FETCH held'", "55000"),
    ] {
        db.add_migration(
            version,
            &format!("DO $d$ DECLARE c refcursor := 'report'; r record; BEGIN {command}; END $d$"),
        );
        let mut caller = db.superuser();
        run(
            &mut caller,
            "BEGIN; DECLARE held CURSOR WITH HOLD FOR SELECT n FROM secrets; COMMIT;
             BEGIN; DECLARE report CURSOR FOR SELECT n FROM secrets; SAVEPOINT s",
        );
        let migrate = format!("SELECT tenant_migrate('{acme}')");
        expect_error(caller.batch_execute(&migrate), refusal);
        run(&mut caller, "ROLLBACK TO s");
        for cursor in ["report", "held"] {
            assert_eq!(column::<i32>(&mut caller, &format!("FETCH ALL FROM {cursor}"), &[]), [1, 2, 3], "{command}");
        }
        run(&mut caller, &format!("SELECT tenant_migration_remove('{version}')"));
        run(&mut caller, "COMMIT");
    }
    // The caller's loop continues from one migration to the next.
    db.add_migration("6", "DO $d$ DECLARE c CURSOR FOR SELECT 1; BEGIN OPEN c; CLOSE c; END $d$");
    run(
        &mut superuser,
        "DO $d$ DECLARE t uuid; BEGIN FOR t IN SELECT id FROM tenant_list() LOOP PERFORM tenant_migrate(t); END LOOP; END $d$",
    );
}

/// Such objects would be dropped with the tenant, and with them the objects of other tenants that depend on them.
fn objects_outside_the_schema(db: &Db) {
    let tenant = db.new_tenant("acme", new_user());
    let owner = Db::owner_role(tenant);
    run(
        &mut db.superuser(),
        &format!(
            "GRANT CREATE ON DATABASE {} TO \"{owner}\"; CREATE SCHEMA common; GRANT CREATE, USAGE ON SCHEMA common TO \"{owner}\"",
            db.name()
        ),
    );
    for (number, script) in [
        "CREATE DOMAIN common.email AS text",
        "CREATE TYPE common.state AS ENUM ('a')",
        "CREATE FUNCTION common.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA mine",
        "CREATE TYPE state AS ENUM ('a'); ALTER TYPE state SET SCHEMA common",
        "CREATE TABLE common.t (i int)",
    ]
    .iter()
    .enumerate()
    {
        let version = (number + 1).to_string();
        db.add_migration(&version, script);
        expect_error(db.admin().query("SELECT tenant_migrate($1)", &[&tenant]), "42501");
        run(&mut db.admin(), &format!("SELECT tenant_migration_remove('{version}')"));
    }
    db.add_migration("1", "CREATE DOMAIN email AS text; CREATE TYPE state AS ENUM ('a'); CREATE SEQUENCE s");
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{tenant}')"));
}
