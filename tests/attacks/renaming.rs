//! Schemas renamed while the extension's own commands wait, so that a name refers to another role's table.

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    protect,
    unprotect,
    attached_partitions,
    tables_owned_by_a_superuser,
    schema_of_the_extension,
    default_of_the_column,
    event_triggers_of_an_administrator,
];

/// Sets up the thief's partitioned table `lair.t`, and the thief's schema `trap` with a superuser's shared table that
/// is named like one of its partitions.
fn world(db: &Db) -> Scene<'_> {
    let scene = Scene::set(db);
    let (role, victim) = (&scene.role, scene.victim);
    run(&mut db.superuser(), &format!("GRANT CREATE ON DATABASE {} TO {role}", db.name()));
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.t (n int, thief uuid) PARTITION BY LIST (n); CREATE TABLE lair.a PARTITION OF lair.t FOR VALUES IN (1);
         CREATE TABLE lair.b PARTITION OF lair.t FOR VALUES IN (2); CREATE TABLE lair.c (n int, thief uuid);
         CREATE SCHEMA trap; GRANT ALL ON SCHEMA trap TO PUBLIC; CREATE TABLE trap.a (n int, thief uuid);
         CREATE TABLE trap.t (n int, thief uuid); CREATE TABLE trap.c (n int, thief uuid)",
    );
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE trap.b (n int, thief uuid, secret text); SELECT tenant_protect('trap.b');
             GRANT SELECT ON trap.b TO fluxbase_tenant_user; INSERT INTO trap.b VALUES (1, NULL, 'of the victim', '{victim}')"
        ),
    );
    scene
}

const POLICY: &str = "SELECT string_agg(polname || ' ' || pg_get_expr(polqual, polrelid), ';' ORDER BY polname)
                      FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_attribute a ON a.attrelid = c.oid
                      WHERE a.attname = 'secret' AND c.relrowsecurity AND c.relforcerowsecurity";

fn wait_for_a_blocked_session(db: &Db) {
    let waits =
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
    until("a session waits for a lock", || one::<bool>(&mut db.superuser(), waits, &[]));
}

/// Runs a call that waits for the thief, who then renames the schemas. The call is refused or has changed only the
/// thief's own tables.
fn renamed_while(scene: &Scene, prepare: &str, call: &str) {
    let before: String = one(&mut scene.db.superuser(), POLICY, &[]);
    let mut thief = scene.thief();
    run(&mut thief, &format!("BEGIN; LOCK TABLE lair.a; {prepare}"));
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let mut superuser = scene.db.superuser();
            superuser.batch_execute(&call.replace("{role}", &scene.role))
        });
        wait_for_a_blocked_session(scene.db);
        run(&mut thief, "ALTER SCHEMA lair RENAME TO old; ALTER SCHEMA trap RENAME TO lair; COMMIT");
        if let Err(error) = calling.join().unwrap() {
            expect_error(Err::<(), _>(error), "55000").message_has("renamed concurrently");
        }
    });
    assert_eq!(one::<String>(&mut scene.db.superuser(), POLICY, &[]), before);
    assert_eq!(one::<i64>(&mut scene.thief(), "SELECT count(*) FROM lair.b", &[]), 0);
}

fn protect(db: &Db) {
    let scene = world(db);
    renamed_while(&scene, "", "SELECT tenant_protect('lair.t', 'thief')");
}

fn unprotect(db: &Db) {
    let scene = world(db);
    run(&mut db.superuser(), "SELECT tenant_protect('lair.t')");
    let drop = "DROP POLICY tenant_isolation ON lair.t; DROP POLICY tenant_isolation ON lair.a; DROP POLICY tenant_isolation ON lair.b";
    renamed_while(&scene, drop, "SELECT tenant_unprotect('lair.t')");
}

fn attached_partitions(db: &Db) {
    let scene = world(db);
    run(
        &mut scene.thief(),
        "CREATE POLICY tenant_isolation ON lair.t AS RESTRICTIVE USING (thief = ANY ((SELECT fluxbase_tenant.accessible_tenant_ids())::uuid[]));
         DROP POLICY IF EXISTS tenant_isolation ON lair.a; DROP POLICY IF EXISTS tenant_isolation ON lair.b",
    );
    let attach = "SET SESSION AUTHORIZATION {role}; ALTER TABLE lair.t ATTACH PARTITION lair.c FOR VALUES IN (9)";
    renamed_while(&scene, "", attach);
}

/// The table's owner is a superuser, so the update runs as one and must not fire the triggers of the thief's table.
fn tables_owned_by_a_superuser(db: &Db) {
    let scene = world(db);
    scene.plant_spies();
    run(
        &mut scene.thief(),
        "CREATE SCHEMA nest; GRANT ALL ON SCHEMA nest TO PUBLIC; CREATE TABLE nest.b (n int, thief uuid, secret text, more uuid);
         INSERT INTO nest.b VALUES (1); CREATE TRIGGER spy BEFORE UPDATE ON nest.b FOR EACH ROW EXECUTE FUNCTION lair.on_row()",
    );
    let mut thief = scene.thief();
    run(&mut db.superuser(), &format!("GRANT UPDATE ON trap.b TO {}", scene.role));
    run(&mut db.superuser(), "ALTER TABLE trap.b ADD more uuid; SELECT tenant_unprotect('trap.b')");
    run(&mut thief, "BEGIN; LOCK TABLE trap.b IN ROW EXCLUSIVE MODE");
    std::thread::scope(|scope| {
        let protect = format!("SELECT tenant_protect('trap.b', 'more', existing_rows => '{}')", scene.victim);
        let calling = scope.spawn(move || db.superuser().batch_execute(&protect));
        wait_for_a_blocked_session(db);
        run(&mut thief, "ALTER SCHEMA trap RENAME TO old; ALTER SCHEMA nest RENAME TO trap; COMMIT");
        expect_error(calling.join().unwrap(), "55000").message_has("renamed concurrently");
    });
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM lair.seen WHERE who <> 'nobody'", &[]), 0);
}

