//! Code that maintenance runs in a privileged session: index expressions and types of an attacker. It can access only
//! what its owner can access, whichever role issued the command.

use std::thread::sleep;
use std::time::Duration;

use postgres::Client;

use crate::cases;
use crate::support::people::{column, one, run};
use crate::support::scene::Scene;
use crate::support::{Cluster, Db, expect_error};

cases![
    definer_functions,
    triggers_of_a_former_member,
    views_and_functions_of_admins,
    automatic_analyze,
    subtype_diff_of_a_range_type,
    maintenance_by_members,
    definer_functions_of_the_maintainer,
    maintenance_by_admins,
    analyze_in_migrations,
];

/// Creates an index on `lair.t` that runs `body` once. The body can write to `lair.loot`.
fn plant_index(thief: &mut Client, body: &str) {
    run(
        thief,
        &format!(
            "CREATE TABLE IF NOT EXISTS lair.loot (what text);
             CREATE TABLE lair.t (x int) WITH (autovacuum_enabled = off);
             CREATE FUNCTION lair.f(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x; END';
             CREATE INDEX t_f ON lair.t (lair.f(x));
             INSERT INTO lair.t SELECT generate_series(1, 50);
             CREATE FUNCTION lair.g(x int) RETURNS int LANGUAGE plpgsql AS $g$ BEGIN
                 IF x = 1 AND current_setting('application_name') <> 'own' THEN
                     BEGIN {body}; EXCEPTION WHEN others THEN INSERT INTO lair.loot VALUES (sqlstate); END;
                 END IF;
                 RETURN x; END $g$;
             CREATE OR REPLACE FUNCTION lair.f(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN lair.g(x); END'"
        ),
    );
}

fn loot(scene: &Scene) -> Vec<String> {
    column(&mut scene.thief(), "DELETE FROM lair.loot RETURNING what", &[])
}

const COMMANDS: [&str; 4] =
    ["ANALYZE lair.t", "REINDEX TABLE lair.t", "VACUUM (FULL, ANALYZE) lair.t", "CLUSTER lair.t USING t_f"];

const DEFINERS: &str = "CREATE TABLE audit (what text);
     CREATE FUNCTION listed() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS 'SELECT body FROM notes';
     CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
         'BEGIN INSERT INTO audit VALUES (NEW.what); NEW.what := (SELECT max(body) FROM notes); RETURN NEW; END';
     CREATE FUNCTION apart(a int, b int) RETURNS float8 LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path FROM CURRENT AS
         'BEGIN RETURN (SELECT 4711 + count(*) FROM notes); END'";

fn with_definers(db: &Db) -> Scene<'_> {
    let scene = Scene::set(db);
    db.add_migration("2", DEFINERS);
    for tenant in [scene.victim, scene.thief] {
        run(&mut db.admin(), &format!("SELECT tenant_migrate('{tenant}')"));
    }
    scene
}

fn definer_functions(db: &Db) {
    let scene = with_definers(db);
    plant_index(&mut scene.thief(), "INSERT INTO lair.loot SELECT tenant_victim.listed()");
    for command in COMMANDS {
        run(&mut db.superuser(), command);
        let looted = loot(&scene);
        assert!(looted.iter().all(|what| what == "42501") && !looted.is_empty(), "{command}: {looted:?}");
    }
    // An identity set in the session applies only to what the session does itself.
    run(&mut scene.thief(), "DROP TABLE lair.t; DROP FUNCTION lair.f, lair.g");
    plant_index(&mut scene.thief(), "INSERT INTO lair.loot SELECT body FROM tenant_victim.notes");
    for identity in ["user_id", "tenant_id"] {
        let id = if identity == "user_id" { scene.owner } else { scene.victim };
        for command in COMMANDS {
            let mut superuser = db.superuser();
            run(
                &mut superuser,
                &format!("SET fluxbase_tenant.{identity} = '{id}'; SELECT count(*) FROM tenant_victim.notes"),
            );
            run(&mut superuser, command);
            let looted = loot(&scene);
            assert!(
                looted.iter().all(|what| what == "42501") && !looted.is_empty(),
                "{identity} {command}: {looted:?}"
            );
        }
    }
    // The tenant's own functions work on the tenant's own tables.
    db.add_migration(
        "3",
        "CREATE FUNCTION counted(e text) RETURNS text LANGUAGE plpgsql IMMUTABLE SECURITY DEFINER SET search_path FROM CURRENT AS
             'BEGIN RETURN e || (SELECT count(*) FROM notes); END';
         CREATE TABLE people AS SELECT 'x' AS name FROM generate_series(1, 5); CREATE INDEX ON people (counted(name));
         CREATE MATERIALIZED VIEW listing AS SELECT listed() AS what",
    );
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
    run(
        &mut db.superuser(),
        "ANALYZE tenant_victim.people; REINDEX TABLE tenant_victim.people; REFRESH MATERIALIZED VIEW tenant_victim.listing",
    );
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM tenant_victim.listing", &[]), 3);
}

fn triggers_of_a_former_member(db: &Db) {
    let scene = with_definers(db);
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{}', '{}')", scene.victim, scene.crook));
    let mut thief = scene.thief();
    run(
        &mut thief,
        "CREATE TABLE lair.loot (what text);
         CREATE TRIGGER noted BEFORE INSERT ON lair.loot FOR EACH ROW EXECUTE FUNCTION tenant_victim.noted()",
    );
    plant_index(&mut thief, "INSERT INTO lair.loot VALUES ('forged')");
    // While the role is a member, the trigger works.
    run(&mut thief, "INSERT INTO lair.loot VALUES ('written by a member')");
    assert_eq!(loot(&scene), ["tenant_victim secret"]);
    run(&mut db.admin(), &format!("SELECT tenant_remove_member('{}', '{}')", scene.victim, scene.crook));
    for command in COMMANDS {
        // Recording the error in the loot table fires the same trigger, so the command fails.
        assert!(db.superuser().batch_execute(command).is_err(), "{command}");
    }
    // The same holds for a former member's function that a superuser calls.
    run(
        &mut scene.thief(),
        "CREATE FUNCTION lair.harmless() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$ INSERT INTO lair.loot VALUES ('forged') $$",
    );
    expect_error(db.superuser().batch_execute("SELECT lair.harmless()"), "42501");
    assert!(loot(&scene).is_empty());
    let audit: Vec<String> = column(&mut db.superuser(), "SELECT what FROM tenant_victim.audit", &[]);
    assert_eq!(audit, ["written by a member"]);
}

fn views_and_functions_of_admins(db: &Db) {
    let scene = Scene::set(db);
    let ops = format!("ops_of_{}", db.name());
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE {ops} LOGIN IN ROLE fluxbase_tenant_admin; CREATE SCHEMA ops AUTHORIZATION {ops}; GRANT USAGE ON SCHEMA ops TO PUBLIC;
             SET ROLE {ops}; CREATE VIEW ops.report AS SELECT body FROM tenant_victim.notes; GRANT SELECT ON ops.report TO PUBLIC;
             CREATE FUNCTION ops.reported() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT body FROM tenant_victim.notes';
             CREATE FUNCTION ops.suspend() RETURNS text LANGUAGE sql SECURITY DEFINER AS
                 $$ SELECT slug FROM public.tenant_suspend('{}') $$;
             CREATE MATERIALIZED VIEW ops.daily AS SELECT body FROM tenant_victim.notes",
            scene.victim
        ),
    );
    for (number, query) in
        ["SELECT body FROM ops.report", "SELECT ops.reported()", "SELECT ops.suspend()"].into_iter().enumerate()
    {
        run(&mut scene.thief(), "DROP TABLE IF EXISTS lair.t; DROP FUNCTION IF EXISTS lair.f, lair.g");
        plant_index(&mut scene.thief(), &format!("INSERT INTO lair.loot {query}"));
        for command in COMMANDS {
            run(&mut db.superuser(), command);
            let looted = loot(&scene);
            assert!(looted.iter().all(|what| what == "42501" || what == "28000"), "{number} {command}: {looted:?}");
        }
    }
    run(
        &mut scene.thief(),
        "CREATE FUNCTION lair.harmless() RETURNS SETOF bigint LANGUAGE plpgsql SECURITY DEFINER AS
             'BEGIN RETURN QUERY SELECT (SELECT count(*) FROM ops.reported()) FROM pg_class LIMIT 1; END'",
    );
    run(&mut db.superuser(), "ALTER FUNCTION ops.reported() PARALLEL SAFE");
    let parallel = if db.major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
    for mode in ["off", "on"] {
        for mut client in [db.superuser(), db.connect_as(&ops, "")] {
            run(&mut client, &format!("SET {parallel} = {mode}"));
            let reported = client.query("SELECT lair.harmless()", &[]).map_or(0, |rows| rows[0].get::<_, i64>(0));
            assert_eq!(reported, 0, "{mode}");
            assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM ops.reported()", &[]), 3);
        }
    }
    // The admins' own views and functions work for them.
    let mut admin = db.connect_as(&ops, "");
    assert_eq!(one::<i64>(&mut admin, "SELECT count(*) FROM ops.report", &[]), 3);
    for mut client in [admin, db.superuser()] {
        run(&mut client, "REFRESH MATERIALIZED VIEW ops.daily");
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM ops.daily", &[]), 3);
    }
}

