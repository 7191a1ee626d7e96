//! What hangs on shared tables when a tenant is deleted: code of the tables' owners runs with nobody else's rights, keeps nobody
//! waiting, and decides nothing.

use std::time::{Duration, Instant};

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{column, new_user, one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error, expect_refusal};

cases![
    cursor_that_runs_at_the_commit,
    triggers_run_as_the_tables_owner_alone,
    triggers_in_parallel_workers,
    what_outlives_a_trigger,
    trigger_that_raises,
    trigger_and_rule_that_keep_the_rows,
    trigger_that_never_ends,
    key_that_holds_the_rows,
    publication_that_refuses,
    rows_that_are_locked_or_not_yet_committed,
    ddl_on_a_shared_table_stops_nobody,
    ids_tell_nothing,
    the_id_of_a_tenant_that_is_not_quite_gone,
    no_table_refers_to_the_catalog,
    grants_to_an_owner_role,
    plain_tables_go_with_the_tenant,
];

/// A table of the thief's in schema lair, shared by a superuser's word, with a row of each of these tenants. The thief has
/// taken the force away, as owners may.
fn bait(scene: &Scene, table: &str, tenants: &[Uuid]) {
    run(&mut scene.thief(), &format!("CREATE TABLE {table} (n int)"));
    run(&mut scene.db.superuser(), &format!("SELECT tenant_protect('{table}')"));
    let mut thief = scene.thief();
    run(&mut thief, &format!("ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"));
    for tenant in tenants {
        run(&mut thief, &format!("INSERT INTO {table} VALUES (1, '{tenant}')"));
    }
}

fn trigger(scene: &Scene, table: &str, name: &str, when: &str, body: &str) {
    run(
        &mut scene.thief(),
        &format!(
            "CREATE FUNCTION lair.{name}() RETURNS trigger LANGUAGE plpgsql AS $trigger$ BEGIN {body} END $trigger$;
             CREATE TRIGGER {name} {when} DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION lair.{name}()"
        ),
    );
}

fn left(db: &Db, table: &str, tenant: Uuid) -> i64 {
    one(&mut db.superuser(), &format!("SELECT count(*) FROM {table} WHERE tenant_id = $1"), &[&tenant])
}

/// Nothing is left to remove, and no worker is.
fn removed(db: &Db) {
    let mut superuser = db.superuser();
    until("everything is removed", || {
        one::<bool>(
            &mut superuser,
            "SELECT NOT EXISTS (SELECT FROM fluxbase_tenant.removals) AND NOT EXISTS (
                 SELECT FROM pg_stat_activity WHERE backend_type = 'fluxbase_tenant removal' AND datname = current_database())",
            &[],
        )
    });
}

/// Why something is left, as tenant_check() says.
fn reported(db: &Db, object: &str) -> String {
    let mut superuser = db.superuser();
    let mut found = Vec::<String>::new();
    until("what is left is reported", || {
        found = column(
            &mut superuser,
            "SELECT problem FROM tenant_check() WHERE object = $1 AND problem LIKE '%deleted tenants are left%'",
            &[&object],
        );
        !found.is_empty()
    });
    found.remove(0)
}

/// Every way to delete a tenant for good, by a superuser: as a call, and the tenants that it deletes.
fn deletions(db: &Db) -> Vec<(&'static str, Vec<Uuid>)> {
    let mut superuser = db.superuser();
    let (one_id, two, three) =
        (db.new_tenant("one", new_user()), db.new_tenant("two", new_user()), db.new_tenant("three", new_user()));
    run(&mut superuser, &format!("SELECT tenant_soft_delete('{two}'), tenant_soft_delete('{three}')"));
    run(&mut superuser, "SELECT tenant_spares_fill(2)");
    let spares: Vec<Uuid> = column(&mut superuser, "SELECT id FROM fluxbase_tenant.tenants WHERE spare", &[]);
    vec![
        ("tenant_delete((SELECT id FROM tenant_list() WHERE slug = 'one'))", vec![one_id]),
        ("tenant_purge('0')", vec![two, three]),
        ("tenant_spares_fill(0)", spares),
    ]
}