/// The database's owner can rename schema public, too.
fn schema_of_the_extension(db: &Db) {
    let scene = world(db);
    run(
        &mut db.superuser(),
        &format!(
            "ALTER DATABASE {} OWNER TO {}; ALTER TABLE trap.b SET SCHEMA public; CREATE TABLE public.c (n int, thief uuid)",
            db.name(),
            scene.role
        ),
    );
    let before: String = one(&mut db.superuser(), POLICY, &[]);
    let mut thief = scene.thief();
    run(
        &mut thief,
        "CREATE POLICY tenant_isolation ON lair.t AS RESTRICTIVE USING (thief = ANY ((SELECT fluxbase_tenant.accessible_tenant_ids())::uuid[]));
         DROP POLICY IF EXISTS tenant_isolation ON lair.a; DROP POLICY IF EXISTS tenant_isolation ON lair.b; BEGIN; LOCK TABLE lair.a",
    );
    std::thread::scope(|scope| {
        let calling =
            scope.spawn(|| scene.thief().batch_execute("ALTER TABLE lair.t ATTACH PARTITION lair.c FOR VALUES IN (9)"));
        wait_for_a_blocked_session(db);
        run(&mut thief, "ALTER SCHEMA lair RENAME TO old; ALTER SCHEMA public RENAME TO lair; COMMIT");
        drop(calling.join().unwrap());
    });
    assert_eq!(one::<String>(&mut db.superuser(), POLICY, &[]), before);
    run(&mut db.superuser(), "ALTER SCHEMA lair RENAME TO public");
}

/// The database's owner can create functions and casts in the extension's schema.
fn default_of_the_column(db: &Db) {
    let scene = world(db);
    run(
        &mut db.superuser(),
        &format!(
            "ALTER DATABASE {} OWNER TO {}; CREATE TABLE trap.bills (n int, tenant_id uuid NOT NULL);
             GRANT SELECT ON trap.bills TO {}; GRANT USAGE ON SCHEMA trap TO PUBLIC",
            db.name(),
            scene.role,
            scene.role
        ),
    );
    let mut thief = scene.thief();
    run(
        &mut thief,
        "CREATE SCHEMA nest; GRANT USAGE ON SCHEMA nest TO PUBLIC; CREATE TYPE nest.egg AS (n int);
         CREATE TABLE nest.seen (who text); GRANT INSERT ON nest.seen TO PUBLIC;
         CREATE FUNCTION nest.tenant_current_id() RETURNS nest.egg LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO nest.seen VALUES (current_user); RETURN ROW(1)::nest.egg; END $$;
         CREATE FUNCTION public.tenant_current_id(nest.egg) RETURNS uuid LANGUAGE sql AS 'SELECT gen_random_uuid()';
         CREATE CAST (nest.egg AS uuid) WITH FUNCTION public.tenant_current_id(nest.egg) AS ASSIGNMENT;
         BEGIN; SELECT count(*) FROM trap.bills",
    );
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| db.superuser().batch_execute("SELECT tenant_protect('trap.bills')"));
        wait_for_a_blocked_session(db);
        run(
            &mut thief,
            "ALTER SCHEMA public RENAME TO old; ALTER SCHEMA nest RENAME TO public; COMMIT;
             ALTER SCHEMA public RENAME TO nest; ALTER SCHEMA old RENAME TO public",
        );
        calling.join().unwrap().unwrap();
    });
    let default = "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'trap.bills'::regclass";
    assert_eq!(one::<String>(&mut db.superuser(), default, &[]), "tenant_current_id()");
    run(
        &mut db.superuser(),
        &format!("SET fluxbase_tenant.tenant_id = '{}'; INSERT INTO trap.bills VALUES (1)", scene.victim),
    );
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM nest.seen", &[]), 0);
    assert_eq!(
        one::<i64>(
            &mut db.superuser(),
            &format!("SELECT count(*) FROM trap.bills WHERE tenant_id = '{}'", scene.victim),
            &[]
        ),
        1
    );
}

/// An administrator's event trigger may use its own schemas while the extension's command runs.
fn event_triggers_of_an_administrator(db: &Db) {
    let _scene = world(db);
    run(
        &mut db.superuser(),
        "CREATE SCHEMA audit; CREATE TABLE audit.log (tag text);
         CREATE FUNCTION audit.note() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN INSERT INTO audit.log VALUES (tg_tag); END $$;
         CREATE EVENT TRIGGER note ON ddl_command_end EXECUTE FUNCTION audit.note();
         CREATE TABLE jobs (n int) PARTITION BY LIST (n); SELECT tenant_protect('jobs');
         CREATE TABLE jobs1 PARTITION OF jobs FOR VALUES IN (1); SELECT tenant_unprotect('jobs')",
    );
    assert!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM audit.log WHERE tag = 'CREATE POLICY'", &[]) >= 2);
}