/// Autovacuum ignores session_preload_libraries. The library is loaded only when the code calls a function of the
/// extension.
fn automatic_analyze(db: &Db) {
    let cluster = Cluster::start(db.install(), &["autovacuum_naptime = 1"]);
    let db = &Db::new(&cluster);
    let scene = with_definers(db);
    plant_index(&mut scene.thief(), "INSERT INTO lair.loot SELECT tenant_victim.listed()");
    run(
        &mut db.superuser(),
        "ALTER TABLE lair.t SET (autovacuum_enabled = on, autovacuum_analyze_threshold = 1, autovacuum_analyze_scale_factor = 0);
         SET application_name = own; UPDATE lair.t SET x = x WHERE x > 1",
    );
    let mut looted = Vec::new();
    while looted.is_empty() {
        sleep(Duration::from_millis(100));
        looted = loot(&scene);
    }
    assert_eq!(looted, ["42501"]);
}

/// From PostgreSQL 17 on, pg_stats shows a role the lengths of the ranges in its columns, as computed by the type's
/// subtype_diff.
fn subtype_diff_of_a_range_type(db: &Db) {
    let scene = with_definers(db);
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{}', '{}')", scene.victim, scene.crook));
    run(&mut scene.thief(), "CREATE TYPE lair.r AS RANGE (subtype = int4, subtype_diff = tenant_victim.apart)");
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.t (r lair.r) WITH (autovacuum_enabled = off); INSERT INTO lair.t SELECT lair.r(i, i + 1) FROM generate_series(1, 10) i;
         SELECT tenant_victim.apart(1, 2)",
    );
    // In maintenance, a SECURITY DEFINER function runs without an identity, even for a member who maintains their own
    // table: the function that calls it cannot be determined.
    expect_error(scene.thief().batch_execute("ANALYZE lair.t"), "42501");
    let found = "SELECT count(*) FROM pg_statistic WHERE starelid = 'lair.t'::regclass AND stavalues1::text || stavalues2::text LIKE '%4714%'";
    run(&mut db.admin(), &format!("SELECT tenant_remove_member('{}', '{}')", scene.victim, scene.crook));
    assert!(db.superuser().batch_execute("ANALYZE lair.t").is_err());
    // The same holds if the session has just maintained the tenant's own table, whose index calls the function.
    db.migrate(
        scene.victim,
        "CREATE TABLE other AS SELECT generate_series(1, 20) AS n; CREATE INDEX ON other (apart(n, n))",
    );
    for begin in ["", "BEGIN; "] {
        let mut superuser = db.superuser();
        run(&mut superuser, &format!("{begin}ANALYZE tenant_victim.other"));
        expect_error(superuser.batch_execute("ANALYZE lair.t"), "42501");
    }
    expect_error(db.superuser().batch_execute("ANALYZE tenant_victim.other, lair.t"), "42501");
    assert_eq!(one::<i64>(&mut db.superuser(), found, &[]), 0);
}