/// A cursor WITH HOLD runs its query at the commit, as the user of the session, who may be a superuser.
fn cursor_that_runs_at_the_commit(db: &Db) {
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
    // The payload works: a superuser who calls it is caught.
    run(&mut superuser, "BEGIN; SELECT lair.payload(); ROLLBACK");
    assert!(one::<bool>(&mut superuser, "SELECT is_called FROM lair.was_superuser", &[]));
}

fn triggers_run_as_the_tables_owner_alone(db: &Db) {
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
    assert_eq!(scene.spies_ran_as_others(), [], "they ran, as the thief and as nobody's user");
    assert_eq!(left(db, "lair.bait", doomed), 0);
    let members = "SELECT count(*) FROM fluxbase_tenant.members WHERE tenant_id = $1";
    assert_eq!(one::<i64>(&mut db.superuser(), members, &[&doomed]), 0);
    assert!(one::<bool>(&mut client, "SELECT tenant_is_instance_admin()", &[]));
}

/// Parallel workers know the settings alone.
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
    assert!(one::<bool>(&mut superuser, "SELECT is_called FROM lair.ran", &[]), "it ran to its end");
    assert_eq!(left(db, "lair.bait", doomed), 0);
}

/// Of a session that others go on with.
fn what_outlives_a_trigger(db: &Db) {
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

fn trigger_that_raises(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    bait(&scene, "lair.bait", &[doomed, scene.thief]);
    trigger(&scene, "lair.bait", "refuse", "BEFORE", "RAISE 'not while I am here';");
    run(&mut scene.thief(), "ALTER TABLE lair.bait ENABLE ALWAYS TRIGGER refuse");
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{doomed}')"));
    removed(db);
    assert_eq!(left(db, "lair.bait", doomed), 0);
    // To its owner it is as before.
    let delete = format!("DELETE FROM lair.bait WHERE tenant_id = '{}'", scene.thief);
    expect_error(scene.thief().batch_execute(&delete), "P0001");
    let mode = "SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'refuse'";
    assert_eq!(one::<String>(&mut db.superuser(), mode, &[]), "A");
    assert_eq!(left(db, "lair.bait", scene.thief), 1);
}

fn trigger_and_rule_that_keep_the_rows(db: &Db) {
    let scene = Scene::set(db);
    let (first, second) = (db.new_tenant("first", scene.crook), db.new_tenant("second", scene.crook));
    bait(&scene, "lair.bait", &[first]);
    trigger(&scene, "lair.bait", "keep", "BEFORE", "RETURN NULL;");
    bait(&scene, "lair.ruled", &[second]);
    run(&mut scene.thief(), "CREATE RULE keep AS ON DELETE TO lair.ruled DO INSTEAD NOTHING");
    for (tenant, table) in [(first, "lair.bait"), (second, "lair.ruled")] {
        run(&mut db.superuser(), &format!("SELECT tenant_delete('{tenant}')"));
        removed(db);
        assert_eq!(left(db, table, tenant), 0, "{table}");
    }
    let enabled = "SELECT (SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'keep') || (SELECT ev_enabled::text FROM pg_rewrite
                   WHERE rulename = 'keep')";
    assert_eq!(one::<String>(&mut db.superuser(), enabled, &[]), "OO");
}

/// The process that is at it may be terminated; another one goes on with the rest.
fn trigger_that_never_ends(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    bait(&scene, "lair.bait", &[doomed]);
    trigger(
        &scene,
        "lair.bait",
        "sleep",
        "BEFORE",
        "LOOP BEGIN PERFORM pg_sleep(3600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP;",
    );
    bait(&scene, "lair.honest", &[doomed]);
    trigger(&scene, "lair.honest", "honest", "AFTER", "RETURN NULL;");
    run(&mut db.superuser(), "CREATE TABLE plain (n int); SELECT tenant_protect('plain')");
    run(&mut db.superuser(), &format!("INSERT INTO plain VALUES (1, '{doomed}')"));
    let started = Instant::now();
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{doomed}')"));
    assert!(started.elapsed() < Duration::from_secs(20), "nobody waits for the thief");
    assert_eq!(left(db, "plain", doomed), 0, "a table without code is done with at once");
    let mut superuser = db.superuser();
    let stuck = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'fluxbase_tenant removal'
                 AND datname = current_database() AND wait_event = 'PgSleep'";
    until("the worker is stuck", || one::<i64>(&mut superuser, stuck, &[]) == 1);
    let workers = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE backend_type = 'fluxbase_tenant removal' AND datname = current_database()";
    assert!(one::<i64>(&mut superuser, workers, &[]) >= 1);
    until("the honest table is done with", || left(db, "lair.honest", doomed) == 0);
    assert_eq!(left(db, "lair.bait", doomed), 1);
    run(&mut scene.thief(), "DROP TRIGGER sleep ON lair.bait");
}

