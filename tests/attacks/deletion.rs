//! Code on shared tables that runs when a tenant is deleted. It runs only with the privileges of the table's owner and
//! leaves nothing in the session.

use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::removal::{bait, left, removed, trigger};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    held_cursor_that_runs_at_commit,
    triggers_run_only_as_the_tables_owner,
    triggers_in_parallel_workers,
    functions_evaluated_by_a_delete,
    triggers_created_after_the_snapshot,
    table_swapped_while_the_deletion_waits,
    partition_replaced_during_a_removal,
    session_state_left_by_a_trigger,
];

/// Returns every way in which a superuser deletes tenants permanently: the call, and the tenants that it deletes.
fn deletions(db: &Db) -> Vec<(&'static str, Vec<Uuid>)> {
    let mut superuser = db.superuser();
    let (one_id, two, three) =
        (db.new_tenant("one", new_user()), db.new_tenant("two", new_user()), db.new_tenant("three", new_user()));
    run(&mut superuser, &format!("SELECT tenant_soft_delete('{two}'), tenant_soft_delete('{three}')"));
    // Spares must not contain the name of their schema, as the scene's notes do.
    db.add_migration("1000", "DELETE FROM notes");
    run(&mut superuser, "SELECT tenant_spares_fill(2)");
    let spares: Vec<Uuid> = column(&mut superuser, "SELECT id FROM fluxbase_tenant.tenants WHERE spare", &[]);
    vec![
        ("tenant_delete((SELECT id FROM tenant_list() WHERE slug = 'one'))", vec![one_id]),
        ("tenant_purge('0')", vec![two, three]),
        ("tenant_spares_fill(0)", spares),
    ]
}

/// A cursor WITH HOLD runs its query at commit, as the session's user, who may be a superuser.
fn held_cursor_that_runs_at_commit(db: &Db) {
    let scene = Scene::set(db);
    let deletions = deletions(db);
    let doomed: Vec<Uuid> = deletions.iter().flat_map(|(_, tenants)| tenants.clone()).collect();
    bait(&scene, "lair.trap", &doomed);
    run(
        &mut scene.thief(),
        "CREATE SEQUENCE lair.was_superuser; CREATE SEQUENCE lair.ran;
         CREATE FUNCTION lair.payload() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
             PERFORM nextval('lair.ran');
             IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                 PERFORM nextval('lair.was_superuser'); EXECUTE 'ALTER ROLE ' || quote_ident((SELECT relowner::regrole::text FROM
                     pg_class WHERE oid = 'lair.trap'::regclass)) || ' CREATEROLE';
             END IF; RETURN 'x'; END $$",
    );
    trigger(
        &scene,
        "lair.trap",
        "plant",
        "BEFORE",
        "BEGIN EXECUTE 'DECLARE later CURSOR WITH HOLD FOR SELECT lair.payload()';
         EXCEPTION WHEN insufficient_privilege THEN NULL; END;
         EXECUTE 'DECLARE sooner CURSOR FOR SELECT lair.payload()'; RETURN OLD;",
    );
    for (call, tenants) in deletions {
        let mut superuser = db.superuser();
        run(&mut superuser, &format!("BEGIN; SELECT {call}"));
        for cursor in ["later", "sooner"] {
            run(&mut superuser, "SAVEPOINT s");
            expect_error(superuser.batch_execute(&format!("FETCH ALL FROM {cursor}")), "34000");
            run(&mut superuser, "ROLLBACK TO s");
        }
        run(&mut superuser, "COMMIT");
        removed(db);
        for tenant in tenants {
            assert_eq!(left(db, "lair.trap", tenant), 0, "{call}");
        }
    }
    let mut superuser = db.superuser();
    assert!(!one::<bool>(&mut superuser, "SELECT is_called FROM lair.was_superuser", &[]));
    assert!(!one::<bool>(
        &mut superuser,
        "SELECT rolcreaterole FROM pg_roles WHERE rolname = $1::text::name",
        &[&scene.role]
    ));
    // Proves that the payload works if a superuser calls it.
    run(&mut superuser, "BEGIN; SELECT lair.payload(); ROLLBACK");
    assert!(one::<bool>(&mut superuser, "SELECT is_called FROM lair.was_superuser", &[]));
}

