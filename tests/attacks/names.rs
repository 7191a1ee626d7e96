//! Names in another tenant's schema are refused before the object is locked, a privilege is checked, or a function is
//! called.

use crate::cases;
use crate::support::people::{one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    functions_and_types_by_name,
    relations_by_name,
    names_on_the_search_path,
    functions_that_check_only_the_privilege,
    triggers_made_by_a_former_member,
    inlined_functions,
    definer_functions_before_the_library_is_loaded,
    extensions_into_a_tenants_schema,
    oid_constants,
    schemas_locked_by_name,
    oid_constants_in_an_older_snapshot,
];

const CODE: &str = "CREATE TYPE mood AS ENUM ('sad', 'ok');
     CREATE DOMAIN digit AS int CHECK (VALUE BETWEEN 0 AND 9);
     CREATE FUNCTION own_row() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN RETURN NEW; END $f$;
     CREATE FUNCTION rotate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
     $f$ BEGIN DELETE FROM notes; RETURN NEW; END $f$;
     CREATE FUNCTION distance(a int, b int) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN a - b; END $f$;
     CREATE FUNCTION same(a int, b int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN a = b; END $f$;
     CREATE FUNCTION price() RETURNS text LANGUAGE sql STABLE AS $f$ SELECT 'ran as ' || current_user $f$;
     CREATE FUNCTION prices() RETURNS TABLE (p text) LANGUAGE sql STABLE AS $f$ SELECT 'ran as ' || current_user $f$;
     CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS
     $f$ SELECT count(*) FROM notes $f$;
     CREATE FUNCTION by_path() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS
     $f$ BEGIN RETURN (SELECT count(*) FROM notes); END $f$;
     CREATE SEQUENCE numbers; CREATE VIEW bodies AS SELECT body FROM notes;
     CREATE AGGREGATE product(int) (SFUNC = int4mul, STYPE = int, INITCOND = '1');
     CREATE OPERATOR === (FUNCTION = same, LEFTARG = int, RIGHTARG = int);
     CREATE COLLATION mine FROM \"C\"; CREATE TEXT SEARCH CONFIGURATION words (COPY = simple)";

fn world(db: &Db) -> Scene<'_> {
    let scene = Scene::set(db);
    db.add_migration("2", CODE);
    for tenant in [scene.victim, scene.thief] {
        run(&mut db.admin(), &format!("SELECT tenant_migrate('{tenant}')"));
    }
    scene
}

fn functions_and_types_by_name(db: &Db) {
    let scene = world(db);
    for statement in [
        "SELECT {}.price()",
        "SELECT * FROM {}.prices()",
        "SELECT {}.counted()",
        "SELECT {}.product(1)",
        "SELECT 1 OPERATOR({}.===) 1",
        "SELECT 'ok'::{}.mood",
        "SELECT 1::{}.digit",
        "SELECT NULL::{}.notes",
        "SELECT 'a' COLLATE {}.mine",
        "SELECT to_tsvector('{}.words', 'a')",
        "SELECT '{}.price()'::regprocedure",
        "SELECT '{}.notes'::regtype",
        "CREATE TABLE lair.t (n int); CREATE TRIGGER t BEFORE INSERT ON lair.t FOR EACH ROW EXECUTE FUNCTION {}.rotate(); DROP TABLE lair.t",
        "CREATE TYPE lair.r AS RANGE (subtype = int, subtype_diff = {}.distance); DROP TYPE lair.r",
        "CREATE TABLE lair.x (c {}.notes); DROP TABLE lair.x",
        "CREATE TABLE lair.x (c {}.notes[]); DROP TABLE lair.x",
        "CREATE TABLE lair.x (c {}.mood); DROP TABLE lair.x",
        "CREATE TABLE lair.x OF {}.pair; DROP TABLE lair.x",
        "CREATE TYPE lair.y AS (c {}.notes); DROP TYPE lair.y",
        "CREATE DOMAIN lair.d AS {}.digit; DROP DOMAIN lair.d",
        "CREATE FUNCTION lair.f({}.notes) RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION lair.f",
        "CREATE FUNCTION lair.f(x {}.notes.body%TYPE) RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION lair.f",
        "CREATE AGGREGATE lair.a(int) (SFUNC = {}.same, STYPE = int); DROP AGGREGATE lair.a(int)",
        "CREATE OPERATOR lair.== (FUNCTION = {}.same, LEFTARG = int, RIGHTARG = int); DROP OPERATOR lair.== (int, int)",
        "DO $$ DECLARE x {}.notes; BEGIN END $$",
        "CREATE FUNCTION lair.g() RETURNS int LANGUAGE plpgsql AS $$ DECLARE x {}.notes%ROWTYPE; BEGIN RETURN 1; END $$;
         SELECT lair.g(); DROP FUNCTION lair.g",
    ] {
        if statement.contains("pair") {
            for schema in ["victim", "thief"] {
                run(&mut db.superuser(), &format!("CREATE TYPE tenant_{schema}.pair AS (a int, b int)"));
            }
        }
        if statement.contains("SFUNC") {
            // The victim's function is refused at lookup. At home the signature would not fit, so the statement would
            // fail there too.
            expect_error(scene.thief().batch_execute(&statement.replace("{}", "tenant_victim")), "42501");
            continue;
        }
        scene.assert_refused_on_victim_only(statement);
        run(&mut db.superuser(), "DROP FUNCTION IF EXISTS lair.g; DROP TABLE IF EXISTS lair.t");
    }
}