/// What refers to the rows from elsewhere decides whether they can go; nobody but its owner can tell why it is there.
fn key_that_holds_the_rows(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    run(&mut scene.thief(), "CREATE TABLE lair.bait (n int PRIMARY KEY)");
    run(&mut db.superuser(), "SELECT tenant_protect('lair.bait')");
    run(&mut db.superuser(), &format!("INSERT INTO lair.bait VALUES (1, '{doomed}')"));
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.holder (n int REFERENCES lair.bait); INSERT INTO lair.holder VALUES (1)",
    );
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{doomed}')"));
    let problem = reported(db, "table lair.bait");
    assert!(
        problem.starts_with("rows of 1 deleted tenants are left: ") && problem.contains("violates foreign key"),
        "{problem}"
    );
    for mut nobody in [scene.thief(), db.as_user(scene.crook), db.as_service(doomed)] {
        let seen = nobody.query("SELECT * FROM lair.bait", &[]);
        assert!(seen.map_or(true, |rows| rows.is_empty()), "what is left is reached by nobody");
    }
    run(&mut scene.thief(), "DROP TABLE lair.holder");
    run(&mut db.superuser(), "SELECT tenant_purge('100 years')");
    removed(db);
    assert_eq!(left(db, "lair.bait", doomed), 0);
}

/// The server refuses a DELETE from a table that is published without a key.
fn publication_that_refuses(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    bait(&scene, "lair.bait", &[doomed]);
    run(&mut db.superuser(), &format!("GRANT CREATE ON DATABASE {} TO {}", db.name(), scene.role));
    run(&mut scene.thief(), "CREATE PUBLICATION veto FOR TABLE lair.bait");
    expect_error(scene.thief().batch_execute("DELETE FROM lair.bait"), "55000");
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{doomed}')"));
    let problem = reported(db, "table lair.bait");
    assert!(problem.contains("replica identity"), "{problem}");
    run(&mut scene.thief(), "DROP PUBLICATION veto");
    run(&mut db.superuser(), "SELECT tenant_purge('100 years')");
    removed(db);
    assert_eq!(left(db, "lair.bait", doomed), 0);
}

fn rows_that_are_locked_or_not_yet_committed(db: &Db) {
    let scene = Scene::set(db);
    let (first, second) = (db.new_tenant("first", scene.crook), db.new_tenant("second", scene.crook));
    bait(&scene, "lair.bait", &[first]);
    for (tenant, hold) in [
        (first, "SELECT FROM lair.bait FOR UPDATE".to_string()),
        (second, format!("INSERT INTO lair.bait VALUES (2, '{second}')")),
    ] {
        let mut thief = scene.thief();
        run(&mut thief, &format!("BEGIN; {hold}"));
        let mut superuser = db.superuser();
        run(&mut superuser, &format!("SET lock_timeout = '500ms'; SELECT tenant_delete('{tenant}')"));
        let there = "SELECT count(*) FROM fluxbase_tenant.tenants WHERE id = $1";
        assert_eq!(one::<i64>(&mut superuser, there, &[&tenant]), 0);
        run(&mut thief, "COMMIT");
        removed(db);
        assert_eq!(left(db, "lair.bait", tenant), 0, "{hold}");
    }
}