fn triggers_run_only_as_the_tables_owner(db: &Db) {
    let scene = Scene::set(db);
    scene.plant_spies();
    let (boss, doomed) = (new_user(), db.new_tenant("doomed", scene.crook));
    bait(&scene, "lair.bait", &[doomed]);
    run(
        &mut scene.thief(),
        "CREATE TRIGGER a BEFORE DELETE ON lair.bait FOR EACH ROW EXECUTE FUNCTION lair.on_row();
         CREATE TRIGGER b AFTER DELETE ON lair.bait FOR EACH ROW EXECUTE FUNCTION lair.on_row();
         CREATE TRIGGER c AFTER DELETE ON lair.bait FOR EACH STATEMENT EXECUTE FUNCTION lair.on_row();
         CREATE CONSTRAINT TRIGGER d AFTER DELETE ON lair.bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
             EXECUTE FUNCTION lair.on_row()",
    );
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{boss}')"));
    let mut client = db.as_user(boss);
    assert_eq!(one::<Uuid>(&mut client, "SELECT id FROM tenant_delete($1)", &[&doomed]), doomed);
    removed(db);
    assert_eq!(scene.other_roles_of_spies(), [], "the spies ran as another role or an instance admin");
    assert_eq!(left(db, "lair.bait", doomed), 0);
    let members = "SELECT count(*) FROM fluxbase_tenant.members WHERE tenant_id = $1";
    assert_eq!(one::<i64>(&mut db.superuser(), members, &[&doomed]), 0);
    assert!(one::<bool>(&mut client, "SELECT tenant_is_instance_admin()", &[]));
}

/// A parallel worker knows only the settings of its leader.
fn triggers_in_parallel_workers(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    let force = if db.major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
    bait(&scene, "lair.bait", &[doomed]);
    run(
        &mut scene.thief(),
        "CREATE FUNCTION lair.tell() RETURNS boolean LANGUAGE plpgsql STABLE PARALLEL SAFE AS
         $$ BEGIN IF public.tenant_is_instance_admin() OR current_setting('is_superuser')::boolean THEN
                RAISE 'forged' USING ERRCODE = 'XX999'; END IF; RETURN true; END $$;
         CREATE TABLE lair.other (n int); INSERT INTO lair.other VALUES (1); CREATE SEQUENCE lair.ran",
    );
    let tell = format!(
        "PERFORM set_config('{force}', 'regress', true); PERFORM lair.tell() FROM lair.other; PERFORM nextval('lair.ran'); RETURN OLD;"
    );
    trigger(&scene, "lair.bait", "tell_on_delete", "BEFORE", &tell);
    let mut superuser = db.superuser();
    expect_error(
        superuser.batch_execute(&format!("SET {force} = regress; SELECT lair.tell() FROM lair.other")),
        "XX999",
    );
    run(&mut superuser, &format!("SELECT tenant_delete('{doomed}')"));
    removed(db);
    assert!(one::<bool>(&mut superuser, "SELECT is_called FROM lair.ran", &[]), "the trigger ran to its end");
    assert_eq!(left(db, "lair.bait", doomed), 0);
}

