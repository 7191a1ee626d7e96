//! Atomicity: a call that fails or is interrupted leaves no row, schema or role behind, and the session is unchanged.

use std::time::Duration;

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{new_user, one, reached, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    create_with_a_failing_migration_leaves_nothing,
    create_stopped_by_a_timeout_leaves_nothing,
    create_cancelled_by_another_session_leaves_nothing,
    create_in_a_terminated_session_leaves_nothing,
    create_waiting_for_a_lock_leaves_nothing,
    refused_create_leaves_nothing,
    later_error_rolls_back_a_create,
    create_runs_in_the_callers_transaction,
    rollback_undoes_a_delete,
    migrate_applies_all_versions_or_none,
    errors_leave_the_session_unchanged,
    plpgsql_can_catch_a_failure,
    crash_leaves_no_partial_tenant,
];

const CREATE: &str = "SELECT * FROM tenant_create('acme', 'Acme', id => $1)";

#[track_caller]
fn leaves_nothing(db: &Db, id: Uuid) {
    assert_eq!(db.traces(id, "tenant_acme"), 0);
    for table in ["members", "applied_migrations"] {
        let count = format!("SELECT count(*) FROM fluxbase_tenant.{table}");
        assert_eq!(one::<i64>(&mut db.superuser(), &count, &[]), 0, "{table}");
    }
}

/// A migration that creates a table and then sleeps, so that a test can interrupt it.
const SLOW: &str = "CREATE TABLE notes (body text); SELECT pg_sleep(60)";

/// Waits until a session of this database sleeps in pg_sleep, and returns its process id.
fn sleeping_session(db: &Db) -> i32 {
    let mut superuser = db.superuser();
    let asleep = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    for _ in 0..400 {
        if let Some(row) = superuser.query_opt(asleep, &[]).unwrap() {
            return row.get(0);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("no session reached pg_sleep");
}

fn create_with_a_failing_migration_leaves_nothing(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text)");
    db.add_migration("2", "SELECT 1 / 0");
    let id = Uuid::new_v4();
    let mut admin = db.admin();
    expect_error(admin.query(CREATE, &[&id]), "22012");
    leaves_nothing(db, id);
    expect_error(admin.query(CREATE, &[&id]), "22012");
}

fn create_stopped_by_a_timeout_leaves_nothing(db: &Db) {
    db.add_migration("1", SLOW);
    let id = Uuid::new_v4();
    let mut admin = db.admin();
    run(&mut admin, "SET statement_timeout = '500ms'");
    expect_error(admin.query(CREATE, &[&id]), "57014");
    leaves_nothing(db, id);
}

fn create_cancelled_by_another_session_leaves_nothing(db: &Db) {
    db.add_migration("1", SLOW);
    let id = Uuid::new_v4();
    let mut admin = db.admin();
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| {
            expect_error(admin.query(CREATE, &[&id]), "57014");
            // The session is still usable.
            assert_eq!(one::<String>(&mut admin, "SELECT current_user::text", &[]), "app_admin");
        });
        assert!(one::<bool>(&mut db.superuser(), "SELECT pg_cancel_backend($1)", &[&sleeping_session(db)]));
        creating.join().unwrap();
    });
    leaves_nothing(db, id);
}

fn create_in_a_terminated_session_leaves_nothing(db: &Db) {
    db.add_migration("1", SLOW);
    let id = Uuid::new_v4();
    let mut admin = db.admin();
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| assert!(admin.query(CREATE, &[&id]).is_err()));
        let pid = sleeping_session(db);
        assert!(one::<bool>(&mut db.superuser(), "SELECT pg_terminate_backend($1, 10000)", &[&pid]));
        creating.join().unwrap();
    });
    leaves_nothing(db, id);
}