/// Neither calls of tenants, reading ones least of all, nor the audit.
fn ddl_on_a_shared_table_stops_nobody(db: &Db) {
    let scene = Scene::set(db);
    let (boss, doomed) = (new_user(), db.new_tenant("doomed", scene.crook));
    bait(&scene, "lair.bait", &[doomed]);
    run(&mut scene.thief(), "CREATE TABLE lair.fresh (n int)");
    run(&mut db.superuser(), &format!("SELECT tenant_grant_instance_admin('{boss}')"));
    let mut protecting = db.superuser();
    run(&mut protecting, "BEGIN; SELECT tenant_protect('lair.fresh')");
    let mut altering = scene.thief();
    run(&mut altering, "BEGIN; ALTER TABLE lair.bait ADD COLUMN more int; LOCK TABLE lair.bait");
    let strong = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                  WHERE c.relnamespace = 'fluxbase_tenant'::regnamespace AND l.pid <> pg_backend_pid()
                    AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')";
    assert_eq!(one::<i64>(&mut db.superuser(), strong, &[]), 0);
    let mut client = db.as_user(boss);
    run(&mut client, "SET lock_timeout = '500ms'");
    let victim = scene.victim;
    for call in [
        "tenant_create('another', 'Another')".to_string(),
        format!("tenant_update('{victim}', 'New name')"),
        format!("tenant_suspend('{victim}')"),
        format!("tenant_resume('{victim}')"),
        format!("tenant_migrate('{victim}')"),
        format!("tenant_repair('{victim}')"),
        format!("tenant_get('{victim}')"),
        "tenant_list_mine()".to_string(),
        "tenant_check()".to_string(),
        "tenant_drift()".to_string(),
        format!("tenant_delete('{doomed}')"),
    ] {
        client.query(&format!("SELECT * FROM {call}"), &[]).unwrap_or_else(|e| panic!("{call}: {e:?}"));
    }
    run(&mut altering, "COMMIT");
    run(&mut protecting, "ROLLBACK");
    removed(db);
    assert_eq!(left(db, "lair.bait", doomed), 0);
}

/// Whether there is a tenant with an id is nobody's to learn from a table of theirs.
fn ids_tell_nothing(db: &Db) {
    let scene = Scene::set(db);
    bait(&scene, "lair.bait", &[]);
    let answers = |client: &mut Client| {
        [scene.victim, new_user()].map(|id| {
            let insert = format!("INSERT INTO lair.bait VALUES (1, '{id}')");
            client
                .batch_execute(&insert)
                .err()
                .map(|e| e.as_db_error().expect("an error of the server").message().to_owned())
        })
    };
    let [there, not_there] = answers(&mut scene.thief());
    assert_eq!(there, not_there, "without force the owner may write anything");
    run(&mut scene.thief(), "ALTER TABLE lair.bait FORCE ROW LEVEL SECURITY");
    let [there, not_there] = answers(&mut scene.thief());
    assert!(there.is_some());
    assert_eq!(there, not_there);
    run(&mut scene.thief(), &format!("INSERT INTO lair.bait VALUES (1, '{}')", scene.thief));
}

fn the_id_of_a_tenant_that_is_not_quite_gone(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    bait(&scene, "lair.bait", &[doomed]);
    let mut thief = scene.thief();
    run(&mut thief, "BEGIN; LOCK TABLE lair.bait");
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{doomed}')"));
    let again = "SELECT id FROM tenant_create('again', 'Again', id => $1)";
    let refusal = expect_refusal(db.admin().query(again, &[&doomed]), "conflict");
    refusal.message_has("its rows in shared tables are still being removed");
    run(&mut thief, "COMMIT");
    removed(db);
    assert_eq!(one::<Uuid>(&mut db.admin(), again, &[&doomed]), doomed);
    assert_eq!(left(db, "lair.bait", doomed), 0);
}

