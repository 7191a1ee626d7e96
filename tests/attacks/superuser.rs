//! Text and names from a migration's author or a table's owner that the extension's own commands use. None of it runs
//! as a superuser.

use postgres::Client;

use uuid::Uuid;

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{column, new_user, one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    search_paths_of_a_spares_functions,
    sequences_swapped_while_a_tenant_is_cloned,
    defaults_of_copied_tables,
    defaults_of_tables_moved_in,
    temporary_types_left_in_the_session,
    temporary_types_left_by_a_protected_table,
    temporary_types_left_for_the_next_tenant,
    fixes_printed_by_tenant_check,
    names_on_the_path_of_an_owners_trigger
];

fn is_superuser(db: &Db, role: &str) -> bool {
    one(&mut db.superuser(), "SELECT rolsuper FROM pg_roles WHERE rolname = $1", &[&role])
}

/// The path is stored as text and rewritten when the spare is renamed.
fn search_paths_of_a_spares_functions(db: &Db) {
    let scene = Scene::set(db);
    db.add_migration(
        "2",
        &format!(
            "DELETE FROM notes; SELECT set_config('search_path', current_schema() || ', x;ALTER/**/ROLE/**/{}/**/SUPERUSER, \"Quoted \"\"one\"\"\"', true);
             CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT 1'",
            scene.role
        ),
    );
    run(&mut db.admin(), "SELECT tenant_spares_fill(1); SELECT tenant_create('fresh', 'Fresh')");
    assert!(!is_superuser(db, &scene.role));
    let path = "SELECT proconfig[1] FROM pg_proc WHERE pronamespace = 'tenant_fresh'::regnamespace AND proname = 'f'";
    let path: String = one(&mut db.superuser(), path, &[]);
    let expected =
        format!("search_path=tenant_fresh, \"x;alter/**/role/**/{}/**/superuser\", \"Quoted \"\"one\"\"\"", scene.role);
    assert_eq!(path, expected);
    assert_eq!(one::<i32>(&mut db.admin(), "SELECT tenant_fresh.f()", &[]), 1);
}

/// A member calls a SECURITY DEFINER function of the tenant, which swaps the sequence while the clone waits.
fn sequences_swapped_while_a_tenant_is_cloned(db: &Db) {
    let scene = Scene::set(db);
    db.add_migration(
        "2",
        &format!(
            "CREATE SEQUENCE counter;
             CREATE FUNCTION evil() RETURNS boolean LANGUAGE plpgsql AS
             $f$ BEGIN IF current_user = 'postgres' THEN ALTER ROLE {} SUPERUSER; END IF; RETURN true; END $f$;
             CREATE FUNCTION swap() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
             $f$ BEGIN ALTER SEQUENCE counter RENAME TO moved;
                 CREATE VIEW counter AS SELECT 1::bigint AS last_value, evil() AS is_called; END $f$",
            scene.role
        ),
    );
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
    let clone = |slug: &str| format!("SELECT tenant_clone('{}', '{slug}', with_data => true)", scene.victim);
    run(&mut db.superuser(), &clone("before"));
    let mut member: Client = scene.owner();
    run(&mut member, "BEGIN; SELECT tenant_victim.swap(); LOCK TABLE tenant_victim.notes IN ROW EXCLUSIVE MODE");
    std::thread::scope(|scope| {
        let cloning = scope.spawn(|| db.superuser().batch_execute(&clone("after")));
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
        until("the clone waits", || one::<bool>(&mut db.superuser(), waits, &[]));
        run(&mut member, "COMMIT");
        drop(cloning.join().unwrap());
    });
    assert!(!is_superuser(db, &scene.role));
}

/// Creates a table whose default calls nextval() and uses a domain with the thief's check. Returns the query that
/// counts runs of the check.
fn tickets(scene: &Scene) -> String {
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.seen (who text); GRANT INSERT ON lair.seen TO PUBLIC;
         CREATE FUNCTION lair.note(int) RETURNS boolean LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO lair.seen VALUES (current_user); RETURN true; END $$;
         CREATE DOMAIN lair.d AS int CHECK (lair.note(value)); CREATE SEQUENCE lair.s;
         CREATE TABLE lair.tickets (n bigint DEFAULT nextval('lair.s') + array_length('{1}'::lair.d[], 1), body text)",
    );
    run(&mut scene.thief(), "TRUNCATE lair.seen");
    "SELECT count(*) FROM lair.seen".to_owned()
}

