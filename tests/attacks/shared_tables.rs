//! What owners of shared tables could do to the catalog and to other roles: refer to the catalog, learn from it, block
//! it, and have their code run by superusers who follow tenant_check().

use std::time::Duration;

use postgres::Client;

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{column, new_user, one, run};
use crate::support::removal::{bait, left, removed, reported};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error, expect_refusal};

cases![
    no_table_refers_to_the_catalog,
    inserts_do_not_reveal_tenant_ids,
    ddl_on_a_shared_table_blocks_no_call,
    keys_between_shared_tables,
    key_whose_fix_would_run_the_owners_code,
    temporary_children,
    triggers_of_a_role_granted_all,
    trigger_cloned_to_a_superusers_partition,
    trigger_of_a_table_that_a_key_cascades_to,
    schemas_renamed_while_unprotect_waits,
    unlisted_tables_with_the_policy,
];

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
        refusal.message_has("to the catalog").hint_has("tenant_protect()");
        let theirs = refers.replace("TABLE profiles", "TABLE lair.p").replace("TABLE more", "TABLE lair.more");
        expect_error(scene.thief().batch_execute(&theirs), "42501");
        run(&mut superuser, "RESET search_path");
    }
    run(
        &mut superuser,
        "ALTER TABLE profiles ADD COLUMN other int REFERENCES others; SELECT tenant_protect('profiles')",
    );
}

/// Inserts into a shared table do not reveal whether a tenant id exists.
fn inserts_do_not_reveal_tenant_ids(db: &Db) {
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
    let [existing, unknown] = answers(&mut scene.thief());
    assert_eq!(existing, unknown, "without FORCE the owner can write any tenant id");
    run(&mut scene.thief(), "ALTER TABLE lair.bait FORCE ROW LEVEL SECURITY");
    let [existing, unknown] = answers(&mut scene.thief());
    assert!(existing.is_some());
    assert_eq!(existing, unknown);
    run(&mut scene.thief(), &format!("INSERT INTO lair.bait VALUES (1, '{}')", scene.thief));
}

/// Open DDL on a shared table blocks neither calls about tenants nor tenant_check().
fn ddl_on_a_shared_table_blocks_no_call(db: &Db) {
    let scene = Scene::set(db);
    let (boss, doomed) = (new_user(), db.new_tenant("doomed", scene.crook));
    bait(&scene, "lair.bait", &[doomed]);
    run(&mut scene.thief(), "CREATE TABLE lair.fresh (n int)");
    run(&mut db.superuser(), &format!("SELECT tenant_grant_instance_admin('{boss}')"));
    let mut protecting = db.superuser();
    run(&mut protecting, "BEGIN; SELECT tenant_protect('lair.fresh')");
    let mut altering = scene.thief();
    run(&mut altering, "BEGIN; ALTER TABLE lair.bait ADD COLUMN more int; LOCK TABLE lair.bait");
    let strong = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_stat_activity a USING (pid)
                  WHERE a.backend_type = 'client backend' AND c.relnamespace = 'fluxbase_tenant'::regnamespace AND l.pid <> pg_backend_pid()
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

/// PostgreSQL checks foreign keys without policies. A key without the tenant column reveals which keys other tenants
/// have, and prevents the deletion of their rows.
fn keys_between_shared_tables(db: &Db) {
    let (ann, bob) = (new_user(), new_user());
    db.new_tenant("a", ann);
    db.new_tenant("b", bob);
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        "CREATE TABLE projects (id int PRIMARY KEY, name text); CREATE TABLE tasks (id int, project int REFERENCES projects);
         CREATE TABLE notes (id int, project int REFERENCES projects); SELECT tenant_protect('projects'), tenant_protect('tasks');
         GRANT SELECT, INSERT, UPDATE, DELETE ON projects, tasks TO fluxbase_tenant_user",
    );
    let found = "SELECT object FROM tenant_check() WHERE severity = 'error' AND problem LIKE 'refers to the shared table public.projects%' ORDER BY 1";
    let keys = ["constraint notes_project_fkey on public.notes", "constraint tasks_project_fkey on public.tasks"];
    assert_eq!(column::<String>(&mut superuser, found, &[]), keys);
    let fix: String = one(&mut superuser, "SELECT fix FROM tenant_check() WHERE object LIKE '%tasks%'", &[]);
    run(&mut superuser, &fix);
    run(&mut superuser, "DROP TABLE notes");
    assert_eq!(column::<String>(&mut superuser, found, &[]), [""; 0], "{fix}");
    let mut a = db.as_user(ann);
    run(&mut a, "INSERT INTO projects VALUES (1, 'secret')");
    let mut b = db.as_user(bob);
    let answers = ["INSERT INTO tasks VALUES (1, 1)", "INSERT INTO tasks VALUES (2, 2)"]
        .map(|insert| expect_error(b.batch_execute(insert), "23503").error().message().to_owned());
    assert_eq!(answers[0], answers[1], "the error reveals no project");
    run(&mut b, "INSERT INTO projects VALUES (3, 'mine'); INSERT INTO tasks VALUES (3, 3)");
    assert_eq!(a.execute("DELETE FROM projects WHERE id = 1", &[]).unwrap(), 1);
    // tenant_protect() warns about such a key at once.
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut config = db.cluster.config("postgres", db.name());
    config.notice_callback(move |notice| drop(sender.send(notice.message().to_owned())));
    let mut listening = config.connect(postgres::NoTls).unwrap();
    run(
        &mut listening,
        "CREATE TABLE parents (id int PRIMARY KEY, parent int REFERENCES parents); SELECT tenant_protect('parents')",
    );
    let warning = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(
        warning.contains("parents_parent_fkey") && warning.contains("does not include the tenant column"),
        "{warning}"
    );
}