fn no_table_refers_to_the_catalog(db: &Db) {
    let scene = Scene::set(db);
    let mut superuser = db.superuser();
    run(&mut superuser, "CREATE TABLE profiles (id uuid, tenant_id uuid); CREATE TABLE others (id int PRIMARY KEY)");
    run(&mut scene.thief(), "CREATE TABLE lair.p (id uuid, tenant_id uuid)");
    for refers in [
        "CREATE TABLE more (id uuid REFERENCES fluxbase_tenant.tenants)",
        "CREATE TABLE more (id uuid, FOREIGN KEY (id) REFERENCES fluxbase_tenant.tenants ON DELETE CASCADE)",
        "ALTER TABLE profiles ADD FOREIGN KEY (tenant_id) REFERENCES fluxbase_tenant.tenants",
        "ALTER TABLE profiles ADD COLUMN more uuid REFERENCES fluxbase_tenant.tenants",
        "SET search_path = fluxbase_tenant, public; ALTER TABLE profiles ADD FOREIGN KEY (tenant_id) REFERENCES tenants",
    ] {
        let refusal = expect_refusal(superuser.batch_execute(refers), "forbidden");
        refusal.message_has("refer to the catalog").hint_has("tenant_protect()");
        let theirs = refers.replace("TABLE profiles", "TABLE lair.p").replace("TABLE more", "TABLE lair.more");
        expect_error(scene.thief().batch_execute(&theirs), "42501");
        run(&mut superuser, "RESET search_path");
    }
    run(
        &mut superuser,
        "ALTER TABLE profiles ADD COLUMN other int REFERENCES others; SELECT tenant_protect('profiles')",
    );
}

/// Roles are the cluster's, and anybody who owns something may grant it to one.
fn grants_to_an_owner_role(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    let role = Db::owner_role(doomed);
    let mut thief = scene.thief();
    run(&mut thief, &format!("CREATE TABLE lair.gift (n int); BEGIN; GRANT SELECT ON lair.gift TO {role}"));
    let mut superuser = db.superuser();
    run(&mut superuser, &format!("SET lock_timeout = '500ms'; SELECT tenant_delete('{doomed}')"));
    let there = "SELECT count(*) FROM pg_roles WHERE rolname = $1::text::name";
    assert_eq!(one::<i64>(&mut superuser, there, &[&role]), 1, "the role waits, not the caller");
    run(&mut thief, "COMMIT");
    until("the role is gone", || one::<i64>(&mut superuser, there, &[&role]) == 0);
    removed(db);
    let second = db.new_tenant("second", scene.crook);
    let role = Db::owner_role(second);
    run(
        &mut thief,
        &format!(
            "GRANT SELECT ON lair.gift TO {role}; CREATE POLICY p ON lair.gift TO {role} USING (true);
             ALTER DEFAULT PRIVILEGES IN SCHEMA lair GRANT SELECT ON TABLES TO {role}"
        ),
    );
    run(&mut superuser, &format!("SELECT tenant_delete('{second}')"));
    assert_eq!(one::<i64>(&mut superuser, there, &[&role]), 0);
}

/// The twin of all of the above: in the caller's transaction, and back with it.
fn plain_tables_go_with_the_tenant(db: &Db) {
    let doomed = db.new_tenant("doomed", new_user());
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        &format!(
            "CREATE TABLE projects (id int PRIMARY KEY, stamp timestamptz); SELECT tenant_protect('projects');
             ALTER TABLE projects ADD UNIQUE (tenant_id, id);
             CREATE TABLE tasks (id int, project int) PARTITION BY LIST (id); CREATE TABLE tasks_all PARTITION OF tasks DEFAULT;
             SELECT tenant_protect('tasks');
             ALTER TABLE tasks ADD FOREIGN KEY (tenant_id, project) REFERENCES projects (tenant_id, id);
             CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.stamp = now(); RETURN NEW; END $$;
             CREATE TRIGGER stamp BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION stamp();
             INSERT INTO projects VALUES (1, NULL, '{doomed}'); INSERT INTO tasks VALUES (1, 1, '{doomed}')"
        ),
    );
    let rows = "SELECT (SELECT count(*) FROM projects) + (SELECT count(*) FROM tasks)";
    run(&mut superuser, &format!("BEGIN; SELECT tenant_delete('{doomed}')"));
    assert_eq!(one::<i64>(&mut superuser, rows, &[]), 0, "before the commit");
    run(&mut superuser, "ROLLBACK");
    assert_eq!(one::<i64>(&mut superuser, rows, &[]), 2);
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM fluxbase_tenant.removals", &[]), 0);
    run(&mut superuser, &format!("SELECT tenant_delete('{doomed}')"));
    assert_eq!(one::<i64>(&mut superuser, rows, &[]), 0);
    removed(db);
    assert_eq!(
        column::<String>(&mut superuser, "SELECT problem FROM tenant_check() WHERE severity = 'error'", &[]),
        [""; 0]
    );
}