fn create_waiting_for_a_lock_leaves_nothing(db: &Db) {
    let id = Uuid::new_v4();
    let mut holder = db.superuser();
    run(&mut holder, "BEGIN; LOCK TABLE fluxbase_tenant.tenants IN SHARE MODE");
    let mut waiter = db.admin();
    run(&mut waiter, "SET lock_timeout = '200ms'");
    expect_error(waiter.query(CREATE, &[&id]), "55P03");
    run(&mut holder, "ROLLBACK");
    leaves_nothing(db, id);
    waiter.query_one(CREATE, &[&id]).unwrap();
}

fn refused_create_leaves_nothing(db: &Db) {
    let id = Uuid::new_v4();
    let mut admin = db.admin();
    for call in ["tenant_create('acme', '', id => $1)", "tenant_create('acme', 'A', '[]', $1)"] {
        expect_refusal(admin.query(&format!("SELECT * FROM {call}"), &[&id]), "invalid_argument");
    }
    leaves_nothing(db, id);
}

fn later_error_rolls_back_a_create(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text)");
    let id = Uuid::new_v4();
    let mut admin = db.admin();
    run(&mut admin, "BEGIN");
    admin.query_one(CREATE, &[&id]).unwrap();
    expect_error(admin.batch_execute("SELECT 1 / 0"), "22012");
    run(&mut admin, "COMMIT");
    leaves_nothing(db, id);

    // The same in a single statement.
    let both = "SELECT 1 / (t.name <> 'Acme')::int FROM tenant_create('acme', 'Acme', id => $1) t";
    expect_error(admin.query(both, &[&id]), "22012");
    leaves_nothing(db, id);

    run(&mut admin, "BEGIN; SAVEPOINT s");
    admin.query_one(CREATE, &[&id]).unwrap();
    run(&mut admin, "ROLLBACK TO s");
    admin.query_one(CREATE, &[&id]).unwrap();
    run(&mut admin, "COMMIT");
    assert_eq!(db.traces(id, "tenant_acme"), 3);
}

fn create_runs_in_the_callers_transaction(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text)");
    let user = new_user();
    let mut admin = db.admin();
    run(&mut admin, "BEGIN");
    let create = "SELECT id FROM tenant_create('acme', 'Acme', admin_user_id => $1)";
    let id: Uuid = one(&mut admin, create, &[&user]);
    run(&mut admin, "INSERT INTO tenant_acme.notes VALUES ('in the same transaction')");
    run(&mut admin, &format!("SELECT tenant_add_member('{id}', gen_random_uuid())"));
    let mut client = db.as_user(user);
    expect_refusal(client.query("SELECT * FROM tenant_get($1)", &[&id]), "not_found");
    run(&mut admin, "COMMIT");
    client.query_one("SELECT * FROM tenant_get($1)", &[&id]).unwrap();
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 1);
}

fn rollback_undoes_a_delete(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('kept')");
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let mut admin = db.admin();
    run(&mut admin, &format!("BEGIN; SELECT tenant_delete('{id}')"));
    assert_eq!(db.traces(id, "tenant_acme"), 3, "it exists for other sessions until the commit");
    run(&mut admin, "ROLLBACK");
    assert_eq!(db.traces(id, "tenant_acme"), 3);
    assert_eq!(reached(&mut db.as_user(user), "tenant_acme.notes"), 1);
}

fn migrate_applies_all_versions_or_none(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    db.add_migration("1", "CREATE TABLE notes (body text)");
    db.add_migration("2", "INSERT INTO notes VALUES ('x'); SELECT 1 / 0");
    let mut admin = db.admin();
    expect_error(admin.query("SELECT * FROM tenant_migrate($1)", &[&id]), "22012");
    let row = admin.query_one("SELECT version, pending FROM tenant_migration_status()", &[]).unwrap();
    assert_eq!((row.get::<_, Option<&str>>(0), row.get::<_, i64>(1)), (None, 2));
    expect_error(admin.query("SELECT * FROM tenant_acme.notes", &[]), "42P01");
    let row = admin.query_one("SELECT to_version, applied FROM tenant_migrate($1, '1')", &[&id]).unwrap();
    assert_eq!((row.get(0), row.get::<_, i32>(1)), ("1", 1));
}