/// A superuser runs the command that adds the tenant to a key. It must not evaluate the owner's operators and casts.
fn key_whose_fix_would_run_the_owners_code(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut scene.thief(),
        "CREATE TYPE lair.c AS (x int);
         CREATE FUNCTION lair.c2i(lair.c) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN ($1).x; END';
         CREATE CAST (lair.c AS int) WITH FUNCTION lair.c2i(lair.c) AS IMPLICIT;
         CREATE TABLE lair.parent (id int PRIMARY KEY); CREATE TABLE lair.child (f lair.c CONSTRAINT \"k\n; CREATE TABLE public.planted (); --\" REFERENCES lair.parent)",
    );
    let mut superuser = db.superuser();
    run(&mut superuser, "SELECT tenant_protect('lair.parent'), tenant_protect('lair.child')");
    run(
        &mut scene.thief(),
        &format!(
            "ALTER TABLE lair.parent NO FORCE ROW LEVEL SECURITY; ALTER TABLE lair.child NO FORCE ROW LEVEL SECURITY;
             INSERT INTO lair.parent VALUES (1, '{0}'); INSERT INTO lair.child VALUES (ROW(1), '{0}');
             CREATE TABLE lair.runs (role text); GRANT ALL ON lair.runs TO PUBLIC;
             CREATE OR REPLACE FUNCTION lair.c2i(lair.c) RETURNS int LANGUAGE plpgsql VOLATILE AS
                 'BEGIN INSERT INTO lair.runs VALUES (current_user); RETURN ($1).x; END'",
            scene.thief
        ),
    );
    let found = "SELECT fix FROM tenant_check() WHERE object LIKE 'constraint % on lair.child'";
    let fix: String = one(&mut superuser, found, &[]);
    run(&mut superuser, &fix);
    assert_eq!(column::<String>(&mut superuser, "SELECT role FROM lair.runs", &[]), [""; 0], "{fix}");
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM pg_class WHERE relname = 'planted'", &[]), 0, "{fix}");
    assert_eq!(column::<String>(&mut superuser, found, &[]), [""; 0]);
    // The owner validates the constraint, and with it runs their own code.
    let constraint: String = one(
        &mut superuser,
        "SELECT quote_ident(conname) FROM pg_constraint WHERE conrelid = 'lair.child'::regclass AND contype = 'f'",
        &[],
    );
    run(&mut scene.thief(), &format!("ALTER TABLE lair.child VALIDATE CONSTRAINT {constraint}"));
    let runs: Vec<String> = column(&mut superuser, "SELECT DISTINCT role FROM lair.runs", &[]);
    assert_eq!(runs.len(), 1, "{runs:?}");
}

/// Rows in a temporary table belong to its session: they are in no dump, and no other session can delete them.
fn temporary_children(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    bait(&scene, "lair.bait", &[doomed]);
    let mut thief = scene.thief();
    run(
        &mut thief,
        &format!(
            "CREATE TEMPORARY TABLE child () INHERITS (lair.bait); INSERT INTO child VALUES (1, '{doomed}');
             CREATE TEMPORARY TABLE mine (n int, tenant_id uuid);
             CREATE POLICY tenant_isolation ON mine
                 USING (tenant_id = ANY ((SELECT fluxbase_tenant.accessible_tenant_ids())::uuid[]))"
        ),
    );
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{doomed}')"));
    removed(db);
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM ONLY lair.bait", &[]), 0);
    let temporary = "SELECT count(*) FROM fluxbase_tenant.shared_tables WHERE relation::text LIKE '%mine' OR relation::text LIKE '%child'";
    assert_eq!(one::<i64>(&mut db.superuser(), temporary, &[]), 0);
}

