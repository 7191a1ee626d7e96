//! A migration runs only with the privileges of the tenant's owner role, and so does the code that it leaves for the
//! extension or an administrator to run.

use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    other_tenants_in_every_statement,
    management_functions_in_a_script,
    defaults_that_run_code_when_parsed,
    code_planted_for_an_administrator,
    deferred_triggers,
    grants_that_policies_do_not_cover,
    grants_by_definer_functions,
    files_and_programs_of_the_server,
    other_sessions,
    identity_in_parallel_workers,
    names_that_hide_the_extensions,
    views_and_functions_left_by_a_script,
];

fn other_tenants_in_every_statement(db: &Db) {
    let scene = Scene::set(db);
    for statement in [
        "SELECT * FROM {}.notes",
        "DELETE FROM {}.notes WHERE false",
        "CREATE TABLE loot AS TABLE {}.notes",
        "INSERT INTO notes (body) SELECT body FROM {}.notes",
        "CREATE MATERIALIZED VIEW loot AS SELECT * FROM {}.notes",
        "ALTER TABLE {}.notes ADD COLUMN mine int",
        "LOCK TABLE {}.notes IN SHARE MODE",
        "TRUNCATE {}.notes",
        "COMMENT ON TABLE {}.notes IS 'mine'",
        "SELECT nextval('{}.notes_id_seq')",
        "CREATE FUNCTION {}.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "GRANT USAGE ON SCHEMA {} TO PUBLIC",
    ] {
        let abroad = scene.db.try_migration(scene.thief, &statement.replace("{}", "tenant_victim"));
        expect_error(abroad, "42501");
        db.migrate(
            scene.thief,
            &statement.replace("{}", "tenant_thief").replace("CREATE TABLE loot", "CREATE TABLE more"),
        );
    }
    scene.victim_is_unharmed();
}

/// Whichever role starts the migration, the script is neither an instance admin nor an admin of its own tenant.
fn management_functions_in_a_script(db: &Db) {
    let scene = Scene::set(db);
    for call in [
        format!("tenant_grant_instance_admin('{}')", scene.crook),
        format!("tenant_add_member('{}', '{}')", scene.victim, scene.crook),
        format!("tenant_assign_admin('{}', '{}')", scene.thief, new_user()),
        format!("tenant_delete('{}')", scene.victim),
        "tenant_set_current('victim')".into(),
        "tenant_migration_add('99', 'x', 'SELECT 1')".into(),
        "tenant_list()".into(),
        "tenant_current()".into(),
    ] {
        expect_error(db.try_migration(scene.thief, &format!("SELECT * FROM {call}")), "42501");
    }
    db.migrate(
        scene.thief,
        &format!(
            "CREATE TABLE told AS SELECT tenant_is_instance_admin() AS boss, tenant_has_access('{}') AS victim,
             tenant_has_access('{}') AS own, tenant_current_user_id() AS me",
            scene.victim, scene.thief
        ),
    );
    let row = scene.thief().query_one("SELECT boss, victim, own, me FROM tenant_thief.told", &[]).unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), (false, false, true));
    assert_eq!(row.get::<_, Option<Uuid>>(3), None);
}

/// Returns the roles, other than owner roles, that the tenants' code ran as.
#[track_caller]
fn other_roles_seen(db: &Db, table: &str) -> Vec<String> {
    let seen: Vec<String> = column(&mut db.superuser(), &format!("SELECT DISTINCT who FROM {table}"), &[]);
    assert!(!seen.is_empty(), "no spy ran, so the test proves nothing");
    seen.into_iter().filter(|who| !who.starts_with("fluxbase_tenant_")).collect()
}

const SPY: &str = "CREATE TABLE seen (who text);
    CREATE FUNCTION spy() RETURNS boolean LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO tenant_thief.seen VALUES (current_user); RETURN true; END $$;
    CREATE FUNCTION spy(int) RETURNS boolean LANGUAGE sql AS 'SELECT tenant_thief.spy()';
    CREATE FUNCTION quiet() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
    $$ BEGIN RETURN tenant_thief.spy(); END $$;
    CREATE FUNCTION on_row() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM tenant_thief.spy(); RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END; END $$;";