fn defaults_of_copied_tables(db: &Db) {
    let scene = Scene::set(db);
    let seen = tickets(&scene);
    run(&mut db.superuser(), "CREATE TABLE tenant_victim.tickets (LIKE lair.tickets INCLUDING ALL)");
    assert_eq!(one::<i64>(&mut db.superuser(), &seen, &[]), 0);
    let default =
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'tenant_victim.tickets'::regclass";
    let default: String = one(&mut db.superuser(), default, &[]);
    assert!(default.starts_with("(fluxbase_tenant.nextval('lair.s'::regclass) + "), "{default}");
}

fn defaults_of_tables_moved_in(db: &Db) {
    let scene = Scene::set(db);
    let seen = tickets(&scene);
    run(&mut db.superuser(), "ALTER TABLE lair.tickets SET SCHEMA tenant_victim");
    assert_eq!(one::<i64>(&mut db.superuser(), &seen, &[]), 0);
    // Serial and identity columns work for members.
    let id = db.new_tenant("acme", new_user());
    db.migrate(
        id,
        "CREATE TABLE kinds (a serial, b bigint GENERATED ALWAYS AS IDENTITY, c int DEFAULT 7 + nextval('kinds_a_seq'), d text);
         ALTER TABLE kinds ADD e smallserial; CREATE TABLE parts (a serial, p int) PARTITION BY LIST (p);
         CREATE TABLE parts1 PARTITION OF parts FOR VALUES IN (1)",
    );
    let mut member = db.as_user(db.new_member(id));
    run(&mut member, "INSERT INTO tenant_acme.kinds (d) VALUES ('x'); INSERT INTO tenant_acme.parts (p) VALUES (1)");
    assert_eq!(one::<i32>(&mut member, "SELECT a + b::int + c + e FROM tenant_acme.kinds", &[]), 1 + 1 + 9 + 1);
    expect_error(member.query("SELECT nextval('tenant_acme.kinds_a_seq')", &[]), "42501");
}

/// A temporary type hides the built-in type of the same name.
const EVIL: &str = "CREATE FUNCTION evil(v text) RETURNS boolean LANGUAGE plpgsql AS
     $f$ BEGIN IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE {role} SUPERUSER; END IF; RETURN true; END $f$;
     CREATE DOMAIN pg_temp.uuid AS pg_catalog.uuid CHECK (evil(value::pg_catalog.text))";

fn temporary_types_left_in_the_session(db: &Db) {
    let scene = Scene::set(db);
    let evil = EVIL.replace("{role}", &scene.role);
    for script in [
        evil.clone(),
        evil.replace("pg_temp.uuid", "uuid").replace(
            "CREATE DOMAIN",
            "SELECT set_config('search_path', 'pg_temp, ' || current_setting('search_path'), true); CREATE DOMAIN",
        ),
        "CREATE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE sql AS 'SELECT 1::text'".to_owned(),
        "CREATE TYPE pg_temp.jsonb AS ENUM ('x')".to_owned(),
    ] {
        let mut superuser = db.superuser();
        run(&mut superuser, "CREATE TEMP TABLE own (n int)");
        let version: String = one(&mut superuser, "SELECT (count(*) + 1)::text FROM tenant_migration_list()", &[]);
        let add = "SELECT tenant_migration_add($1, 'x', $2)::text";
        one::<String>(&mut superuser, add, &[&version, &script]);
        expect_error(superuser.batch_execute(&format!("SELECT tenant_migrate('{}')", scene.victim)), "42501")
            .message_has("temporary");
        run(&mut superuser, "SELECT '00000000-0000-0000-0000-0000000000a1'::uuid; SELECT '{}'::jsonb; TABLE own");
        assert!(!is_superuser(db, &scene.role), "{script}");
        run(&mut superuser, &format!("SELECT tenant_migration_remove('{version}')"));
    }
    // A temporary object that the script drops again is allowed, except on PostgreSQL 15.
    if db.major() > 15 {
        db.migrate(scene.victim, "CREATE DOMAIN pg_temp.d AS int; DROP DOMAIN pg_temp.d");
    }
}

