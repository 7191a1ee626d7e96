//! External dependents of a tenant do not prevent its deletion, and only objects that depend on the tenant are dropped.

use crate::cases;
use crate::support::Db;
use crate::support::fleet::until;
use crate::support::people::{column, one, run};
use crate::support::scene::Scene;

cases![
    chains_of_views,
    views_of_many_columns,
    columns_of_wide_tables,
    views_in_an_extension,
    objects_that_no_longer_depend_on_the_tenant,
    objects_that_the_server_cannot_drop,
    objects_in_an_extension_that_depend_on_each_other,
    sequences_locked_by_another_session,
];

/// A chain of a member's views, each of which selects from the previous one. DROP SCHEMA recurses into the chain, and
/// fails if it is too deep.
fn chains_of_views(db: &Db) {
    let scene = Scene::set(db);
    let member = "SELECT tenant_add_member('{}', '{}')".replacen("{}", &scene.victim.to_string(), 1);
    run(&mut db.admin(), &member.replace("{}", &scene.crook.to_string()));
    db.add_migration("2", "CREATE FUNCTION doubled(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 2'");
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
    let mut thief = scene.thief();
    run(
        &mut thief,
        "CREATE VIEW lair.v0 AS SELECT id FROM tenant_victim.notes;
         CREATE VIEW lair.circle AS SELECT id FROM tenant_victim.notes;
         CREATE FUNCTION lair.f(lair.circle) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
         CREATE OR REPLACE VIEW lair.circle AS SELECT id, lair.f(NULL) AS f FROM tenant_victim.notes;
         CREATE TABLE lair.parted (i int) PARTITION BY RANGE (i);
         CREATE TABLE lair.part PARTITION OF lair.parted DEFAULT;
         CREATE INDEX ON lair.parted (tenant_victim.doubled(i));
         CREATE TABLE lair.kept (n int DEFAULT length('tenant_victim.notes'::regclass::text), row tenant_victim.notes);
         CREATE VIEW lair.on_kept AS SELECT n FROM lair.kept;
         INSERT INTO lair.kept VALUES (1)",
    );
    run(
        &mut thief,
        "DO $$ BEGIN FOR i IN 1..600 LOOP
             EXECUTE format('CREATE VIEW lair.v%s AS SELECT a.id FROM lair.v%s a JOIN tenant_victim.notes USING (id)', i, i - 1);
         END LOOP; END $$",
    );
    let deleted: String = one(&mut db.admin(), "SELECT slug FROM tenant_delete($1)", &[&scene.victim]);
    assert_eq!(deleted, "victim");
    for sql in ["SELECT count(*) FROM tenant_victim.notes", "SELECT count(*) FROM lair.v0"] {
        let seen = scene.thief().query_one(sql, &[]).map_or(0, |row| row.get::<_, i64>(0));
        assert_eq!(seen, 0, "{sql}");
    }
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'tenant_victim'";
    until("the schema is dropped", || one::<i64>(&mut db.superuser(), left, &[]) == 0);
    until("the role is dropped", || db.traces(scene.victim, "tenant_victim") == 0);
    let views: Vec<String> = column(
        &mut db.superuser(),
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'lair'::regnamespace",
        &[],
    );
    assert_eq!(views.iter().filter(|name| name.starts_with('v')).count(), 0);
    // Only dependents are dropped: the table has lost its column, and kept its rows and the objects that depend on it.
    run(&mut scene.thief(), "INSERT INTO lair.parted VALUES (1)");
    assert_eq!(one::<i32>(&mut db.superuser(), "SELECT n FROM lair.on_kept", &[]), 1);
    let reported = "SELECT count(*) FROM tenant_check() WHERE problem LIKE '%deleted tenants remain%'";
    assert_eq!(one::<i64>(&mut db.superuser(), reported, &[]), 0);
}

/// A view has a dependency for each column that it names. Finding the dependents of a tenant must read about as many
/// rows of pg_depend as dropping them does.
fn views_of_many_columns(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut scene.thief(),
        "DO $$ DECLARE
             columns text := (SELECT string_agg('c' || n, ',') FROM generate_series(1, 1500) n);
             sum text := (SELECT string_agg(part, ',') FROM (
                 SELECT 'num_nonnulls(' || string_agg('c' || n, ',') || ')' AS part FROM generate_series(1, 1500) n GROUP BY n / 90) p);
         BEGIN
             EXECUTE 'CREATE VIEW lair.wide AS SELECT ' || regexp_replace(columns, 'c', 'id AS c', 'g') || ' FROM tenant_thief.notes';
             FOR i IN 1..5 LOOP
                 EXECUTE format('CREATE VIEW lair.v%s AS SELECT 1 AS one FROM lair.wide WHERE num_nonnulls(%s) > 0', i, sum);
             END LOOP;
         END $$",
    );
    let read = |sql: &str| -> i64 {
        let mut client = db.superuser();
        let counted = "SELECT idx_tup_fetch FROM pg_stat_xact_sys_tables WHERE relname = 'pg_depend'";
        run(&mut client, "SET client_min_messages = error; BEGIN");
        let before: i64 = one(&mut client, counted, &[]);
        run(&mut client, sql);
        let rows = one::<i64>(&mut client, counted, &[]) - before;
        run(&mut client, "ROLLBACK");
        rows
    };
    let dropped = read("DROP SCHEMA tenant_thief CASCADE");
    let deleted = read(&format!("SELECT tenant_delete('{}')", scene.thief));
    assert!(dropped > 1500 && deleted < dropped * 5, "{deleted} rows to delete, {dropped} to drop");
}

