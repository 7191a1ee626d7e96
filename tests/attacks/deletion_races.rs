//! Concurrent actions of untrusted roles while a tenant is deleted. They neither keep the tenant nor delay the removal
//! of others.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::Db;
use crate::support::fleet::until;
use crate::support::people::{one, run};
use crate::support::scene::Scene;

cases![
    function_grants_committed_during_a_deletion,
    deadlock_with_the_deletion,
    view_added_to_an_extension_during_a_deletion,
    open_change_of_an_extensions_members,
    view_added_to_an_extension_while_the_worker_waits,
    open_grant_on_the_schema,
];

/// Deletes a tenant while another session runs a script.
fn delete_during(db: &Db, tenant: Uuid, mut other: Client, script: &str) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = other.batch_execute(script);
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        let deleted: String = one(&mut db.admin(), "SELECT slug FROM tenant_delete($1)", &[&tenant]);
        assert!(!deleted.is_empty());
    });
}

/// A grant on a function updates its pg_proc row without taking a lock that the deletion could see.
fn function_grants_committed_during_a_deletion(db: &Db) {
    let scene = Scene::set(db);
    let mut thief = scene.thief();
    run(&mut thief, "CREATE FUNCTION lair.f(tenant_thief.notes) RETURNS int LANGUAGE sql AS 'SELECT 1'");
    let script = "BEGIN; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA lair TO pg_monitor; SELECT pg_sleep(1.2); COMMIT";
    delete_during(db, scene.thief, thief, script);
    until("the tenant is deleted", || db.traces(scene.thief, "tenant_thief") == 0);
}

/// A session that holds a lock which the deletion waits for requests a lock that the deletion holds. The deadlock
/// detector ends one of the two.
fn deadlock_with_the_deletion(db: &Db) {
    let scene = Scene::set(db);
    db.add_migration("2", "CREATE TABLE more (id bigserial PRIMARY KEY)");
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
    let number = |name: &str| -> u32 { one(&mut db.superuser(), &format!("SELECT '{name}'::regclass::oid"), &[]) };
    let (first, last) = (number("tenant_victim.notes_id_seq"), number("tenant_victim.more_id_seq"));
    let script = format!(
        "DO $$ BEGIN
             BEGIN PERFORM nextval({last}::regclass); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
             FOR i IN 1..200 LOOP
                 PERFORM pg_stat_clear_snapshot();
                 EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE relation = {last} AND NOT granted);
                 PERFORM pg_sleep(0.02);
             END LOOP;
             BEGIN PERFORM nextval({first}::regclass); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
         END $$"
    );
    delete_during(db, scene.victim, scene.thief(), &script);
    until("the tenant is deleted", || db.traces(scene.victim, "tenant_victim") == 0);
}

/// DROP ... CASCADE would drop the extension and all objects that other roles built on it.
fn view_added_to_an_extension_during_a_deletion(db: &Db) {
    let scene = Scene::set(db);
    run(&mut db.superuser(), &format!("GRANT CREATE ON DATABASE {} TO {}", db.name(), scene.role));
    let mut thief = scene.thief();
    run(&mut thief, "CREATE EXTENSION citext SCHEMA lair; CREATE VIEW lair.v AS SELECT id FROM tenant_thief.notes");
    run(&mut db.superuser(), "CREATE TABLE others (x lair.citext)");
    let script = "BEGIN; ALTER EXTENSION citext ADD VIEW lair.v; SELECT pg_sleep(1.2); COMMIT";
    delete_during(db, scene.thief, thief, script);
    until("the tenant is deleted", || db.traces(scene.thief, "tenant_thief") == 0);
    let columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'others'::regclass AND attname = 'x'";
    assert_eq!(one::<i64>(&mut db.superuser(), columns, &[]), 1);
}

