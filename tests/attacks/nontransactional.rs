//! Nontransactional commands run at the top level of a superuser's worker, over several transactions. Functions of the
//! tenant that they call run as the tenant's owner role throughout, without a user.

use uuid::Uuid;

use crate::cases;
use crate::support::Db;
use crate::support::people::{column, new_user, one, run};
use crate::support::scene::Scene;

cases![functions_called_by_commands, identity_forged_by_a_function, identity_in_parallel_builds, deferred_triggers,];

/// Statements that must fail, whichever command calls the function.
const TRIES: &[&str] = &[
    "SET ROLE postgres",
    "SET ROLE NONE",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION postgres",
    "RESET SESSION AUTHORIZATION",
    "SELECT set_config('role', 'postgres', false)",
    "SELECT set_config('session_authorization', 'postgres', false)",
    "SELECT * FROM tenant_victim.notes",
    "DELETE FROM tenant_victim.notes",
    "SELECT * FROM fluxbase_tenant.tenants",
    "INSERT INTO fluxbase_tenant.instance_admins SELECT gen_random_uuid()",
    "UPDATE fluxbase_tenant.unfinished_migrations SET statements_done = 0",
    "SELECT * FROM public.tenant_list()",
    "SELECT public.tenant_grant_instance_admin(gen_random_uuid())",
    "SELECT public.tenant_set_current('victim')",
    "SELECT public.tenant_migration_add('99', 'x', 'SELECT 1')",
    "SELECT * FROM public.tenant_migrate_all()",
    "SET fluxbase_tenant.user_id = '{boss}'",
    "SELECT set_config('fluxbase_tenant.tenant_id', '{victim}', false)",
    "SET fluxbase_tenant.user_id_setting = 'mine.user'",
    "SET session_replication_role = replica",
    "SET log_statement = 'none'",
    "SELECT pg_read_file('postgresql.conf')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "ALTER ROLE postgres SET work_mem = '1MB'",
    "CREATE ROLE mine",
    "CREATE TEMP TABLE t ()",
    "LISTEN x",
    "PREPARE p AS SELECT 1",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "COMMIT",
    "VACUUM",
];