/// DROP ... CASCADE does not drop a member object of an extension, and any role that can create an extension can add
/// its own objects to it. The extension is in use elsewhere, so it must survive.
fn views_in_an_extension(db: &Db) {
    let scene = Scene::set(db);
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{}', '{}')", scene.victim, scene.crook));
    run(&mut db.superuser(), &format!("GRANT CREATE ON DATABASE {} TO {}", db.name(), scene.role));
    run(
        &mut scene.thief(),
        "CREATE EXTENSION pg_trgm SCHEMA lair; CREATE VIEW lair.v AS SELECT id FROM tenant_victim.notes;
         CREATE VIEW lair.w AS SELECT id FROM tenant_victim.notes;
         ALTER EXTENSION pg_trgm ADD VIEW lair.v; ALTER EXTENSION pg_trgm ADD TYPE lair.w",
    );
    run(&mut db.admin(), &format!("SELECT tenant_delete('{}')", scene.victim));
    until("the tenant is removed", || db.traces(scene.victim, "tenant_victim") == 0);
    assert!(one::<bool>(&mut db.superuser(), "SELECT lair.similarity('word', 'word') = 1", &[]));
    let views = "SELECT count(*) FROM pg_class WHERE relnamespace = 'lair'::regnamespace AND relkind = 'v'";
    assert_eq!(one::<i64>(&mut db.superuser(), views, &[]), 0);
}

/// While the worker waits for one table, the owner of another table changes its column to a type outside the tenant.
fn objects_that_no_longer_depend_on_the_tenant(db: &Db) {
    let scene = Scene::set(db);
    db.add_migration("2", "CREATE TYPE mood AS ENUM ('good', 'bad')");
    run(
        &mut db.admin(),
        &format!("SELECT tenant_migrate('{0}'), tenant_add_member('{0}', '{1}')", scene.victim, scene.crook),
    );
    run(&mut db.superuser(), "CREATE TABLE kept (id int, c tenant_victim.mood); INSERT INTO kept VALUES (1, 'good')");
    let columns: Vec<String> = (0..510).map(|n| format!("c{n} tenant_victim.mood")).collect();
    run(&mut scene.thief(), &format!("CREATE TABLE lair.wide ({})", columns.join(", ")));
    let mut holder = scene.thief();
    run(&mut holder, "BEGIN; LOCK TABLE lair.wide");
    run(&mut db.admin(), &format!("SELECT tenant_delete('{}')", scene.victim));
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'lair.wide'::regclass AND NOT granted)";
    until("the worker waits for the lock", || one::<bool>(&mut db.superuser(), waits, &[]));
    run(&mut db.superuser(), "ALTER TABLE kept ALTER c TYPE text");
    run(&mut holder, "COMMIT");
    until("the tenant is removed", || db.traces(scene.victim, "tenant_victim") == 0);
    assert_eq!(one::<String>(&mut db.superuser(), "SELECT c FROM kept", &[]), "good");
    let left =
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'lair.wide'::regclass AND attnum > 0 AND NOT attisdropped";
    assert_eq!(one::<i64>(&mut db.superuser(), left, &[]), 0);
}