/// The extension rewrites defaults that call nextval(). Parsing a default again may run the check of a domain in it.
fn defaults_that_run_code_when_parsed(db: &Db) {
    let scene = Scene::set(db);
    db.migrate(
        scene.thief,
        &format!(
            "{SPY} CREATE DOMAIN odd AS int CHECK (spy(VALUE)); CREATE TYPE pair AS (a odd, b int);
             CREATE SEQUENCE numbers;
             CREATE TABLE bait (id bigint DEFAULT nextval('numbers') + cardinality('{{7}}'::odd[]),
                 twin bigint DEFAULT nextval('numbers') + ('(7,1)'::pair).b, n int);
             ALTER TABLE bait ALTER n SET DEFAULT nextval('numbers') + cardinality('{{8}}'::odd[])"
        ),
    );
    assert_eq!(other_roles_seen(db, "tenant_thief.seen"), [""; 0]);
    // The defaults work, but only for members.
    run(&mut scene.thief(), "INSERT INTO tenant_thief.bait DEFAULT VALUES");
    let id: i64 = one(&mut scene.thief(), "SELECT id FROM tenant_thief.bait", &[]);
    assert!(id > 1);
    expect_error(scene.owner().batch_execute("INSERT INTO tenant_thief.bait DEFAULT VALUES"), "42501");
}

/// Checks, index expressions, policies, triggers and statistics: repair, audit, migration and deletion run none of this
/// code as an administrator.
fn code_planted_for_an_administrator(db: &Db) {
    let scene = Scene::set(db);
    db.migrate(
        scene.thief,
        &format!(
            "{SPY} CREATE TABLE bait (id serial, n int DEFAULT 7, flag boolean GENERATED ALWAYS AS (quiet()) STORED,
                 CHECK (quiet()));
             CREATE INDEX ON bait (n) WHERE quiet(); CREATE INDEX ON bait ((quiet()));
             CREATE STATISTICS s ON n, (quiet()) FROM bait; CREATE POLICY spied ON bait USING (spy());
             CREATE TRIGGER spied BEFORE INSERT OR UPDATE OR DELETE ON bait FOR EACH ROW EXECUTE FUNCTION on_row();
             CREATE VIEW shown AS SELECT * FROM bait WHERE spy(); INSERT INTO bait DEFAULT VALUES"
        ),
    );
    assert_eq!(other_roles_seen(db, "tenant_thief.seen"), [""; 0]);
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        "ALTER TABLE tenant_thief.bait OWNER TO postgres, DISABLE ROW LEVEL SECURITY;
         REVOKE ALL ON tenant_thief.bait FROM fluxbase_tenant_user; ALTER VIEW tenant_thief.shown SET (security_invoker = false)",
    );
    let thief = scene.thief;
    assert!(superuser.query("SELECT * FROM tenant_repair($1)", &[&thief]).unwrap().len() >= 2);
    run(&mut superuser, "SELECT tenant_check(), tenant_migration_status()");
    db.migrate(thief, "INSERT INTO bait DEFAULT VALUES; ALTER TABLE bait ADD COLUMN more int");
    run(
        &mut superuser,
        &format!("SELECT tenant_suspend('{thief}'), tenant_resume('{thief}'), tenant_repair('{thief}')"),
    );
    assert_eq!(other_roles_seen(db, "tenant_thief.seen"), [""; 0]);
    // The deletion drops the table that the spies write to, so a spy that runs would make the deletion fail.
    run(&mut superuser, &format!("SELECT tenant_delete('{thief}')"));
    scene.victim_is_unharmed();
}

/// Work deferred to the end of the transaction would run as the committing role.
fn deferred_triggers(db: &Db) {
    let scene = Scene::set(db);
    let deferred = |mode: &str| {
        format!(
            "{SPY} CREATE TABLE bait (n int);
             CREATE CONSTRAINT TRIGGER late AFTER INSERT ON bait DEFERRABLE INITIALLY {mode}
             FOR EACH ROW EXECUTE FUNCTION on_row();"
        )
    };
    // Deferred with SET CONSTRAINTS: PostgreSQL refuses to queue the trigger in a security-restricted operation.
    let by_hand = format!(
        "{} DO $$ BEGIN SET CONSTRAINTS ALL DEFERRED; INSERT INTO bait VALUES (1); END $$",
        deferred("IMMEDIATE")
    );
    expect_error(db.try_migration(scene.thief, &by_hand), "42501");
    // Declared as deferred: the migration fires the trigger immediately, as the owner role.
    db.migrate(scene.thief, &format!("{} INSERT INTO bait VALUES (1)", deferred("DEFERRED")));
    assert_eq!(other_roles_seen(db, "tenant_thief.seen"), [""; 0]);
}