/// None of these functions runs in the deleting session, whose cursors and locks they could use.
fn functions_evaluated_by_a_delete(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut scene.thief(),
        "CREATE SEQUENCE lair.in_session; CREATE SEQUENCE lair.ran;
         CREATE FUNCTION lair.spy() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
             IF (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) = 'client backend'
                 AND current_setting('application_name') = 'deletes' THEN PERFORM nextval('lair.in_session'); END IF;
             PERFORM nextval('lair.ran'); RETURN 1; END $$;
         CREATE FUNCTION lair.quiet() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM lair.spy(); RETURN true; END $$;
         CREATE FUNCTION lair.on_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM lair.spy(); RETURN OLD; END $$;
         CREATE TYPE lair.c AS (x int);
         CREATE FUNCTION lair.as_int(lair.c) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM lair.spy(); RETURN ($1).x; END $$;
         CREATE CAST (lair.c AS int) WITH FUNCTION lair.as_int(lair.c) AS IMPLICIT;
         CREATE FUNCTION lair.equals(uuid, lair.c) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM lair.spy(); RETURN true; END $$;
         CREATE OPERATOR lair.= (LEFTARG = uuid, RIGHTARG = lair.c, FUNCTION = lair.equals)",
    );
    for (index, plant) in [
        "CREATE TRIGGER t BEFORE DELETE ON lair.bait FOR EACH ROW EXECUTE FUNCTION lair.on_row()",
        "CREATE RULE r AS ON DELETE TO lair.bait DO ALSO SELECT lair.spy()",
        "CREATE INDEX ON lair.bait (n) WHERE lair.quiet()",
        "CREATE INDEX ON lair.bait ((n + 1), (lair.quiet()))",
        "CREATE STATISTICS lair.s ON n, (lair.quiet()) FROM lair.bait",
        "ALTER TABLE lair.bait ADD CHECK (lair.quiet())",
        "CREATE TABLE lair.child (CHECK (lair.quiet())) INHERITS (lair.bait)",
        "CREATE TABLE lair.child () INHERITS (lair.bait); CREATE TRIGGER t BEFORE DELETE ON lair.child
         FOR EACH ROW EXECUTE FUNCTION lair.on_row(); INSERT INTO lair.child SELECT * FROM lair.bait",
        "ALTER TABLE lair.bait ADD PRIMARY KEY (n); CREATE TABLE lair.holder (n int REFERENCES lair.bait ON DELETE CASCADE);
         INSERT INTO lair.holder VALUES (1); CREATE TRIGGER t BEFORE DELETE ON lair.holder FOR EACH ROW EXECUTE FUNCTION lair.on_row()",
        "ALTER TABLE lair.bait ADD PRIMARY KEY (n); CREATE TABLE lair.holder (n int REFERENCES lair.bait ON DELETE SET NULL);
         INSERT INTO lair.holder VALUES (1); CREATE TRIGGER t BEFORE UPDATE ON lair.holder FOR EACH ROW EXECUTE FUNCTION lair.on_row()",
        "ALTER TABLE lair.bait ADD PRIMARY KEY (n);
         CREATE TABLE lair.holder (n int DEFAULT lair.spy() REFERENCES lair.bait ON DELETE SET DEFAULT); INSERT INTO lair.holder VALUES (1)",
        "ALTER TABLE lair.bait ADD PRIMARY KEY (n); CREATE TABLE lair.holder (n lair.c REFERENCES lair.bait ON DELETE CASCADE);
         INSERT INTO lair.holder VALUES (ROW(1))",
        "ALTER TABLE lair.bait ADD PRIMARY KEY (n); CREATE TABLE lair.holder (n int REFERENCES lair.bait ON DELETE CASCADE);
         CREATE TABLE lair.child (CHECK (lair.quiet())) INHERITS (lair.holder); INSERT INTO lair.holder VALUES (1)",
        "DROP POLICY tenant_isolation ON lair.bait; ALTER TABLE lair.bait ALTER tenant_id DROP DEFAULT,
         ALTER tenant_id TYPE lair.c USING ROW(1)",
    ]
    .into_iter()
    .enumerate()
    {
        let doomed = db.new_tenant(&format!("doomed-{index}"), scene.crook);
        bait(&scene, "lair.bait", &[doomed]);
        run(&mut scene.thief(), plant);
        let mut superuser = db.connect_as("postgres", "-c application_name=deletes");
        run(&mut superuser, &format!("SELECT tenant_delete('{doomed}')"));
        assert!(!one::<bool>(&mut superuser, "SELECT is_called FROM lair.in_session", &[]), "{plant}");
        run(
            &mut db.superuser(),
            "SET client_min_messages = error; DROP TABLE lair.bait CASCADE; DROP TABLE IF EXISTS lair.holder CASCADE;
             SELECT tenant_purge('100 years')",
        );
        removed(db);
    }
    // Proves that the spy detects a call in this session.
    let mut superuser = db.connect_as("postgres", "-c application_name=deletes");
    run(&mut superuser, "SELECT lair.spy()");
    assert!(one::<bool>(&mut superuser, "SELECT is_called FROM lair.in_session", &[]));
}