/// GRANT ALL lets a role create triggers on the table. They must not run with the privileges of the table's owner.
fn triggers_of_a_role_granted_all(db: &Db) {
    let scene = Scene::set(db);
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        "CREATE TABLE jobs (n int); SELECT tenant_protect('jobs'); GRANT ALL ON jobs TO fluxbase_tenant_user;
         CREATE TABLE log (line text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.log VALUES (TG_NAME || '' as '' || current_user); RETURN OLD; END';
         GRANT INSERT ON log TO PUBLIC; CREATE TRIGGER own BEFORE DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION note()",
    );
    let keeper = format!("keeper_of_{}", db.name());
    run(&mut superuser, &format!("CREATE ROLE {keeper}; ALTER TABLE jobs OWNER TO {keeper}"));
    run(
        &mut scene.thief(),
        "CREATE FUNCTION lair.evil() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.log VALUES (TG_NAME || '' as '' || current_user); RETURN OLD; END';
         CREATE TRIGGER evil BEFORE DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION lair.evil();
         CREATE FUNCTION lair.when_evil() RETURNS boolean LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.log VALUES (''condition as '' || current_user); RETURN true; END';
         CREATE TRIGGER condition BEFORE DELETE ON jobs FOR EACH ROW WHEN (lair.when_evil())
             EXECUTE FUNCTION suppress_redundant_updates_trigger();
         CREATE TRIGGER arguments BEFORE DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION note('of the thief''s')",
    );
    let found = "SELECT fix FROM tenant_check() WHERE severity = 'error' AND object = 'table public.jobs'";
    let fixes: Vec<String> = column(&mut superuser, found, &[]);
    let doomed = db.new_tenant("doomed", scene.crook);
    run(&mut superuser, &format!("INSERT INTO jobs VALUES (1, '{doomed}'); SELECT tenant_delete('{doomed}')"));
    removed(db);
    assert_eq!(left(db, "jobs", doomed), 0);
    let lines: Vec<String> = column(&mut superuser, "SELECT line FROM log", &[]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("own as "), "{lines:?}");
    assert_eq!(fixes, ["REVOKE TRIGGER ON public.jobs FROM fluxbase_tenant_user"]);
    run(&mut superuser, &fixes[0]);
    assert_eq!(column::<String>(&mut superuser, found, &[]), [""; 0]);
    expect_error(
        scene
            .thief()
            .batch_execute("CREATE TRIGGER more BEFORE DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION lair.evil()"),
        "42501",
    );
}

fn trigger_cloned_to_a_superusers_partition(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.t (n int) PARTITION BY LIST (n); CREATE TABLE lair.runs (role text); GRANT ALL ON lair.runs TO PUBLIC;
         CREATE FUNCTION lair.evil() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO lair.runs VALUES (current_user); RETURN OLD; END';
         CREATE TRIGGER evil BEFORE DELETE ON lair.t FOR EACH ROW EXECUTE FUNCTION lair.evil();
         CREATE FUNCTION lair.when_evil() RETURNS boolean LANGUAGE plpgsql AS
             'BEGIN INSERT INTO lair.runs VALUES (current_user); RETURN false; END';
         CREATE TRIGGER condition BEFORE DELETE ON lair.t FOR EACH ROW WHEN (lair.when_evil())
             EXECUTE FUNCTION suppress_redundant_updates_trigger();
         CREATE TABLE lair.own PARTITION OF lair.t FOR VALUES IN (2)",
    );
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        &format!(
            "SELECT tenant_protect('lair.t'); CREATE TABLE lair.part PARTITION OF lair.t FOR VALUES IN (1);
             INSERT INTO lair.t VALUES (1, '{doomed}'), (2, '{doomed}'); SELECT tenant_delete('{doomed}')"
        ),
    );
    removed(db);
    assert_eq!(left(db, "lair.t", doomed), 0);
    let runs: Vec<bool> =
        column(&mut superuser, "SELECT r.rolsuper FROM lair.runs JOIN pg_roles r ON r.rolname = role", &[]);
    assert_eq!(runs, [false], "only for the thief's own partition, and without the trigger with a condition");
}