const SESSION_STATE: &str =
    "SELECT current_user::text || ' ' || session_user || ' ' || current_setting('search_path') || ' '
    || coalesce(tenant_current_user_id()::text, 'none') || ' ' || tenant_is_instance_admin()
    || ' ' || current_setting('row_security') || ' ' || current_setting('work_mem')";

#[track_caller]
fn fails_and_leaves_the_session_unchanged(client: &mut Client, call: &str) {
    run(client, "BEGIN");
    let before: String = one(client, SESSION_STATE, &[]);
    for _ in 0..3 {
        run(client, "SAVEPOINT s");
        assert!(client.query(&format!("SELECT * FROM {call}"), &[]).is_err(), "{call} succeeded");
        run(client, "ROLLBACK TO s");
        assert_eq!(one::<String>(client, SESSION_STATE, &[]), before, "{call}");
    }
    run(client, "COMMIT");
    assert_eq!(one::<String>(client, SESSION_STATE, &[]), before, "{call}");
}

fn errors_leave_the_session_unchanged(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    db.add_migration("1", "SET work_mem = '7MB'; SET search_path = pg_catalog; SELECT 1 / 0");
    let mut admin = db.admin();
    let migrate = format!("tenant_migrate('{id}')");
    for call in [&migrate, "tenant_create('acme', 'A')", "tenant_create('b', 'B')", "tenant_delete(NULL)"] {
        fails_and_leaves_the_session_unchanged(&mut admin, call);
    }
    let mut user = db.as_user(new_user());
    for call in [&migrate, "tenant_get()", "tenant_list()", "tenant_set_current('acme')", "tenant_get_by_slug('x')"] {
        fails_and_leaves_the_session_unchanged(&mut user, call);
    }
}

fn plpgsql_can_catch_a_failure(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    db.add_migration("1", "CREATE TABLE notes (body text); SELECT 1 / 0");
    let mut admin = db.admin();
    run(&mut admin, "BEGIN");
    let before: String = one(&mut admin, SESSION_STATE, &[]);
    run(
        &mut admin,
        &format!(
            "DO $$ BEGIN
                 FOR i IN 1..5 LOOP
                     BEGIN
                         PERFORM tenant_migrate('{id}');
                         RAISE EXCEPTION 'it succeeded';
                     EXCEPTION WHEN division_by_zero THEN
                         IF current_user <> 'app_admin' THEN RAISE EXCEPTION 'as %', current_user; END IF;
                         PERFORM tenant_update('{id}', 'Caught ' || i);
                     END;
                     BEGIN
                         PERFORM tenant_create('acme', 'Taken');
                     EXCEPTION WHEN unique_violation THEN NULL;
                     END;
                 END LOOP;
             END $$"
        ),
    );
    assert_eq!(one::<String>(&mut admin, SESSION_STATE, &[]), before);
    run(&mut admin, "COMMIT");
    assert_eq!(one::<String>(&mut admin, "SELECT name FROM tenant_get($1)", &[&id]), "Caught 5");
}

fn crash_leaves_no_partial_tenant(db: &Db) {
    let cluster = crate::support::Cluster::start(db.install(), &["fsync = on", "synchronous_commit = on"]);
    let db = Db::new(&cluster);
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('kept')");
    let user = new_user();
    let id = db.new_tenant("whole", user);
    let half = Uuid::new_v4();
    let mut admin = db.admin();
    run(&mut admin, "BEGIN");
    admin.query_one(CREATE, &[&half]).unwrap();
    cluster.restart("immediate");
    assert_eq!(db.traces(id, "tenant_whole"), 3);
    assert_eq!(reached(&mut db.as_user(user), "tenant_whole.notes"), 1);
    assert_eq!(db.traces(half, "tenant_acme"), 0);
}