/// A refused statement leaves no lock behind in its transaction.
fn relations_by_name(db: &Db) {
    let scene = world(db);
    for statement in [
        "SELECT * FROM {}.bodies",
        "SELECT '{}.notes'::regclass",
        "SELECT has_table_privilege('{}.notes', 'SELECT')",
        "SELECT pg_relation_size('{}.notes')",
        "PREPARE p AS SELECT * FROM {}.notes; DEALLOCATE p",
        "CREATE VIEW lair.v AS SELECT body FROM {}.notes; DROP VIEW lair.v",
        "CREATE TABLE lair.x (LIKE {}.notes); DROP TABLE lair.x",
        "CREATE FUNCTION lair.f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM {}.notes; END; DROP FUNCTION lair.f",
        "CREATE TABLE lair.x (n int); CREATE RULE r AS ON INSERT TO lair.x DO ALSO DELETE FROM {}.notes; DROP TABLE lair.x",
    ] {
        scene.assert_refused_on_victim_only(statement);
        let mut thief = scene.thief();
        run(&mut thief, "BEGIN; SAVEPOINT s");
        expect_error(thief.batch_execute(&statement.replace("{}", "tenant_victim")), "42501");
        run(&mut thief, "ROLLBACK TO s");
        let held = "SELECT count(*) FROM pg_locks WHERE relation = 'tenant_victim.notes'::regclass";
        assert_eq!(one::<i64>(&mut db.superuser(), held, &[]), 0, "{statement}");
    }
}

/// An inaccessible schema on the path is skipped, as a schema without USAGE is, from the next statement on.
fn names_on_the_search_path(db: &Db) {
    let scene = world(db);
    for (statement, error) in [
        ("SELECT price()", "42883"),
        ("SELECT 'ok'::mood", "42704"),
        ("CREATE TABLE lair.x (c notes)", "42704"),
        ("SELECT currtid2('notes', '(0,1)')", "42P01"),
        ("PREPARE p AS SELECT * FROM notes", "42P01"),
        ("CREATE TABLE lair.t (n int); CREATE TRIGGER t AFTER INSERT ON lair.t EXECUTE FUNCTION rotate()", "42883"),
    ] {
        let mut thief = scene.thief();
        run(&mut thief, "SET search_path = tenant_victim, pg_temp");
        expect_error(thief.batch_execute(statement), error);
        let _ = thief.batch_execute("ROLLBACK");
        run(&mut thief, "SET search_path = tenant_thief, pg_temp");
        run(&mut thief, statement);
    }
    let mut thief = scene.thief();
    run(&mut thief, "SET search_path = tenant_thief; SELECT 'ok'::mood, price()");
    run(&mut db.admin(), &format!("SELECT tenant_suspend('{}')", scene.thief));
    expect_error(thief.batch_execute("SELECT price()"), "42883");
    run(&mut db.admin(), &format!("SELECT tenant_resume('{}')", scene.thief));
    run(&mut thief, "SELECT price()");
    // A role that may set the user sees a hint instead.
    let mut server = db.server();
    run(&mut server, "SET search_path = tenant_victim");
    expect_error(server.batch_execute("SELECT count(*) FROM notes"), "42501").hint_has("Set the current user");
    db.act_as(&mut server, Some(scene.owner));
    run(&mut server, "SELECT count(*) FROM notes");
}