/// The removal of another tenant's rows continues at the same time.
fn open_change_of_an_extensions_members(db: &Db) {
    let scene = Scene::set(db);
    run(&mut db.superuser(), &format!("GRANT CREATE ON DATABASE {} TO {}", db.name(), scene.role));
    run(
        &mut db.superuser(),
        "CREATE TABLE events (id serial PRIMARY KEY, happened text); SELECT tenant_protect('events');
         CREATE TABLE details (event int REFERENCES events ON DELETE CASCADE)",
    );
    run(&mut db.superuser(), &format!("INSERT INTO events (happened, tenant_id) VALUES ('x', '{}')", scene.victim));
    let mut thief = scene.thief();
    run(
        &mut thief,
        "CREATE EXTENSION citext SCHEMA lair; CREATE VIEW lair.v AS SELECT id FROM tenant_thief.notes;
         ALTER EXTENSION citext ADD VIEW lair.v; BEGIN; ALTER EXTENSION citext DROP VIEW lair.v",
    );
    for tenant in [scene.thief, scene.victim] {
        run(&mut db.admin(), &format!("SELECT tenant_delete('{tenant}')"));
    }
    let left = "SELECT count(*) FROM events";
    until("the rows are deleted", || one::<i64>(&mut db.superuser(), left, &[]) == 0);
    run(&mut thief, "ROLLBACK");
    run(&mut db.admin(), "SELECT tenant_purge('1 day')");
    until("the tenant is deleted", || db.traces(scene.thief, "tenant_thief") == 0);
}

/// A second view is created on the first while the worker waits for the first.
fn view_added_to_an_extension_while_the_worker_waits(db: &Db) {
    let scene = Scene::set(db);
    run(&mut db.superuser(), &format!("GRANT CREATE ON DATABASE {} TO {}", db.name(), scene.role));
    let mut thief = scene.thief();
    run(
        &mut thief,
        "CREATE EXTENSION citext SCHEMA lair; CREATE VIEW lair.v AS SELECT id FROM tenant_thief.notes;
         CREATE VIEW lair.m AS SELECT id FROM tenant_thief.notes; ALTER EXTENSION citext ADD VIEW lair.m",
    );
    run(&mut db.superuser(), "CREATE TABLE others (x lair.citext)");
    let script = "BEGIN; PREPARE p AS SELECT id FROM lair.v; SELECT pg_sleep(1.5);
                  CREATE VIEW lair.w AS SELECT id FROM lair.v; ALTER EXTENSION citext ADD VIEW lair.w; COMMIT";
    delete_during(db, scene.thief, thief, script);
    run(&mut db.admin(), "SELECT tenant_purge('1 day')");
    until("the tenant is deleted", || db.traces(scene.thief, "tenant_thief") == 0);
    let columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'others'::regclass AND attname = 'x'";
    assert_eq!(one::<i64>(&mut db.superuser(), columns, &[]), 1);
}

/// The deletion revokes the privileges on the schema, but does not wait for another transaction that changes them.
fn open_grant_on_the_schema(db: &Db) {
    let scene = Scene::set(db);
    let mut granting = db.superuser();
    run(&mut granting, "BEGIN; GRANT USAGE ON SCHEMA tenant_victim TO pg_monitor");
    for timeout in ["0", "3s", "100ms"] {
        let mut client = db.admin();
        run(&mut client, &format!("SET statement_timeout = '25s'; SET lock_timeout = '{timeout}'; BEGIN"));
        let deleted: String = one(&mut client, "SELECT slug FROM tenant_delete($1)", &[&scene.victim]);
        assert_eq!(deleted, "victim", "with a lock_timeout of {timeout}");
        run(&mut client, "ROLLBACK");
    }
    run(&mut db.admin(), &format!("SELECT tenant_delete('{}')", scene.victim));
    run(&mut granting, "COMMIT");
    run(&mut db.admin(), "SELECT tenant_purge('1 day')");
    until("the tenant is deleted", || db.traces(scene.victim, "tenant_victim") == 0);
}