/// Lets the maintainer maintain `lair.t`: by a grant to every role from PostgreSQL 17 on, otherwise by owning the
/// database.
fn allow_maintenance(db: &Db, maintainer: &str) {
    let grant = if db.major() >= 17 {
        "GRANT MAINTAIN ON lair.t TO PUBLIC".to_string()
    } else {
        format!("ALTER DATABASE {} OWNER TO {maintainer}", db.name())
    };
    run(&mut db.superuser(), &grant);
}

/// Creates a role that may set the current user.
fn maintainer(db: &Db) -> String {
    let role = format!("maintainer_of_{}", db.name());
    run(&mut db.superuser(), &format!("CREATE ROLE {role} LOGIN; GRANT fluxbase_tenant_server TO {role}"));
    role
}

fn drop_maintainer(db: &Db, role: &str) {
    if db.major() < 17 {
        run(&mut db.superuser(), &format!("ALTER DATABASE {} OWNER TO CURRENT_USER", db.name()));
    }
    run(&mut db.superuser(), &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// The function returns each caller's own rows, but must not treat untrusted code in maintenance as the maintaining
/// user.
fn definer_functions_of_the_maintainer(db: &Db) {
    let scene = with_definers(db);
    let maintainer = maintainer(db);
    run(
        &mut db.superuser(),
        &format!("CREATE SCHEMA helpers AUTHORIZATION {maintainer}; GRANT USAGE ON SCHEMA helpers TO PUBLIC"),
    );
    let mut client = db.connect_as(&maintainer, &format!("-c fluxbase_tenant.user_id={}", scene.owner));
    run(
        &mut client,
        "CREATE FUNCTION helpers.notes_of_mine() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER
         AS 'SELECT body FROM tenant_victim.notes'",
    );
    plant_index(&mut scene.thief(), "INSERT INTO lair.loot SELECT helpers.notes_of_mine()");
    allow_maintenance(db, &maintainer);
    run(&mut client, "ANALYZE lair.t");
    assert_eq!(loot(&scene), ["42501"]);
    assert_eq!(column::<String>(&mut client, "SELECT helpers.notes_of_mine()", &[]).len(), 3);
    drop(client);
    drop_maintainer(db, &maintainer);
}

/// A SECURITY DEFINER function that untrusted code calls does not act for the maintaining user.
fn maintenance_by_members(db: &Db) {
    let scene = with_definers(db);
    let maintainer = maintainer(db);
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.loot (what text);
         CREATE FUNCTION lair.steal() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN INSERT INTO lair.loot SELECT body FROM tenant_victim.notes; END $$",
    );
    plant_index(&mut scene.thief(), "PERFORM lair.steal()");
    allow_maintenance(db, &maintainer);
    let mut client = db.connect_as(&maintainer, "");
    for identity in [
        format!("fluxbase_tenant.user_id = '{}'", scene.owner),
        format!("fluxbase_tenant.tenant_id = '{}'", scene.victim),
    ] {
        run(&mut client, &format!("RESET ALL; SET {identity}; ANALYZE lair.t"));
        assert_eq!(loot(&scene), ["42501"], "{identity}");
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_victim.notes", &[]), 3, "the session itself");
    }
    drop(client);
    drop_maintainer(db, &maintainer);
}

/// A view of the admin's does not act for the admin when untrusted code reads it.
fn maintenance_by_admins(db: &Db) {
    let scene = with_definers(db);
    let boss = format!("boss_of_{}", db.name());
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE {boss} LOGIN; GRANT fluxbase_tenant_admin TO {boss}; CREATE SCHEMA office AUTHORIZATION {boss};
             GRANT USAGE ON SCHEMA office TO fluxbase_tenant_user"
        ),
    );
    let mut client = db.connect_as(&boss, "");
    run(
        &mut client,
        "CREATE VIEW office.recent AS SELECT body FROM tenant_victim.notes; GRANT SELECT ON office.recent TO fluxbase_tenant_user",
    );
    plant_index(&mut scene.thief(), "INSERT INTO lair.loot SELECT body FROM office.recent");
    allow_maintenance(db, &boss);
    run(&mut client, "ANALYZE lair.t");
    assert_eq!(loot(&scene), ["42501"]);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM office.recent", &[]), 3, "the session itself");
    drop(client);
    drop_maintainer(db, &boss);
}

