//! Nontransactional commands can access no more than transactional ones, and leave nothing behind for the worker's next
//! tenant.

use postgres::Client;

use crate::cases;
use crate::support::people::{column, one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    tables_and_indexes_of_other_roles,
    maintenance_of_other_roles_tables,
    names_that_hide_the_workers,
    session_state_left_by_a_script,
    commands_refused_in_migrations,
    transaction_control_in_blocks_and_procedures,
];

/// Returns the catalog state of relations that are not the thief's: OID, name, file, number of columns, index validity.
fn other_roles_relations(client: &mut Client) -> Vec<String> {
    let sql = "SELECT format('%s %s %s %s %s', c.oid, c.relname, c.relfilenode, c.relnatts, i.indisvalid)
               FROM pg_class c LEFT JOIN pg_index i ON i.indexrelid = c.oid
               WHERE c.relnamespace::regnamespace::text IN ('tenant_victim', 'fluxbase_tenant', 'public') OR c.relisshared
               ORDER BY 1";
    column(client, sql, &[])
}

fn tables_and_indexes_of_other_roles(db: &Db) {
    let scene = Scene::set(db);
    let more = "CREATE INDEX body_idx ON notes (body); CREATE TABLE parts (n int) PARTITION BY LIST (n);
                CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1)";
    db.add_migration("2", more);
    db.migrate_all("");
    let mut superuser = db.superuser();
    let before = other_roles_relations(&mut superuser);
    for statement in [
        "DROP INDEX CONCURRENTLY {}.body_idx",
        "CREATE INDEX CONCURRENTLY mine_idx ON {}.notes (body)",
        "REINDEX INDEX {}.body_idx",
        "REINDEX INDEX CONCURRENTLY {}.body_idx",
        "REINDEX TABLE CONCURRENTLY {}.notes",
        "REINDEX SCHEMA {}",
        "CLUSTER {}.notes USING body_idx",
        "ALTER TABLE {}.parts DETACH PARTITION {}.part1 CONCURRENTLY",
    ] {
        let abroad = scene.run_nontransactional(&statement.replace("{}", "tenant_victim"));
        assert_eq!(abroad, "failed 0 42501", "{statement}");
    }
    assert_eq!(other_roles_relations(&mut superuser), before);
    for statement in [
        "REINDEX INDEX CONCURRENTLY {}.body_idx",
        "CLUSTER {}.notes USING body_idx",
        "DROP INDEX CONCURRENTLY {}.body_idx",
        "ALTER TABLE {}.parts DETACH PARTITION {}.part1 CONCURRENTLY",
    ] {
        assert_eq!(scene.run_nontransactional(&statement.replace("{}", "tenant_thief")), "migrated 1", "{statement}");
    }
    assert_eq!(other_roles_relations(&mut superuser), before);
    scene.victim_is_unharmed();
}

/// VACUUM skips relations without permission and warns. REINDEX fails.
fn maintenance_of_other_roles_tables(db: &Db) {
    let scene = Scene::set(db);
    let mut superuser = db.superuser();
    let before = other_roles_relations(&mut superuser);
    for statement in ["VACUUM (FULL, ANALYZE)", "VACUUM (FULL) pg_class, pg_authid, fluxbase_tenant.tenants", "CLUSTER"]
    {
        assert_eq!(scene.run_nontransactional(statement), "migrated 1", "{statement}");
        assert_eq!(other_roles_relations(&mut superuser), before, "{statement}");
    }
    let name = db.name();
    for statement in [
        "VACUUM (FULL) tenant_victim.notes",
        "REINDEX SYSTEM {}",
        "REINDEX DATABASE {}",
        "REINDEX TABLE pg_class",
        "REINDEX TABLE pg_authid",
    ] {
        assert_eq!(scene.run_nontransactional(&statement.replace("{}", name)), "failed 0 42501", "{statement}");
        assert_eq!(other_roles_relations(&mut superuser), before, "{statement}");
    }
    scene.victim_is_unharmed();
}

/// Between the statements the worker runs with the tenant's search_path.
fn names_that_hide_the_workers(db: &Db) {
    let scene = Scene::set(db);
    let spy = "CREATE TABLE seen (who text); CREATE FUNCTION spy() RETURNS boolean LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO tenant_thief.seen VALUES (current_user); RETURN true; END $$;
        CREATE FUNCTION format(text, text) RETURNS text LANGUAGE sql AS 'SELECT $1 FROM tenant_thief.spy()';
        CREATE FUNCTION format(text, name, name) RETURNS text LANGUAGE sql AS 'SELECT $1 FROM tenant_thief.spy()';
        CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql AS 'SELECT pg_catalog.now() FROM tenant_thief.spy()';
        CREATE FUNCTION set_config(text, text, boolean) RETURNS text LANGUAGE sql AS 'SELECT $1 FROM tenant_thief.spy()';
        CREATE FUNCTION same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT tenant_thief.spy()';
        CREATE FUNCTION same(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT tenant_thief.spy()';
        CREATE OPERATOR = (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = same);
        CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = same);
        CREATE TABLE tenants (id uuid); CREATE TABLE pg_class (oid oid); CREATE TABLE pg_index (indexrelid oid);
        CREATE TABLE unfinished_migrations (tenant_id uuid); CREATE TABLE bait (n int); INSERT INTO bait VALUES (1), (1);";
    // The script fails midway, so that the code for errors and invalid indexes runs with that path as well.
    let script = format!(
        "{spy} SET search_path = tenant_thief, pg_catalog; CREATE INDEX CONCURRENTLY n_idx ON bait (n);
         CREATE UNIQUE INDEX CONCURRENTLY one_idx ON bait (n); VACUUM bait"
    );
    db.add_nontransactional("2", &script);
    assert_eq!(db.migrate_all("tenants => '{thief}', parallel => 1"), ["thief failed 0 23505"]);
    run(&mut db.superuser(), "DELETE FROM tenant_thief.bait");
    assert_eq!(db.migrate_all("tenants => '{thief}', parallel => 1"), ["thief migrated 1"]);
    let sql = "SELECT count(*) FROM tenant_thief.seen";
    assert_eq!(one::<i64>(&mut db.superuser(), sql, &[]), 0);
    run(&mut scene.thief(), "SELECT tenant_thief.spy()");
    assert_eq!(one::<i64>(&mut db.superuser(), sql, &[]), 1);
}