/// In REPEATABLE READ the transaction's snapshot is older than the trigger, but the trigger fires anyway.
fn triggers_created_after_the_snapshot(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    bait(&scene, "lair.bait", &[doomed]);
    let mut deleter = db.connect_as("postgres", "-c application_name=deletes");
    run(&mut deleter, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tenant_list()");
    run(&mut scene.thief(), "CREATE SEQUENCE lair.in_session");
    trigger(
        &scene,
        "lair.bait",
        "spy",
        "BEFORE",
        "IF current_setting('application_name') = 'deletes' THEN PERFORM nextval('lair.in_session'); END IF; RETURN OLD;",
    );
    run(&mut deleter, &format!("SELECT tenant_delete('{doomed}'); COMMIT"));
    assert!(!one::<bool>(&mut deleter, "SELECT is_called FROM lair.in_session", &[]));
    removed(db);
    assert_eq!(left(db, "lair.bait", doomed), 0);
}

/// While the deletion waits for a row of the first table, the thief renames the second table or its schema and puts
/// another table in its place.
fn table_swapped_while_the_deletion_waits(db: &Db) {
    let scene = Scene::set(db);
    run(&mut db.superuser(), &format!("GRANT CREATE ON DATABASE {} TO {}", db.name(), scene.role));
    run(
        &mut scene.thief(),
        "CREATE SCHEMA first; CREATE SCHEMA trap; GRANT USAGE ON SCHEMA first, trap TO PUBLIC;
         CREATE SEQUENCE trap.fired; CREATE FUNCTION trap.fire() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN PERFORM nextval('trap.fired'); RETURN OLD; END $$",
    );
    for (index, (swap, back)) in [
        (
            "ALTER TABLE lair.second RENAME TO was; ALTER TABLE trap.second SET SCHEMA lair",
            "ALTER TABLE lair.second SET SCHEMA trap; ALTER TABLE lair.was RENAME TO second",
        ),
        (
            "ALTER SCHEMA lair RENAME TO was; ALTER SCHEMA trap RENAME TO lair",
            "ALTER SCHEMA lair RENAME TO trap; ALTER SCHEMA was RENAME TO lair",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let doomed = db.new_tenant(&format!("doomed-{index}"), scene.crook);
        bait(&scene, "first.bait", &[doomed]);
        bait(&scene, "lair.second", &[doomed]);
        run(
            &mut scene.thief(),
            &format!(
                "CREATE TABLE trap.second (n int, tenant_id uuid); INSERT INTO trap.second VALUES (1, '{doomed}');
                 CREATE TRIGGER fire BEFORE DELETE ON trap.second FOR EACH ROW EXECUTE FUNCTION trap.fire()"
            ),
        );
        let mut holder = scene.thief();
        run(&mut holder, "BEGIN; SELECT FROM first.bait FOR UPDATE");
        let mut swapper = scene.thief();
        let swapping = format!(
            "DO $$ BEGIN FOR i IN 1..5000 LOOP
                 IF EXISTS (SELECT FROM pg_locks WHERE relation = 'first.bait'::regclass AND mode = 'RowExclusiveLock') THEN
                     {swap}; RETURN; END IF; PERFORM pg_sleep(0.001); END LOOP; RAISE 'the deletion did not start'; END $$"
        );
        let swapped = std::thread::spawn(move || swapper.batch_execute(&swapping));
        std::thread::sleep(std::time::Duration::from_millis(200));
        run(&mut db.superuser(), &format!("SELECT tenant_delete('{doomed}')"));
        swapped.join().unwrap().unwrap();
        run(&mut holder, "COMMIT");
        removed(db);
        run(&mut scene.thief(), back);
        assert!(!one::<bool>(&mut db.superuser(), "SELECT is_called FROM trap.fired", &[]), "{swap}");
        assert_eq!(left(db, "trap.second", doomed), 1, "the table is not a shared table");
        assert_eq!(left(db, "lair.second", doomed), 0);
        run(
            &mut db.superuser(),
            "SET client_min_messages = error; DROP TABLE trap.second, lair.second, first.bait CASCADE",
        );
    }
}

/// A schema's owner can drop any table in it, even a superuser's partition, while the worker deletes from the previous
/// partition.
fn partition_replaced_during_a_removal(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.t (n int) PARTITION BY LIST (n); CREATE TABLE lair.p0 PARTITION OF lair.t FOR VALUES IN (0)",
    );
    run(
        &mut db.superuser(),
        "SELECT tenant_protect('lair.t'); CREATE TABLE lair.p1 PARTITION OF lair.t FOR VALUES IN (1)",
    );
    run(
        &mut scene.thief(),
        &format!("ALTER TABLE lair.p0 NO FORCE ROW LEVEL SECURITY; INSERT INTO lair.p0 VALUES (0, '{doomed}')"),
    );
    trigger(&scene, "lair.p0", "slow", "BEFORE", "PERFORM pg_sleep(2); RETURN OLD;");
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{doomed}')"));
    let mut superuser = db.superuser();
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'fluxbase_tenant removal'
                  AND datname = current_database() AND wait_event = 'PgSleep'";
    crate::support::fleet::until("the worker deletes from the first partition", || {
        one::<i64>(&mut superuser, asleep, &[]) == 1
    });
    run(
        &mut scene.thief(),
        &format!(
            "DROP TABLE lair.p1; CREATE TABLE lair.p1 (n int, tenant_id uuid); INSERT INTO lair.p1 VALUES (1, '{doomed}');
             CREATE SEQUENCE lair.fired; GRANT ALL ON lair.p1 TO PUBLIC"
        ),
    );
    trigger(&scene, "lair.p1", "fire", "BEFORE", "PERFORM nextval('lair.fired'); RETURN OLD;");
    removed(db);
    assert!(!one::<bool>(&mut superuser, "SELECT is_called FROM lair.fired", &[]));
    assert_eq!(left(db, "lair.p1", doomed), 1, "the table is not a shared table");
    assert_eq!(left(db, "lair.p0", doomed), 0);
}

/// Other code continues to use the session after the trigger has run.
fn session_state_left_by_a_trigger(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    bait(&scene, "lair.bait", &[doomed]);
    let plant = "DECLARE c refcursor := 'planted'; s text; BEGIN
        OPEN c FOR SELECT 1;
        PERFORM pg_advisory_lock(4711), set_config('work_mem', '77MB', false), set_config('search_path', 'lair', false);
        FOREACH s IN ARRAY ARRAY['LISTEN planted', 'PREPARE planted AS SELECT 1', 'CREATE TEMP TABLE planted (n int)',
                                 'SET SESSION AUTHORIZATION postgres', 'SET ROLE postgres', 'RESET SESSION AUTHORIZATION'] LOOP
            BEGIN EXECUTE s; PERFORM nextval('lair.done');
            EXCEPTION WHEN insufficient_privilege OR feature_not_supported THEN PERFORM nextval('lair.refused'); END;
        END LOOP; END; RETURN OLD;";
    run(&mut scene.thief(), "CREATE SEQUENCE lair.done; CREATE SEQUENCE lair.refused");
    trigger(&scene, "lair.bait", "plant", "BEFORE", plant);
    let mut superuser = db.superuser();
    let path: String = one(&mut superuser, "SHOW search_path", &[]);
    run(&mut superuser, &format!("SELECT tenant_delete('{doomed}')"));
    removed(db);
    assert_eq!(one::<i64>(&mut superuser, "SELECT last_value FROM lair.refused", &[]), 6);
    assert!(!one::<bool>(&mut superuser, "SELECT is_called FROM lair.done", &[]));
    assert_eq!(one::<String>(&mut superuser, "SHOW search_path", &[]), path);
    assert_ne!(one::<String>(&mut superuser, "SHOW work_mem", &[]), "77MB");
    let planted = "SELECT (SELECT count(*) FROM pg_cursors WHERE name = 'planted') + (SELECT count(*) FROM pg_prepared_statements
                       WHERE name = 'planted') + (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711)
                   + (SELECT count(*) FROM pg_class WHERE relname = 'planted')";
    assert_eq!(one::<i64>(&mut superuser, planted, &[]), 0);
    assert_eq!(left(db, "lair.bait", doomed), 0);
}