/// ANALYZE in a migration covers every table that the owner role may maintain. Code of other roles on these tables runs
/// without an identity.
fn analyze_in_migrations(db: &Db) {
    if db.major() < 17 {
        return;
    }
    let scene = with_definers(db);
    plant_index(&mut scene.thief(), "INSERT INTO lair.loot SELECT body FROM tenant_victim.notes");
    allow_maintenance(db, "");
    // Without a table list, only the tenant's own tables are analyzed.
    db.add_migration("3", "CREATE INDEX ON notes (body); ANALYZE");
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
    db.add_nontransactional("4", "VACUUM ANALYZE");
    db.migrate_all("tenants => '{victim}', retries => 0, parallel => 1");
    assert_eq!(loot(&scene), [""; 0]);
    let analyzed = "SELECT count(*) FROM pg_stats WHERE schemaname = 'tenant_victim' AND tablename = 'notes'";
    assert!(one::<i64>(&mut db.superuser(), analyzed, &[]) > 0);
    // With a list, other roles' code runs without an identity.
    run(&mut scene.thief(), "GRANT USAGE ON SCHEMA lair TO PUBLIC");
    db.add_migration("4.1", "ANALYZE lair.t");
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
    assert_eq!(loot(&scene), ["42501"]);
    // The tenant's own code has access to the tenant.
    db.add_migration(
        "5",
        "CREATE FUNCTION own(int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS
         $$ BEGIN RETURN (SELECT count(*) FROM audit); END $$; CREATE INDEX ON notes (own(id)); ANALYZE notes",
    );
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
}