/// Policies do not apply to TRUNCATE, REFERENCES and TRIGGER, and sequences have no policies.
fn grants_that_policies_do_not_cover(db: &Db) {
    let scene = Scene::set(db);
    for grant in [
        "GRANT ALL ON notes TO fluxbase_tenant_user",
        "GRANT TRUNCATE ON notes TO PUBLIC",
        "GRANT TRIGGER ON ALL TABLES IN SCHEMA tenant_victim TO fluxbase_tenant_user",
        "GRANT REFERENCES (email) ON notes TO fluxbase_tenant_user",
        "GRANT USAGE ON SEQUENCE notes_id_seq TO fluxbase_tenant_user",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA tenant_victim TO PUBLIC",
        "GRANT CREATE ON SCHEMA tenant_victim TO fluxbase_tenant_user",
        "DO $$ BEGIN EXECUTE 'GRANT TRUNCATE ON notes TO app_user'; END $$",
        "ALTER DEFAULT PRIVILEGES GRANT TRUNCATE ON TABLES TO PUBLIC; CREATE TABLE more (n int)",
    ] {
        expect_error(db.try_migration(scene.victim, grant), "42501");
    }
    db.migrate(
        scene.victim,
        "GRANT SELECT ON notes TO app_outsider; GRANT USAGE ON SCHEMA tenant_victim TO app_outsider",
    );
    scene.victim_is_unharmed();
}

fn files_and_programs_of_the_server(db: &Db) {
    let scene = Scene::set(db);
    for statement in [
        "COPY notes TO PROGRAM 'true'",
        "COPY notes FROM PROGRAM 'true'",
        "COPY notes TO '/tmp/fluxbase-loot'",
        "COPY notes FROM '/etc/passwd'",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT pg_ls_dir('.')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/fluxbase-loot')",
        "CREATE FUNCTION c() RETURNS int LANGUAGE c AS 'libc', 'getpid'",
        "CREATE EXTENSION plpgsql",
        "ALTER SYSTEM SET log_statement = 'all'",
        "SELECT pg_reload_conf()",
        "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION fluxbase_tenant.after_command()",
        "CREATE SUBSCRIPTION s CONNECTION 'dbname=x' PUBLICATION p",
        "SET session_replication_role = replica",
    ] {
        let refused = db.try_migration(scene.thief, statement).expect_err(statement);
        let code = refused.code().unwrap().code();
        // Other codes: the extension already exists, the foreign-data wrapper does not exist, the command cannot run in
        // a transaction block.
        assert!(["42501", "42710", "42704", "25001"].contains(&code), "{statement}: {refused:?}");
    }
    db.migrate(scene.thief, "CREATE FUNCTION s() RETURNS int LANGUAGE sql AS 'SELECT 1'");
}

fn other_sessions(db: &Db) {
    let scene = Scene::set(db);
    let mut bystander = scene.owner();
    let pid: i32 = one(&mut bystander, "SELECT pg_backend_pid()", &[]);
    for call in [
        format!("pg_terminate_backend({pid})"),
        format!("pg_cancel_backend({pid})"),
        "pg_log_backend_memory_contexts(1)".into(),
    ] {
        expect_error(db.try_migration(scene.thief, &format!("SELECT {call}")), "42501");
    }
    db.migrate(
        scene.thief,
        "CREATE TABLE seen AS SELECT pid, query FROM pg_stat_activity WHERE usename = 'app_server'",
    );
    let texts: Vec<String> = column(&mut scene.thief(), "SELECT DISTINCT query FROM tenant_thief.seen", &[]);
    assert_eq!(texts, ["<insufficient privilege>"]);
    assert_eq!(reached(&mut bystander, "tenant_victim.notes"), 3);
}

/// A parallel worker knows only the settings, and there the tenant may be one that a user chose.
fn identity_in_parallel_workers(db: &Db) {
    let scene = Scene::set(db);
    let force = if db.major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
    let boss = new_user();
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{boss}')"));
    db.add_migration(
        "2",
        &format!(
            "SET LOCAL {force} = regress; SET LOCAL parallel_setup_cost = 0;
             CREATE TABLE counted AS SELECT count(*) AS n FROM notes"
        ),
    );
    let mut client = db.as_user(boss);
    run(&mut client, "SELECT tenant_set_current('thief')");
    run(&mut client, &format!("SELECT tenant_migrate('{}')", scene.thief));
    assert_eq!(one::<i64>(&mut client, "SELECT n FROM counted", &[]), 3);
    let abroad =
        format!("SET LOCAL {force} = regress; CREATE TABLE stolen AS SELECT count(*) FROM tenant_victim.notes");
    run(&mut client, "BEGIN");
    client.query("SELECT tenant_migration_add('3', 'x', $1)", &[&abroad]).unwrap();
    expect_error(client.query("SELECT tenant_migrate($1)", &[&scene.thief]), "42501");
    run(&mut client, "ROLLBACK");
}