fn temporary_types_left_by_a_protected_table(db: &Db) {
    let scene = Scene::set(db);
    let evil = EVIL
        .replace("{role}", &scene.role)
        .replace("CREATE DOMAIN", "GRANT USAGE ON SCHEMA lair TO PUBLIC; CREATE DOMAIN")
        .replace("evil(", "lair.evil(");
    let (function, domain) = evil.split_once("; CREATE DOMAIN").unwrap();
    run(
        &mut scene.thief(),
        &format!(
            "{function}; CREATE TABLE lair.t (id int, tenant_id uuid); INSERT INTO lair.t VALUES (1);
             CREATE FUNCTION lair.leave() RETURNS trigger LANGUAGE plpgsql AS $g$ BEGIN CREATE DOMAIN {domain}; RETURN NEW; END $g$;
             CREATE TRIGGER leave BEFORE UPDATE ON lair.t FOR EACH ROW EXECUTE FUNCTION lair.leave()"
        ),
    );
    let mut superuser = db.superuser();
    run(&mut superuser, "CREATE TEMP TABLE own (n int)");
    let protect = format!("SELECT tenant_protect('lair.t', existing_rows => '{}')", scene.thief);
    expect_error(superuser.batch_execute(&protect), "42501");
    run(&mut superuser, "SELECT '00000000-0000-0000-0000-0000000000a1'::uuid");
    assert!(!is_superuser(db, &scene.role));
}

/// One worker migrates the tenants one after the other, with a nontransactional migration too.
fn temporary_types_left_for_the_next_tenant(db: &Db) {
    let scene = Scene::set(db);
    let evil = "CREATE TABLE seen (who text);
         CREATE FUNCTION leave(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN
             IF current_schema() = 'tenant_thief' THEN CREATE DOMAIN pg_temp.uuid AS pg_catalog.uuid CHECK (value IS NULL); END IF;
             RETURN n; EXCEPTION WHEN OTHERS THEN RETURN n; END $f$;
         CREATE TABLE t AS SELECT 1 AS n";
    db.add_migration("2", evil);
    db.add_nontransactional("3", "CREATE INDEX CONCURRENTLY ON t (leave(n))");
    db.add_migration("4", "INSERT INTO seen SELECT '00000000-0000-0000-0000-0000000000a1'::uuid");
    let results = db.migrate_all("retries => 0, parallel => 1");
    assert!(results.iter().all(|line| line.contains("migrated")), "{results:?}");
    assert_eq!(one::<i64>(&mut scene.owner(), "SELECT count(*) FROM tenant_victim.seen", &[]), 1);
}

/// Superusers run the fixes as printed, with any schema first on their search_path.
fn fixes_printed_by_tenant_check(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        &format!(
            "ALTER DATABASE {} OWNER TO {role}; ALTER SCHEMA tenant_victim OWNER TO CURRENT_USER;
             CREATE TABLE jobs (n int); SELECT tenant_protect('jobs'); DROP POLICY tenant_isolation ON jobs",
            db.name(),
            role = scene.role
        ),
    );
    run(
        &mut scene.thief(),
        "CREATE SCHEMA first; GRANT USAGE ON SCHEMA first TO PUBLIC; CREATE TABLE first.seen (who text);
         CREATE FUNCTION first.note() RETURNS text LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO first.seen VALUES (current_user); RETURN 'noted'; END $$;
         CREATE FUNCTION first.tenant_repair(uuid) RETURNS text LANGUAGE sql AS 'SELECT first.note()';
         CREATE FUNCTION public.tenant_repair(text) RETURNS text LANGUAGE sql AS 'SELECT first.note()';
         CREATE FUNCTION first.tenant_protect(regclass, name) RETURNS text LANGUAGE sql AS 'SELECT first.note()';
         CREATE FUNCTION public.tenant_protect(text, text) RETURNS text LANGUAGE sql AS 'SELECT first.note()'",
    );
    let mut superuser = db.superuser();
    let errors = "SELECT fix FROM public.tenant_check() WHERE severity = 'error' AND fix LIKE 'SELECT %'";
    let fixes: Vec<String> = column(&mut superuser, errors, &[]);
    assert!(
        ["tenant_repair", "tenant_protect"].iter().all(|call| fixes.iter().any(|fix| fix.contains(call))),
        "{fixes:?}"
    );
    run(&mut superuser, "SET search_path = first, public");
    for fix in &fixes {
        run(&mut superuser, fix);
    }
    assert_eq!(column::<String>(&mut superuser, "SELECT who FROM first.seen", &[]), [""; 0]);
    assert_eq!(column::<String>(&mut superuser, errors, &[]), [""; 0]);
}