fn functions_that_check_only_the_privilege(db: &Db) {
    let scene = world(db);
    run(&mut db.superuser(), "CREATE EXTENSION pgrowlocks; CREATE EXTENSION pg_prewarm; CREATE EXTENSION pgstattuple");
    run(&mut db.superuser(), &format!("GRANT pg_stat_scan_tables TO {}", scene.role));
    for statement in [
        "SELECT currtid2('{}.notes', '(0,1)')",
        "SELECT * FROM pgrowlocks('{}.notes')",
        "SELECT pg_prewarm('{}.notes', 'buffer')",
        "SELECT * FROM pgstattuple('{}.notes')",
    ] {
        scene.assert_refused_on_victim_only(statement);
    }
}

/// The tenant's functions are checked each time they are called.
fn triggers_made_by_a_former_member(db: &Db) {
    let scene = world(db);
    let sql = format!("SELECT tenant_add_member('{}', '{}', 'tenant_member')", scene.victim, scene.crook);
    run(&mut db.admin(), &sql);
    let mut thief = scene.thief();
    run(
        &mut thief,
        "CREATE TABLE lair.plain (n int); CREATE TRIGGER t BEFORE INSERT ON lair.plain FOR EACH ROW EXECUTE FUNCTION tenant_victim.own_row();
         CREATE TABLE lair.definer (n int); CREATE TRIGGER t AFTER INSERT ON lair.definer FOR EACH ROW EXECUTE FUNCTION tenant_victim.rotate();
         CREATE TYPE lair.r AS RANGE (subtype = int, subtype_diff = tenant_victim.distance);
         CREATE TABLE lair.ranges (r lair.r); CREATE INDEX ON lair.ranges USING gist (r);
         CREATE TABLE lair.checked (n int CHECK (tenant_victim.same(n, n)), m int DEFAULT tenant_victim.distance(1, 1));
         INSERT INTO lair.plain VALUES (1); INSERT INTO lair.ranges SELECT lair.r(i, i + 3) FROM generate_series(1, 3) i;
         INSERT INTO lair.checked VALUES (1); PREPARE p AS INSERT INTO lair.plain VALUES (2); EXECUTE p",
    );
    run(&mut db.admin(), &format!("SELECT tenant_remove_member('{}', '{}')", scene.victim, scene.crook));
    for mut client in [thief, scene.thief()] {
        for statement in [
            "INSERT INTO lair.plain VALUES (1)",
            "INSERT INTO lair.definer VALUES (1)",
            "INSERT INTO lair.checked (n) VALUES (1)",
        ] {
            expect_error(client.batch_execute(statement), "42501").message_has("permission denied for function");
        }
        let _ = client.batch_execute("EXECUTE p");
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM lair.plain", &[]), 2);
    }
    expect_error(scene.thief().batch_execute("ANALYZE lair.ranges"), "42501");
    expect_error(
        scene.thief().batch_execute("INSERT INTO lair.ranges SELECT lair.r(i, i + 3) FROM generate_series(1, 999) i"),
        "42501",
    );
    scene.victim_is_unharmed();
}

/// The views were created while their owner was a member.
fn inlined_functions(db: &Db) {
    let scene = world(db);
    let made = "CREATE VIEW lair.one AS SELECT tenant_victim.price() AS p; CREATE VIEW lair.many AS SELECT p FROM tenant_victim.prices()";
    run(
        &mut db.superuser(),
        &format!("SET fluxbase_tenant.user_id = '{}'; SET SESSION AUTHORIZATION {}; {made}", scene.owner, scene.role),
    );
    for view in ["lair.one", "lair.many"] {
        expect_error(scene.thief().query(&format!("SELECT p FROM {view}"), &[]), "42501").message_has("function price");
    }
    let mut owner = db.superuser();
    run(
        &mut owner,
        &format!("SET fluxbase_tenant.user_id = '{}'; SET SESSION AUTHORIZATION {}", scene.owner, scene.role),
    );
    let result: String = one(&mut owner, "SELECT p FROM lair.one UNION SELECT p FROM lair.many", &[]);
    assert_eq!(result, format!("ran as {}", scene.role));
}