/// In a migration's search_path the tenant's schema comes before the extension's.
fn names_that_hide_the_extensions(db: &Db) {
    let scene = Scene::set(db);
    db.migrate(
        scene.thief,
        &format!(
            "{SPY} CREATE FUNCTION tenant_is_instance_admin() RETURNS boolean LANGUAGE sql AS 'SELECT tenant_thief.spy()';
             CREATE FUNCTION tenant_has_access(uuid) RETURNS boolean LANGUAGE sql AS 'SELECT tenant_thief.spy()';
             CREATE FUNCTION format(text, text) RETURNS text LANGUAGE sql AS 'SELECT $1 FROM tenant_thief.spy()';
             CREATE FUNCTION same(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT tenant_thief.spy()';
             CREATE OPERATOR = (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = same);
             CREATE TABLE tenants (id uuid); CREATE TABLE members (id uuid); CREATE TABLE pg_class (id uuid);
             CREATE TABLE serials (id serial)"
        ),
    );
    let mut superuser = db.superuser();
    run(&mut superuser, "SELECT tenant_set_current('thief')");
    run(&mut superuser, &format!("SELECT public.tenant_repair('{0}'), public.tenant_migrate('{0}')", scene.thief));
    run(&mut superuser, "SELECT public.tenant_check()");
    run(&mut superuser, &format!("SELECT public.tenant_add_member('{}', '{}')", scene.thief, new_user()));
    run(&mut superuser, "INSERT INTO serials DEFAULT VALUES");
    assert_eq!(reached(&mut superuser, "tenant_thief.seen"), 0);
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM tenant_thief.serials", &[]), 1);
    run(&mut scene.thief(), "SELECT tenant_thief.spy()");
    assert_eq!(reached(&mut superuser, "tenant_thief.seen"), 1);
}

/// Whichever role calls or reads them, they have only the privileges of the owner role, which has none outside its
/// tenant.
fn views_and_functions_left_by_a_script(db: &Db) {
    let scene = Scene::set(db);
    db.migrate(
        scene.thief,
        "CREATE FUNCTION peek() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN RETURN QUERY EXECUTE 'SELECT body FROM tenant_victim.notes'; END $$;
         CREATE FUNCTION own() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN RETURN QUERY SELECT body FROM tenant_thief.notes; END $$;
         CREATE FUNCTION tear_down() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN ALTER TABLE tenant_thief.notes DISABLE ROW LEVEL SECURITY; END $$;
         CREATE VIEW own_notes AS SELECT * FROM notes",
    );
    let mut client = scene.thief();
    for call in ["peek()", "tear_down()"] {
        expect_error(client.query(&format!("SELECT * FROM tenant_thief.{call}"), &[]), "42501");
    }
    assert_eq!(column::<String>(&mut client, "SELECT * FROM tenant_thief.own()", &[]).len(), 3);
    assert_eq!(reached(&mut client, "tenant_thief.own_notes"), 3);
    let mut owner = scene.owner();
    for object in ["own()", "own_notes"] {
        expect_error(owner.query(&format!("SELECT * FROM tenant_thief.{object}"), &[]), "42501");
    }
}

/// A SECURITY DEFINER function of a migration grants when a member calls it.
fn grants_by_definer_functions(db: &Db) {
    let scene = Scene::set(db);
    db.migrate(
        scene.victim,
        "CREATE MATERIALIZED VIEW sums AS SELECT body FROM notes;
         CREATE FUNCTION give(grant_it text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
         $f$ BEGIN EXECUTE grant_it; END $f$",
    );
    let mut member = scene.owner();
    for grant in [
        "GRANT ALL ON SEQUENCE notes_id_seq TO PUBLIC",
        "GRANT ALL ON notes TO PUBLIC",
        "GRANT SELECT ON sums TO PUBLIC",
        "DO $$ BEGIN GRANT TRUNCATE ON notes TO PUBLIC; END $$",
        "ALTER DEFAULT PRIVILEGES GRANT TRUNCATE ON TABLES TO PUBLIC; CREATE TABLE more (n int)",
    ] {
        expect_error(member.query("SELECT tenant_victim.give($1)", &[&grant]), "42501");
    }
    member.query("SELECT tenant_victim.give('GRANT SELECT ON notes TO app_outsider')", &[]).unwrap();
    scene.victim_is_unharmed();
}