/// Before PostgreSQL 18, AFTER triggers queued by a cascade run as the role that deletes the first row.
fn trigger_of_a_table_that_a_key_cascades_to(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        &format!(
            "CREATE TABLE jobs (n int PRIMARY KEY); SELECT tenant_protect('jobs'); GRANT REFERENCES ON jobs TO fluxbase_tenant_user;
             INSERT INTO jobs VALUES (1, '{doomed}')"
        ),
    );
    let mut thief = scene.thief();
    run(
        &mut thief,
        "CREATE TABLE lair.child (n int REFERENCES jobs ON DELETE CASCADE); CREATE TABLE lair.runs (role text);
         GRANT ALL ON lair.runs TO PUBLIC; INSERT INTO lair.child VALUES (1);
         CREATE FUNCTION lair.evil() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO lair.runs VALUES (current_user); RETURN OLD; END';
         CREATE TRIGGER evil AFTER DELETE ON lair.child FOR EACH ROW EXECUTE FUNCTION lair.evil()",
    );
    run(&mut superuser, &format!("SELECT tenant_delete('{doomed}')"));
    let problem = reported(db, "table public.jobs");
    assert!(problem.contains("evil on lair.child"), "{problem}");
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM lair.runs", &[]), 0);
    // A rule leads to another table and its triggers.
    run(
        &mut thief,
        "DROP TRIGGER evil ON lair.child; CREATE TABLE lair.x (n int);
         CREATE RULE further AS ON DELETE TO lair.child DO ALSO INSERT INTO lair.x VALUES (OLD.n);
         CREATE TRIGGER evil AFTER INSERT ON lair.x FOR EACH ROW EXECUTE FUNCTION lair.evil()",
    );
    run(&mut superuser, "SELECT tenant_purge('100 years')");
    until("the rule is reported", || reported(db, "table public.jobs").contains("further on lair.child"));
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM lair.runs", &[]), 0);
    run(&mut thief, "DROP RULE further ON lair.child");
    run(&mut superuser, "SELECT tenant_purge('100 years')");
    removed(db);
    assert_eq!(left(db, "jobs", doomed), 0);
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM lair.child", &[]), 0);
}

/// When the call continues, the name of the next partition refers to a superuser's table, whose policies must stay.
fn schemas_renamed_while_unprotect_waits(db: &Db) {
    let scene = Scene::set(db);
    let mut superuser = db.superuser();
    run(&mut superuser, &format!("GRANT CREATE ON DATABASE {} TO {}", db.name(), scene.role));
    run(
        &mut scene.thief(),
        "CREATE SCHEMA first; CREATE SCHEMA second; GRANT ALL ON SCHEMA second TO PUBLIC;
         CREATE TABLE first.t (n int) PARTITION BY LIST (n); CREATE TABLE first.a PARTITION OF first.t FOR VALUES IN (1);
         CREATE TABLE first.b PARTITION OF first.t FOR VALUES IN (2); CREATE TABLE second.t (); CREATE TABLE second.a ()",
    );
    run(
        &mut superuser,
        "CREATE TABLE second.b (n int); SELECT tenant_protect('second.b'); SELECT tenant_protect('first.t')",
    );
    let mut thief = scene.thief();
    run(&mut thief, "BEGIN; SELECT count(*) FROM first.a");
    let mut caller = db.superuser();
    let pid: i32 = one(&mut caller, "SELECT pg_backend_pid()", &[]);
    let call = std::thread::spawn(move || caller.batch_execute("SELECT tenant_unprotect('first.t')"));
    until("the session waits", || {
        call.is_finished() || one::<bool>(&mut superuser, "SELECT pg_blocking_pids($1) <> '{}'", &[&pid])
    });
    run(&mut thief, "ALTER SCHEMA first RENAME TO old; ALTER SCHEMA second RENAME TO first; COMMIT");
    let error = call.join().unwrap().unwrap_err();
    let message = error.as_db_error().expect("an error of the server").message();
    assert!(message.contains("renamed concurrently"), "{error:?}");
    let kept = "SELECT relation::regclass::text FROM fluxbase_tenant.isolation_policies
                WHERE in_force AND tenant_id IS NULL ORDER BY 1";
    assert_eq!(column::<String>(&mut superuser, kept, &[]), ["first.b", "old.a", "old.b", "old.t"]);
    run(&mut superuser, "SELECT tenant_unprotect('old.t')");
    assert_eq!(column::<String>(&mut superuser, kept, &[]), ["first.b"]);
}

/// Any role can create the policy on its own tables. tenant_check() reports such a table, but not the tables that
/// inherit from it.
fn unlisted_tables_with_the_policy(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.claims (tenant_id uuid); CREATE TABLE lair.below () INHERITS (lair.claims);
         CREATE POLICY tenant_isolation ON lair.claims USING (tenant_id = ANY ((SELECT fluxbase_tenant.accessible_tenant_ids())::uuid[]))",
    );
    let found = "SELECT object FROM tenant_check() WHERE object LIKE 'table lair.%'";
    assert_eq!(column::<String>(&mut db.superuser(), found, &[]), ["table lair.claims"]);
}