/// Before the library is loaded the call is not refused, but a function that runs as the owner role sees no rows until
/// the next transaction.
fn definer_functions_before_the_library_is_loaded(db: &Db) {
    let scene = world(db);
    run(&mut db.superuser(), &format!("ALTER DATABASE {} RESET session_preload_libraries", db.name()));
    run(&mut db.superuser(), &format!("ALTER ROLE {} IN DATABASE {} RESET ALL", scene.role, db.name()));
    let mut thief = scene.thief();
    run(&mut thief, "BEGIN; SAVEPOINT s");
    for _ in 0..2 {
        let counted = thief.query_one("SELECT tenant_victim.counted()", &[]);
        assert!(counted.map_or(true, |row| row.get::<_, i64>(0) == 0));
        run(&mut thief, "ROLLBACK TO s");
    }
    run(&mut thief, "ROLLBACK");
    expect_error(thief.query_one("SELECT tenant_victim.counted()", &[]), "42501");
    // The same holds in a parallel worker, which loads the library itself.
    run(
        &mut thief,
        "CREATE TABLE lair.one AS SELECT 1 AS i; CREATE FUNCTION lair.w() RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS
         'BEGIN RETURN tenant_victim.counted(); END'",
    );
    let parallel = if db.major() >= 16 { "debug_parallel_query" } else { "force_parallel_mode" };
    let mut thief = scene.thief();
    run(&mut thief, &format!("SET {parallel} = on; SET parallel_leader_participation = off"));
    let counted = thief.query_one("SELECT lair.w() FROM lair.one", &[]);
    assert!(counted.map_or(true, |row| row.get::<_, i64>(0) == 0));
    // The same holds if a SECURITY DEFINER function of the thief's loads the library.
    run(
        &mut scene.thief(),
        "CREATE FUNCTION lair.load() RETURNS uuid LANGUAGE sql SECURITY DEFINER AS 'SELECT public.tenant_current_user_id()';
         CREATE FUNCTION lair.peek() RETURNS bigint LANGUAGE plpgsql AS
         $$ BEGIN PERFORM lair.load(); RETURN (SELECT count(*) FROM tenant_victim.notes); EXCEPTION WHEN insufficient_privilege THEN RETURN 0; END $$;
         CREATE VIEW lair.notes AS SELECT FROM (SELECT lair.peek() AS n) x WHERE n > 0; GRANT SELECT ON lair.notes TO PUBLIC",
    );
    let mut thief = scene.thief();
    run(&mut thief, "SET search_path = lair");
    let definer = "SELECT tenant_victim.by_path()";
    assert!(thief.query_one(definer, &[]).map_or(true, |row| row.get::<_, i64>(0) == 0));
    assert_eq!(one::<i64>(&mut scene.owner(), "SELECT tenant_victim.counted()", &[]), 3);
}

fn extensions_into_a_tenants_schema(db: &Db) {
    let scene = world(db);
    let role = &scene.role;
    run(&mut db.superuser(), &format!("GRANT CREATE ON DATABASE {} TO {role}", db.name()));
    let mut thief = scene.thief();
    for statement in [
        "CREATE EXTENSION hstore SCHEMA tenant_victim",
        "CREATE EXTENSION hstore SCHEMA tenant_thief",
        "CREATE EXTENSION hstore SCHEMA fluxbase_tenant",
        "CREATE EXTENSION earthdistance SCHEMA tenant_victim CASCADE",
        "SET search_path = tenant_thief; CREATE EXTENSION hstore",
        "RESET search_path; CREATE EXTENSION citext SCHEMA lair; ALTER EXTENSION citext SET SCHEMA tenant_victim",
    ] {
        expect_error(thief.batch_execute(statement), "42501");
    }
    run(&mut thief, "CREATE EXTENSION hstore SCHEMA lair; CREATE EXTENSION IF NOT EXISTS citext SCHEMA lair");
    // A superuser may do so, and tenant_check() reports it.
    run(&mut db.superuser(), "CREATE EXTENSION seg SCHEMA tenant_victim; ALTER EXTENSION seg SET SCHEMA public");
    run(&mut db.superuser(), "DROP EXTENSION seg; CREATE EXTENSION cube SCHEMA tenant_victim");
    let found = "SELECT severity || ' ' || problem FROM tenant_check() WHERE object = 'extension cube'";
    let problem: String = one(&mut db.admin(), found, &[]);
    assert!(problem.starts_with("warning is in the tenant schema tenant_victim and is owned by postgres"), "{problem}");
    // Members of an extension are never assigned to an owner role: the tenant's migrations could replace them for every
    // tenant.
    run(&mut db.admin(), &format!("SELECT tenant_repair('{}')", scene.victim));
    let given = "SELECT count(*) FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
                 WHERE p.pronamespace = 'tenant_victim'::regnamespace AND p.proowner <> 'postgres'::regrole";
    assert_eq!(one::<i64>(&mut db.superuser(), given, &[]), 0);
}