/// One worker visits many tenants, one after the other.
fn session_state_left_by_a_script(db: &Db) {
    let scene = Scene::set(db);
    for statement in [
        "CREATE TEMP TABLE t (n int)",
        "LISTEN x",
        "PREPARE p AS SELECT 1",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "DECLARE c CURSOR FOR SELECT 1; FETCH c",
        "SET session_replication_role = replica",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "DISCARD ALL",
        "LOAD 'auto_explain'",
    ] {
        let result = scene.run_nontransactional(statement);
        assert!(result.starts_with("failed 0 "), "{statement}: {result}");
    }
    let left = "CREATE TABLE left_behind AS SELECT
        (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
            (SELECT oid FROM pg_database WHERE datname = current_database()))
        + (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) FROM pg_cursors)
        + (SELECT count(*) FROM pg_listening_channels()) + (SELECT count(*) FROM pg_class WHERE relpersistence = 't') AS n,
        coalesce(current_setting('mine.own', true), '') AS own";
    // One worker visits both tenants, with a nontransactional and then with a transactional migration.
    for (version, transactional) in [("2", "false"), ("3", "true")] {
        let script = format!(
            "{} ; SELECT pg_advisory_lock(42), pg_advisory_lock_shared(43); SET mine.own = 'kept'; SELECT setseed(0)",
            left.replace("left_behind", &format!("left_behind{version}"))
        );
        let add = format!("SELECT tenant_migration_add('{version}', 'x', $1, transactional => {transactional})");
        db.admin().query(&add, &[&script]).unwrap();
        let result = db.migrate_all("parallel => 1");
        assert_eq!(result, ["thief migrated 1", "victim migrated 1"]);
        for slug in ["victim", "thief"] {
            let sql = format!("SELECT n || own FROM tenant_{slug}.left_behind{version}");
            assert_eq!(one::<String>(&mut db.superuser(), &sql, &[]), "0", "{slug}, {version}");
        }
    }
    db.assert_all_is_done();
}

fn commands_refused_in_migrations(db: &Db) {
    let scene = Scene::set(db);
    for statement in [
        "CREATE DATABASE mine",
        "DROP DATABASE template0",
        "ALTER SYSTEM SET work_mem = '1MB'",
        "CREATE TABLESPACE t LOCATION '/tmp'",
        "CREATE SUBSCRIPTION s CONNECTION 'dbname=x' PUBLICATION p",
        "DROP SUBSCRIPTION s",
        "ALTER DATABASE template0 SET TABLESPACE pg_default",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "CHECKPOINT",
        "SELECT tenant_delete(id) FROM tenant_list()",
        "SELECT * FROM tenant_migrate_all()",
    ] {
        let result = scene.run_nontransactional(statement);
        assert!(result.starts_with("failed 0 "), "{statement}: {result}");
        let result =
            scene.run_nontransactional(&format!("VACUUM notes; DO $do$ BEGIN EXECUTE $x${statement}$x$; END $do$"));
        assert!(result.starts_with("failed 0 "), "{statement}: {result}");
    }
    let id = scene.thief;
    expect_error(db.admin().query("SELECT * FROM tenant_migrate($1, '77')", &[&id]), "22023");
    scene.victim_is_unharmed();
}

fn transaction_control_in_blocks_and_procedures(db: &Db) {
    let scene = Scene::set(db);
    db.migrate(
        scene.thief,
        "CREATE TABLE log (n int, who text);
         CREATE PROCEDURE ends() LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO log VALUES (1, current_user); COMMIT; INSERT INTO log VALUES (2, current_user); END $$;
         CREATE PROCEDURE gives_up() LANGUAGE plpgsql AS $$ BEGIN ROLLBACK; INSERT INTO log VALUES (3, current_user); END $$;
         CREATE PROCEDURE plain() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (4, current_user); END $$",
    );
    for statement in [
        "CALL ends()",
        "CALL gives_up()",
        "DO $$ BEGIN CALL tenant_thief.ends(); END $$",
        "DO $$ BEGIN INSERT INTO log VALUES (5, current_user); COMMIT; END $$",
        "DO $$ BEGIN ROLLBACK; END $$",
        "DO $$ BEGIN EXECUTE 'COMMIT'; END $$",
        "CREATE INDEX CONCURRENTLY ON notes (body); CALL ends()",
    ] {
        let result = scene.run_nontransactional(statement);
        assert!(["failed 0 2D000", "failed 0 0A000"].contains(&result.as_str()), "{statement}: {result}");
    }
    assert_eq!(scene.run_nontransactional("CALL plain(); VACUUM notes; CALL plain()"), "migrated 1");
    let logged: Vec<String> = column(&mut db.superuser(), "SELECT concat_ws(' ', n, who) FROM tenant_thief.log", &[]);
    let line = format!("4 {}", Db::owner_role(scene.thief));
    assert_eq!(logged, [line.clone(), line]);
    scene.victim_is_unharmed();
}