/// The object remains, and with it the tenant's schema. The tenant is deleted all the same, and no caller can access
/// what remains.
fn objects_that_the_server_cannot_drop(db: &Db) {
    let scene = Scene::set(db);
    db.add_migration("2", "CREATE FUNCTION one(anyelement) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1'");
    run(
        &mut db.admin(),
        &format!("SELECT tenant_migrate('{0}'), tenant_add_member('{0}', '{1}')", scene.victim, scene.crook),
    );
    run(
        &mut scene.thief(),
        "CREATE TYPE lair.mood AS ENUM ('a');
         CREATE FUNCTION lair.one(lair.mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
         CREATE CAST (lair.mood AS int) WITH FUNCTION lair.one(lair.mood) AS ASSIGNMENT;
         CREATE TABLE lair.p (a int, b lair.mood, c int GENERATED ALWAYS AS (b) STORED) PARTITION BY LIST (a);
         DROP CAST (lair.mood AS int);
         CREATE CAST (lair.mood AS int) WITH FUNCTION tenant_victim.one(anyelement) AS ASSIGNMENT;
         CREATE TABLE lair.p1 (a int, b lair.mood, c int GENERATED ALWAYS AS (b) STORED);
         ALTER TABLE lair.p ATTACH PARTITION lair.p1 FOR VALUES IN (1);
         CREATE INDEX i ON lair.p (c)",
    );
    run(&mut db.admin(), &format!("SELECT tenant_delete('{}')", scene.victim));
    let remaining = "SELECT count(*) FROM fluxbase_tenant.tenants WHERE slug = 'victim'";
    assert_eq!(one::<i64>(&mut db.superuser(), remaining, &[]), 0);
    for mut client in [scene.thief(), scene.owner()] {
        let seen =
            client.query_one("SELECT count(*) FROM tenant_victim.notes", &[]).map_or(0, |row| row.get::<_, i64>(0));
        assert_eq!(seen, 0);
    }
    run(&mut scene.thief(), "DROP TABLE lair.p; DROP CAST IF EXISTS (lair.mood AS int)");
    run(&mut db.admin(), "SELECT tenant_purge('1 day')");
    until("the tenant is removed", || db.traces(scene.victim, "tenant_victim") == 0);
}

/// The extension is in use elsewhere, so it must survive, even if dropping one of its member objects also drops another
/// one.
fn objects_in_an_extension_that_depend_on_each_other(db: &Db) {
    let scene = Scene::set(db);
    db.add_migration("2", "CREATE DOMAIN number AS int");
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{}', '{}')", scene.victim, scene.crook));
    run(&mut db.superuser(), "CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw");
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.parted (n tenant_victim.number, i int) PARTITION BY LIST (n);
         CREATE VIEW lair.a AS SELECT 1 AS n FROM tenant_victim.notes;
         CREATE VIEW lair.b AS SELECT n FROM lair.a;
         CREATE OR REPLACE VIEW lair.a AS SELECT 1 AS n FROM tenant_victim.notes, lair.b",
    );
    for object in ["TABLE lair.parted", "VIEW lair.b"] {
        run(&mut db.superuser(), &format!("ALTER EXTENSION postgres_fdw ADD {object}"));
    }
    one::<String>(&mut db.admin(), "SELECT slug FROM tenant_delete($1)", &[&scene.victim]);
    until("the role is dropped", || db.traces(scene.victim, "tenant_victim") == 0);
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM pg_foreign_server", &[]), 1);
    let left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'lair'::regnamespace AND relname IN ('a', 'b')";
    assert_eq!(one::<i64>(&mut db.superuser(), left, &[]), 0);
}

/// nextval() by OID locks the sequence before it checks the privilege.
fn sequences_locked_by_another_session(db: &Db) {
    let scene = Scene::set(db);
    let number: u32 = one(&mut db.superuser(), "SELECT 'tenant_victim.notes_id_seq'::regclass::oid", &[]);
    let mut thief = scene.thief();
    run(&mut thief, "BEGIN; SAVEPOINT s");
    let locked = format!(
        "DO $$ BEGIN PERFORM nextval({number}::regclass); EXCEPTION WHEN insufficient_privilege THEN NULL; END $$"
    );
    run(&mut thief, &locked);
    let deleted: String = one(&mut db.admin(), "SELECT slug FROM tenant_delete($1)", &[&scene.victim]);
    assert_eq!(deleted, "victim");
    assert_eq!(one::<i64>(&mut db.admin(), "SELECT count(*) FROM tenant_list() WHERE slug = 'victim'", &[]), 0);
    run(&mut thief, "ROLLBACK");
    until("the schema is dropped", || db.traces(scene.victim, "tenant_victim") == 0);
}

/// Each column of the tenant's row type depends on the tenant. The worker must not read all columns of a table for
/// each.
fn columns_of_wide_tables(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut scene.thief(),
        "DO $$ BEGIN FOR i IN 1..4 LOOP
             EXECUTE format('CREATE TABLE lair.t%s (kept int, %s)', i,
                            (SELECT string_agg('c' || n || ' tenant_thief.notes', ',') FROM generate_series(1, 1500) n));
         END LOOP; END $$",
    );
    run(&mut db.admin(), &format!("SELECT tenant_delete('{}')", scene.thief));
    until("the tenant is gone", || db.traces(scene.thief, "tenant_thief") == 0);
    let columns =
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'lair.t1'::regclass AND attnum > 0 AND NOT attisdropped";
    assert_eq!(one::<i64>(&mut db.superuser(), columns, &[]), 1);
}