/// An OID in a constant is not a name, but it makes the object depend on the tenant's schema all the same.
fn oid_constants(db: &Db) {
    let scene = world(db);
    for object in [
        "'{}.notes'::regclass",
        "'{}'::regnamespace",
        "'{}.mood'::regtype",
        "'{}.price()'::regprocedure",
        "'{}.bodies'::regclass",
    ] {
        let oid = |schema: &str| -> u32 {
            one(&mut db.superuser(), &format!("SELECT {}::oid", object.replace("{}", schema)), &[])
        };
        let (victims, thiefs) = (oid("tenant_victim"), oid("tenant_thief"));
        let kind = object.rsplit("::").next().unwrap();
        for statement in [
            "CREATE VIEW lair.o AS SELECT '{}'::KIND AS x; DROP VIEW lair.o",
            "CREATE TEMP VIEW o AS SELECT '{}'::KIND AS x; DROP VIEW o",
            "CREATE TABLE lair.o (x KIND DEFAULT '{}'::KIND); DROP TABLE lair.o",
            "CREATE TABLE lair.o (x KIND); ALTER TABLE lair.o ALTER x SET DEFAULT '{}'::KIND; DROP TABLE lair.o",
            "CREATE TABLE lair.o (x KIND CHECK (x::oid <> ('{}'::KIND)::oid)); DROP TABLE lair.o",
            "CREATE TABLE lair.o (x int); CREATE INDEX ON lair.o ((x + ('{}'::KIND)::oid::int)); DROP TABLE lair.o",
            "CREATE TABLE lair.o (x int); CREATE RULE r AS ON INSERT TO lair.o DO ALSO SELECT '{}'::KIND; DROP TABLE lair.o",
            "CREATE FUNCTION lair.o() RETURNS KIND LANGUAGE sql BEGIN ATOMIC SELECT '{}'::KIND; END; DROP FUNCTION lair.o",
            "CREATE FUNCTION lair.o(x KIND DEFAULT '{}'::KIND) RETURNS int LANGUAGE sql AS 'SELECT 1'; DROP FUNCTION lair.o",
            "CREATE DOMAIN lair.o AS int CHECK (value <> ('{}'::KIND)::oid::int); DROP DOMAIN lair.o",
            "CREATE TABLE lair.o (x int); CREATE POLICY p ON lair.o USING ('{}'::KIND IS NOT NULL); DROP TABLE lair.o",
            "CREATE TABLE lair.o (x int); CREATE STATISTICS lair.s ON x, (('{}'::KIND)::oid::int + x) FROM lair.o; DROP TABLE lair.o",
            "CREATE TABLE lair.o (x int); ALTER TABLE lair.o ADD EXCLUDE ((x + ('{}'::KIND)::oid::int) WITH =); DROP TABLE lair.o",
        ] {
            let statement = statement.replace("KIND", kind);
            let mut thief = scene.thief();
            expect_error(thief.batch_execute(&statement.replace("{}", &victims.to_string())), "42501")
                .message_has("tenant_victim");
            let _ = thief.batch_execute("ROLLBACK; DROP TABLE IF EXISTS lair.o");
            run(&mut scene.thief(), &statement.replace("{}", &thiefs.to_string()));
        }
    }
}

/// pg_get_object_address() locks the named schema until the transaction ends, and checks no privilege.
fn schemas_locked_by_name(db: &Db) {
    let scene = Scene::set(db);
    let lock = "SELECT pg_get_object_address('schema', '{tenant_victim}', '{}')";
    let mut thief = scene.thief();
    for statement in
        [lock.to_owned(), format!("DO $$ BEGIN PERFORM ({lock}); END $$"), format!("PREPARE p AS {lock}; EXECUTE p")]
    {
        run(&mut thief, "BEGIN");
        expect_error(thief.batch_execute(&statement), "42501").message_has("pg_get_object_address");
        run(&mut thief, "ROLLBACK");
    }
    let address: String = one(&mut db.superuser(), &format!("SELECT ({lock})::text"), &[]);
    assert!(address.starts_with('('), "{address}");
    run(&mut db.admin(), &format!("SELECT tenant_delete('{}')", scene.victim));
}

/// A tenant that is newer than the transaction's snapshot is checked as well.
fn oid_constants_in_an_older_snapshot(db: &Db) {
    let scene = Scene::set(db);
    let (mut thief, mut superuser) = (scene.thief(), db.superuser());
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
    run(&mut thief, begin);
    run(&mut superuser, begin);
    let late = db.new_tenant("late", scene.owner);
    let oid: String = one(&mut db.superuser(), "SELECT 'tenant_late.notes'::regclass::oid::text", &[]);
    expect_error(thief.batch_execute(&format!("CREATE VIEW lair.v AS SELECT '{oid}'::regclass AS c")), "42501");
    run(&mut superuser, "CREATE TABLE tenant_late.born (x int); COMMIT");
    db.assert_tables_are_protected(late);
}