/// Creates functions of the thief's that record which role they run as and which of the tries succeeded.
fn plant(scene: &Scene, boss: Uuid) {
    let tries = TRIES.iter().map(|one| format!("({})", quoted(one))).collect::<Vec<_>>().join(", ");
    let tries = tries.replace("{boss}", &boss.to_string()).replace("{victim}", &scene.victim.to_string());
    scene.db.migrate(
        scene.thief,
        &format!(
            "CREATE TABLE seen (who text, boss boolean, tenant uuid, me uuid); CREATE TABLE tries (what text, code text);
             CREATE TABLE list (what text); INSERT INTO list VALUES {tries};
             CREATE FUNCTION spy() RETURNS boolean LANGUAGE plpgsql AS $f$ DECLARE try text; BEGIN
                 FOR try IN SELECT what FROM tenant_thief.list LOOP
                     BEGIN EXECUTE try; INSERT INTO tenant_thief.tries VALUES (try, 'done');
                     EXCEPTION WHEN OTHERS THEN INSERT INTO tenant_thief.tries VALUES (try, SQLSTATE); END;
                 END LOOP;
                 INSERT INTO tenant_thief.seen VALUES (current_user, public.tenant_is_instance_admin(),
                     public.tenant_current_id(), public.tenant_current_user_id());
                 RETURN true; END $f$;
             CREATE FUNCTION quiet(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
                 $f$ BEGIN RETURN tenant_thief.spy(); END $f$;
             CREATE TABLE bait (n int PRIMARY KEY); INSERT INTO bait VALUES (1)"
        ),
    );
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The functions ran as the owner role, in its tenant's service context, and every try failed.
#[track_caller]
fn assert_every_try_failed(scene: &Scene, command: &str) {
    let mut superuser = scene.db.superuser();
    let sql = "SELECT DISTINCT concat_ws(' ', who, boss, tenant, me) FROM tenant_thief.seen";
    let seen: Vec<String> = column(&mut superuser, sql, &[]);
    assert_eq!(seen, [format!("{} f {}", Db::owner_role(scene.thief), scene.thief)], "{command}");
    let done = "SELECT DISTINCT what FROM tenant_thief.tries WHERE code = 'done'";
    assert_eq!(column::<String>(&mut superuser, done, &[]), [""; 0], "{command}");
    let tried = "SELECT count(DISTINCT what) FROM tenant_thief.tries";
    assert_eq!(one::<i64>(&mut superuser, tried, &[]), TRIES.len() as i64, "{command}");
    run(&mut superuser, "TRUNCATE tenant_thief.seen, tenant_thief.tries");
    scene.victim_is_unharmed();
}

fn functions_called_by_commands(db: &Db) {
    let scene = Scene::set(db);
    let boss = new_user();
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{boss}')"));
    plant(&scene, boss);
    for command in [
        "CREATE INDEX CONCURRENTLY a_idx ON bait ((quiet(n)))",
        "CREATE UNIQUE INDEX CONCURRENTLY b_idx ON bait (n) WHERE quiet(n)",
        "VACUUM (FULL) bait",
        "VACUUM (ANALYZE) bait",
        "VACUUM (FULL, ANALYZE)",
        "REINDEX INDEX a_idx",
        "REINDEX INDEX CONCURRENTLY a_idx",
        "REINDEX TABLE CONCURRENTLY bait",
        "REINDEX SCHEMA tenant_thief",
        "CLUSTER bait USING bait_pkey",
    ] {
        assert_eq!(scene.run_nontransactional(command), "migrated 1", "{command}");
        assert_every_try_failed(&scene, command);
    }
    // Nothing that was refused affects the worker's next tenant or the next migration.
    db.add_migration("99", "CREATE TABLE who AS SELECT current_user::text AS name");
    let version = "SELECT count(*) FROM fluxbase_tenant.applied_migrations WHERE version = '99'";
    db.migrate_all("parallel => 1");
    assert_eq!(
        one::<i64>(&mut db.superuser(), version, &[]),
        1,
        "applied only to the thief: the victim has no table bait"
    );
}

/// The application may keep the user in a setting that every role can set.
fn identity_forged_by_a_function(db: &Db) {
    let scene = Scene::set(db);
    let boss = new_user();
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{boss}')"));
    db.configure("fluxbase_tenant.user_id_setting", "mine.user");
    db.configure("fluxbase_tenant.tenant_id_setting", "mine.tenant");
    db.migrate(
        scene.thief,
        &format!(
            "CREATE TABLE seen (boss boolean, tenant uuid, me uuid, names text);
             CREATE FUNCTION spy() RETURNS boolean LANGUAGE plpgsql AS $f$ DECLARE names text; BEGIN
                 PERFORM set_config('mine.user', '{boss}', false), set_config('mine.tenant', '{}', false);
                 BEGIN SELECT string_agg(slug, ' ') INTO names FROM public.tenant_list();
                 EXCEPTION WHEN insufficient_privilege THEN names := NULL; END;
                 INSERT INTO tenant_thief.seen VALUES (public.tenant_is_instance_admin(),
                     public.tenant_current_id(), public.tenant_current_user_id(), names);
                 RETURN true; END $f$;
             CREATE FUNCTION quiet(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
                 $f$ BEGIN RETURN tenant_thief.spy(); END $f$;
             CREATE TABLE bait (n int PRIMARY KEY); INSERT INTO bait VALUES (1)",
            scene.victim
        ),
    );
    for command in ["CREATE INDEX CONCURRENTLY ON bait ((quiet(n)))", "VACUUM (ANALYZE) bait", "REINDEX TABLE bait"] {
        assert_eq!(scene.run_nontransactional(command), "migrated 1");
        let sql = "SELECT DISTINCT concat_ws(' ', boss, tenant, me, names) FROM tenant_thief.seen";
        assert_eq!(column::<String>(&mut db.superuser(), sql, &[]), [format!("f {}", scene.thief)], "{command}");
        run(&mut db.superuser(), "TRUNCATE tenant_thief.seen");
    }
    db.configure("fluxbase_tenant.user_id_setting", "fluxbase_tenant.user_id");
    db.configure("fluxbase_tenant.tenant_id_setting", "fluxbase_tenant.tenant_id");
    scene.victim_is_unharmed();
}

/// A parallel worker knows only the settings of its leader.
fn identity_in_parallel_builds(db: &Db) {
    let scene = Scene::set(db);
    let boss = new_user();
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{boss}')"));
    db.configure("fluxbase_tenant.user_id_setting", "mine.user");
    let force = if db.major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
    let parallel = format!(
        "CREATE FUNCTION forge() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             PERFORM set_config('mine.user', '{boss}', true), set_config('{force}', 'regress', true);
             CREATE TABLE told AS SELECT tenant_is_instance_admin() AS boss, tenant_current_user_id() AS me
                 FROM notes; END $$;
         SELECT forge()"
    );
    db.migrate(scene.thief, &parallel);
    let seen = "SELECT DISTINCT concat_ws(' ', boss, me) FROM tenant_thief.told";
    assert_eq!(column::<String>(&mut db.superuser(), seen, &[]), ["f"]);
    // The results of the build's workers are stored in the index and reported in the leader's error message.
    let build = "CREATE FUNCTION found(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$ BEGIN
             IF public.tenant_is_instance_admin() THEN RAISE 'forged' USING ERRCODE = 'XX999'; END IF;
             RETURN true; END $$;
         CREATE FUNCTION forged() RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$ BEGIN
             IF current_setting('mine.user', true) IS DISTINCT FROM '{boss}' THEN
                 PERFORM set_config('mine.user', '{boss}', false);
             END IF;
             RETURN true; END $$;
         CREATE TABLE bait (n int); INSERT INTO bait SELECT generate_series(1, 100);
         ALTER TABLE bait SET (parallel_workers = 2);
         CREATE INDEX CONCURRENTLY ON bait ((found(n))) WHERE forged()";
    assert_eq!(scene.run_nontransactional(&build.replace("{boss}", &boss.to_string())), "migrated 1");
    db.configure("fluxbase_tenant.user_id_setting", "fluxbase_tenant.user_id");
    scene.victim_is_unharmed();
}

/// A deferred trigger would run when the command commits, as the role that is current then.
fn deferred_triggers(db: &Db) {
    let scene = Scene::set(db);
    db.migrate(
        scene.thief,
        "CREATE TABLE seen (who text); CREATE TABLE late (n int);
         CREATE FUNCTION on_row() RETURNS trigger LANGUAGE plpgsql AS
             $f$ BEGIN INSERT INTO tenant_thief.seen VALUES (current_user); RETURN NEW; END $f$;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION on_row();
         CREATE FUNCTION spy() RETURNS boolean LANGUAGE plpgsql AS
             $f$ BEGIN INSERT INTO tenant_thief.late VALUES (1); RETURN true; END $f$;
         CREATE FUNCTION quiet(int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
             $f$ BEGIN RETURN tenant_thief.spy(); END $f$;
         CREATE TABLE empty (n int); CREATE INDEX ON empty ((quiet(n)));
         CREATE TABLE bait (n int PRIMARY KEY); INSERT INTO bait VALUES (1)",
    );
    for command in [
        "CREATE INDEX CONCURRENTLY ON bait ((quiet(n)))",
        "CREATE INDEX CONCURRENTLY ON bait (n) WHERE quiet(n)",
        "INSERT INTO late VALUES (1); CREATE INDEX CONCURRENTLY ON bait (n) WHERE quiet(n)",
    ] {
        let seen = scene.run_nontransactional(command);
        assert_eq!(seen, "failed 0 42501", "{command}");
    }
    let sql = "SELECT DISTINCT who FROM tenant_thief.seen";
    let owner = Db::owner_role(scene.thief);
    assert_eq!(column::<String>(&mut db.superuser(), sql, &[]), [owner], "only for the INSERT, and at once");
}