/// A function of the attacker's that matches better than the built-in one is found where the attacker can create: in a
/// schema named like the owner, or in one that the database's owner puts on the path. Triggers of a superuser's table
/// do not run at all.
fn names_on_the_path_of_an_owners_trigger(db: &Db) {
    let scene = Scene::set(db);
    let keeper = format!("keeper_of_{}", db.name());
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE events (id serial PRIMARY KEY, happened text); CREATE TABLE audit (data jsonb);
             CREATE FUNCTION kept() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO audit VALUES (to_jsonb(OLD)); RETURN OLD; END';
             CREATE TRIGGER kept BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION kept(); SELECT tenant_protect('events');
             INSERT INTO events (happened, tenant_id) VALUES ('x', '{}'), ('y', '{}');
             GRANT CREATE ON DATABASE {} TO {}; CREATE ROLE {keeper}; GRANT INSERT ON audit TO {keeper};
             ALTER TABLE events OWNER TO {keeper}",
            scene.thief,
            scene.victim,
            db.name(),
            scene.role
        ),
    );
    let mut thief = scene.thief();
    run(
        &mut thief,
        &format!("CREATE SCHEMA {keeper}; CREATE TEMP TABLE own (); GRANT USAGE ON SCHEMA {keeper} TO PUBLIC"),
    );
    // A temporary schema that is named explicitly on a path is searched in other sessions like any schema.
    let temporary: String =
        one(&mut thief, "SELECT nspname::text FROM pg_namespace WHERE oid = pg_my_temp_schema()", &[]);
    run(
        &mut db.superuser(),
        &format!("ALTER DATABASE {} SET search_path = {temporary}, lair, \"$user\", public", db.name()),
    );
    for schema in ["lair", &keeper, &temporary] {
        run(
            &mut thief,
            &format!(
                "CREATE FUNCTION {schema}.to_jsonb(public.events) RETURNS jsonb LANGUAGE plpgsql AS
                 $$ BEGIN EXECUTE 'ALTER ROLE {} SUPERUSER'; RETURN '{{}}'; END $$",
                scene.role
            ),
        );
    }
    let left = |tenant: Uuid| -> i64 {
        one(&mut db.superuser(), "SELECT count(*) FROM public.events WHERE tenant_id = $1", &[&tenant])
    };
    for (tenant, owner) in [(scene.thief, &*keeper), (scene.victim, "CURRENT_USER")] {
        run(&mut db.superuser(), &format!("ALTER TABLE public.events OWNER TO {owner}"));
        run(&mut db.admin(), &format!("SELECT public.tenant_delete('{tenant}')"));
        until("the rows are deleted", || left(tenant) == 0);
    }
    let audit = "SELECT data ->> 'happened' FROM public.audit";
    assert_eq!(column::<String>(&mut db.superuser(), audit, &[]), ["x"]);
    let is_superuser = format!("SELECT rolsuper FROM pg_roles WHERE rolname = '{}'", scene.role);
    assert!(!one::<bool>(&mut db.superuser(), &is_superuser, &[]));
}
