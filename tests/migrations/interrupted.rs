//! A migration outside a transaction takes its time: it can be killed, be given up, and be asked for twice.

use std::time::Duration;

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::fleet::{until, workers};
use crate::support::people::{column, one, run};
use crate::support::unfinished::{HALF, fleet_with_log, old_snapshot, steps};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    killed_while_it_builds,
    cancelled_while_it_builds,
    killed_between_the_build_and_its_note,
    killed_while_it_detaches,
    detaching_that_was_given_up_is_finished,
    drop_of_an_index_that_was_given_up_is_finished,
    two_runs_do_it_once,
    a_second_run_that_is_waited_for,
    a_run_that_waits_for_its_own_caller,
    whatever_isolation_the_database_has,
    second_run_waits_and_is_not_waited_for,
    others_are_told_while_it_runs,
    lock_timeout_and_retries,
    index_that_somebody_else_builds_stays,
];

#[track_caller]
fn kill_the_worker(client: &mut Client) {
    let pid = workers(client)[0];
    run(client, &format!("SELECT pg_terminate_backend({pid})"));
}

/// A run that has come to its `done`th statement and waits there.
#[track_caller]
fn waiting_at(client: &mut Client, done: i32) {
    until("the run waits at the statement", || {
        let sql = "SELECT count(*) FROM fluxbase_tenant.unfinished_migrations u, pg_stat_activity a
                   WHERE u.statements_done = $1 AND a.backend_type = 'fluxbase_tenant fleet' AND a.wait_event_type = 'Lock'
                   AND a.datname = current_database()";
        one::<i64>(client, sql, &[&done]) > 0
    });
}

fn killed_while_it_builds(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    db.add_nontransactional("3", HALF);
    // In its last phase, and in its first.
    for blocking in ["SELECT 1", "INSERT INTO tenant_t1.items VALUES (77, 'open')"] {
        let mut holder = old_snapshot(db);
        run(&mut holder, blocking);
        let ran = db.migrate_all_aside("lock_timeout => '0'");
        waiting_at(&mut client, 1);
        kill_the_worker(&mut client);
        expect_error(ran.join().unwrap(), "55000").message_has("0 of 1 tenants done");
        run(&mut holder, "ROLLBACK");
        db.assert_no_workers();
        assert_eq!(db.migration_status(), ["t1 2 1 3, 1 of 3 statements done"]);
        let error: Option<String> = one(&mut client, "SELECT error FROM fluxbase_tenant.unfinished_migrations", &[]);
        assert_eq!(error, None, "killed, it could not say why");
    }
    assert_eq!(db.migrate_all(""), ["t1 migrated 1"]);
    assert_eq!(steps(&mut client, "t1"), "1 3");
    db.assert_all_is_done();
}

fn cancelled_while_it_builds(db: &Db) {
    let mut client = fleet_with_log(db, 2);
    db.add_nontransactional("3", HALF);
    let mut holder = old_snapshot(db);
    let mut caller = db.admin();
    let pid: i32 = one(&mut caller, "SELECT pg_backend_pid()", &[]);
    let ran = std::thread::spawn(move || caller.execute("SELECT * FROM tenant_migrate_all(lock_timeout => '0')", &[]));
    waiting_at(&mut client, 1);
    run(&mut client, &format!("SELECT pg_cancel_backend({pid})"));
    expect_error(ran.join().unwrap(), "57014");
    until("the workers are gone", || workers(&mut client).is_empty());
    run(&mut holder, "ROLLBACK");
    assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1"]);
    assert_eq!(steps(&mut client, "t1"), "1 3");
    assert_eq!(steps(&mut client, "t2"), "1 3");
    db.assert_all_is_done();
}

/// The build is done, and nobody knows: not even after an attempt that could not so much as look.
fn killed_between_the_build_and_its_note(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    db.add_nontransactional("3", HALF);
    let mut holder = old_snapshot(db);
    let ran = db.migrate_all_aside("lock_timeout => '0'");
    waiting_at(&mut client, 1);
    kill_the_worker(&mut client);
    expect_error(ran.join().unwrap(), "55000");
    run(&mut holder, "COMMIT");
    // As the build would have left it.
    run(&mut client, "DROP INDEX tenant_t1.body_idx; CREATE UNIQUE INDEX body_idx ON tenant_t1.items (body)");
    run(&mut holder, "BEGIN; LOCK TABLE tenant_t1.items");
    for _ in 0..2 {
        assert_eq!(db.migrate_all("lock_timeout => '50 ms', retries => 0"), ["t1 failed 0 55P03"]);
    }
    run(&mut holder, "COMMIT");
    assert_eq!(db.migrate_all(""), ["t1 migrated 1"]);
    assert_eq!(steps(&mut client, "t1"), "1 3");
    db.assert_all_is_done();
    // An index that was there before is no such thing: it is told again and again.
    db.add_nontransactional("4", "CREATE INDEX CONCURRENTLY body_idx ON items (id)");
    for _ in 0..2 {
        assert_eq!(db.migrate_all(""), ["t1 failed 0 42P07"]);
    }
}

const DETACH: &str = "INSERT INTO log (step) VALUES (1); ALTER TABLE parts DETACH PARTITION part1 CONCURRENTLY;
    INSERT INTO log (step) VALUES (3)";

fn killed_while_it_detaches(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    db.add_nontransactional("3", DETACH);
    let mut reader = db.superuser();
    run(&mut reader, "BEGIN; SELECT count(*) FROM tenant_t1.parts");
    let ran = db.migrate_all_aside("lock_timeout => '0'");
    waiting_at(&mut client, 1);
    kill_the_worker(&mut client);
    expect_error(ran.join().unwrap(), "55000");
    run(&mut reader, "COMMIT");
    assert_eq!(db.migrate_all(""), ["t1 migrated 1"]);
    detached(db, &mut client);
}

fn detaching_that_was_given_up_is_finished(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    db.add_nontransactional("3", DETACH);
    let mut reader = db.superuser();
    run(&mut reader, "BEGIN; SELECT count(*) FROM tenant_t1.parts");
    assert_eq!(db.migrate_all("lock_timeout => '50 ms', retries => 1"), ["t1 failed 0 55P03"]);
    let pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    assert_eq!(one::<i64>(&mut client, pending, &[]), 1, "it did not stop where it was to");
    run(&mut reader, "COMMIT");
    assert_eq!(db.migrate_all(""), ["t1 migrated 1"]);
    detached(db, &mut client);
}

#[track_caller]
fn detached(db: &Db, client: &mut Client) {
    assert_eq!(steps(client, "t1"), "1 3");
    assert_eq!(one::<i64>(client, "SELECT count(*) FROM tenant_t1.parts", &[]), 0);
    assert_eq!(one::<i64>(client, "SELECT count(*) FROM tenant_t1.part1", &[]), 1);
    assert_eq!(one::<i64>(client, "SELECT count(*) FROM pg_inherits WHERE inhdetachpending", &[]), 0);
    db.assert_all_is_done();
}

fn drop_of_an_index_that_was_given_up_is_finished(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    db.add_migration("3", "CREATE INDEX old_idx ON items (body)");
    db.add_nontransactional(
        "4",
        "INSERT INTO log (step) VALUES (1); DROP INDEX CONCURRENTLY old_idx; INSERT INTO log (step) VALUES (3)",
    );
    assert_eq!(db.migrate_all("'3'"), ["t1 migrated 1"]);
    let mut reader = db.superuser();
    run(&mut reader, "BEGIN; SELECT count(*) FROM tenant_t1.items");
    assert_eq!(db.migrate_all("lock_timeout => '50 ms', retries => 2"), ["t1 failed 0 55P03"]);
    run(&mut reader, "COMMIT");
    assert_eq!(db.migrate_all(""), ["t1 migrated 1"]);
    assert_eq!(steps(&mut client, "t1"), "1 3");
    let left = "SELECT count(*) FROM pg_class WHERE relname = 'old_idx'";
    assert_eq!(one::<i64>(&mut client, left, &[]), 0);
    db.assert_all_is_done();
}

fn two_runs_do_it_once(db: &Db) {
    let mut client = fleet_with_log(db, 8);
    db.add_nontransactional("3", &format!("SELECT pg_sleep(0.02); {HALF}; SELECT pg_sleep(0.02)"));
    db.add_migration("4", "INSERT INTO log (step) VALUES (4)");
    let runs: Vec<_> = (0..3).map(|_| db.migrate_all_aside("lock_timeout => '20 s'")).collect();
    let visits: Vec<String> = runs.into_iter().flat_map(|ran| ran.join().unwrap().unwrap()).collect();
    let failed: Vec<&String> = visits.iter().filter(|visit| !visit.contains("migrated")).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let applied: i32 = visits.iter().map(|visit| visit.split(' ').nth(2).unwrap().parse::<i32>().unwrap()).sum();
    assert_eq!(applied, 16, "what others did is not counted: {visits:?}");
    for tenant in 1..=8 {
        assert_eq!(steps(&mut client, &format!("t{tenant}")), "1 3 4");
    }
    db.assert_all_is_done();
}

fn whatever_isolation_the_database_has(db: &Db) {
    let mut client = fleet_with_log(db, 4);
    for (number, level) in (3..).zip(["repeatable read", "serializable"]) {
        db.configure("default_transaction_isolation", level);
        let script = HALF.replace("body_idx", &format!("body{number}_idx"));
        db.add_nontransactional(&number.to_string(), &script);
        let runs: Vec<_> = (0..2).map(|_| db.migrate_all_aside("lock_timeout => '20 s'")).collect();
        let visits: Vec<String> = runs.into_iter().flat_map(|ran| ran.join().unwrap().unwrap()).collect();
        let failed: Vec<&String> = visits.iter().filter(|visit| !visit.contains("migrated")).collect();
        assert!(failed.is_empty(), "{level}: {failed:?}");
    }
    for slug in ["t1", "t2", "t3", "t4"] {
        assert_eq!(steps(&mut client, slug), "1 3 1 3");
    }
    db.assert_all_is_done();
}

/// A build waits for all old snapshots; one of a worker that waits for the build would make a circle.
fn second_run_waits_and_is_not_waited_for(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    db.add_nontransactional("3", HALF);
    // In the build's first phase, so that the second run's snapshot is older than the index.
    let mut holder = db.superuser();
    run(&mut holder, "BEGIN; INSERT INTO tenant_t1.items VALUES (77, 'open')");
    let first = db.migrate_all_aside("lock_timeout => '0', retries => 0");
    waiting_at(&mut client, 1);
    let second = db.migrate_all_aside("lock_timeout => '0', retries => 0");
    until("both wait", || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'fluxbase_tenant fleet'
                   AND datname = current_database() AND wait_event_type = 'Lock'";
        one::<i64>(&mut client, sql, &[]) == 2
    });
    run(&mut holder, "COMMIT");
    let applied = [first.join().unwrap().unwrap(), second.join().unwrap().unwrap()];
    assert_eq!(applied, [["t1 migrated 1"], ["t1 migrated 0"]]);
    assert_eq!(steps(&mut client, "t1"), "1 3");
    db.assert_all_is_done();
}

fn others_are_told_while_it_runs(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    db.add_nontransactional("3", HALF);
    let id: Uuid = one(&mut client, "SELECT id FROM tenant_get_by_slug('t1')", &[]);
    let mut holder = old_snapshot(db);
    let ran = db.migrate_all_aside("lock_timeout => '0'");
    waiting_at(&mut client, 1);
    let mut admin = db.admin();
    run(&mut admin, "SET statement_timeout = '10 s'");
    for call in ["tenant_delete('{}')", "tenant_rollback('{}', '1')", "tenant_migration_remove('3')"] {
        let refused = admin.query(&format!("SELECT * FROM {}", call.replace("{}", &id.to_string())), &[]);
        expect_refusal(refused, "conflict");
    }
    let refused = admin.query(&format!("SELECT * FROM tenant_delete('{id}')"), &[]);
    expect_refusal(refused, "conflict")
        .message("tenant \"t1\" is being migrated by another session")
        .hint_has("tenant_migration_progress()");
    // Nothing pending up to there, so there is nothing to wait for; what is pending cannot run inside.
    assert_eq!(one::<i32>(&mut admin, "SELECT applied FROM tenant_migrate($1, '2')", &[&id]), 0);
    expect_error(admin.query("SELECT * FROM tenant_migrate($1)", &[&id]), "25001");
    db.add_migration("2.5", "INSERT INTO log (step) VALUES (25)");
    let refused = admin.query("SELECT * FROM tenant_migrate($1, '2.5')", &[&id]);
    expect_refusal(refused, "conflict").message("tenant \"t1\" is being migrated by another session");
    // What has nothing to do with the schema goes on, and so does the tenant's work.
    run(&mut admin, &format!("SELECT tenant_update('{id}', 'New'), tenant_suspend('{id}'), tenant_resume('{id}')"));
    run(&mut admin, "INSERT INTO tenant_t1.items VALUES (5, 'five')");
    assert_eq!(one::<i64>(&mut admin, "SELECT done FROM tenant_migration_progress()", &[]), 0);
    assert_eq!(db.migration_status(), ["t1 2 2 3, 1 of 3 statements done"]);
    run(&mut holder, "COMMIT");
    assert_eq!(ran.join().unwrap().unwrap(), ["t1 migrated 2"], "and what came meanwhile");
    assert_eq!(steps(&mut client, "t1"), "1 3 25");
    db.assert_all_is_done();
    run(&mut admin, &format!("SELECT tenant_delete('{id}')"));
    assert_eq!(db.traces(id, "tenant_t1"), 0);
}

fn lock_timeout_and_retries(db: &Db) {
    let mut client = fleet_with_log(db, 3);
    db.add_nontransactional("3", HALF);
    let mut holder = db.superuser();
    run(&mut holder, "BEGIN; INSERT INTO tenant_t2.items VALUES (9, 'nine')");
    let told = db.migrate_all("lock_timeout => '50 ms', retries => 2");
    assert_eq!(told, ["t1 migrated 1", "t2 failed 0 55P03", "t3 migrated 1"]);
    let ran = db.migrate_all_aside("lock_timeout => '50 ms', retries => 20");
    std::thread::sleep(std::time::Duration::from_millis(400));
    run(&mut holder, "COMMIT");
    assert_eq!(ran.join().unwrap().unwrap(), ["t2 migrated 1"]);
    assert_eq!(steps(&mut client, "t2"), "1 3");
    db.assert_all_is_done();
}

/// An administrator's build is invalid while it lasts, and no leftover.
fn index_that_somebody_else_builds_stays(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    let mut holder = old_snapshot(db);
    let mut builder = db.superuser();
    let built = std::thread::spawn(move || {
        builder.batch_execute("CREATE INDEX CONCURRENTLY by_hand_idx ON tenant_t1.items (id, body)")
    });
    until("the build waits", || {
        let sql = "SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indisready";
        one::<i64>(&mut client, sql, &[]) == 1
    });
    db.add_nontransactional("3", "CREATE INDEX CONCURRENTLY other_idx ON items (body)");
    let ran = db.migrate_all_aside("lock_timeout => '20 s'");
    std::thread::sleep(std::time::Duration::from_millis(300));
    run(&mut holder, "COMMIT");
    built.join().unwrap().unwrap();
    assert_eq!(ran.join().unwrap().unwrap(), ["t1 migrated 1"]);
    let valid = "SELECT count(*) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
                 WHERE relname IN ('by_hand_idx', 'other_idx') AND indisvalid";
    assert_eq!(one::<i64>(&mut client, valid, &[]), 2);
    db.assert_all_is_done();
}

/// The second run's session has a snapshot before it says that no build need wait for it: the first run's build waits for
/// that session, whose worker waits for the first run's.
fn a_second_run_that_is_waited_for(db: &Db) {
    db.new_fleet(1);
    db.add_migration("2", "INSERT INTO items VALUES (1, 'a')");
    db.migrate_all("");
    db.add_nontransactional("3", "CREATE INDEX CONCURRENTLY body_idx ON items (body)");
    let mut holder = db.superuser();
    run(&mut holder, "BEGIN; INSERT INTO tenant_t1.items VALUES (2, 'b')");
    let first = db.migrate_all_aside("lock_timeout => '0'");
    let mut watcher = db.superuser();
    let building = "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()";
    until("the build waits for the writer", || one::<i64>(&mut watcher, building, &[]) == 1);
    // The snapshot is taken, and a second and a half later the function is called.
    let mut second = db.admin();
    let late = std::thread::spawn(move || {
        let sql = "SELECT concat_ws(' ', m.slug, m.status) FROM (SELECT pg_sleep(1.5) OFFSET 0) s,
                   LATERAL tenant_migrate_all(lock_timeout => '0') m";
        second.query(sql, &[]).map(|rows| rows.iter().map(|row| row.get(0)).collect::<Vec<String>>())
    });
    std::thread::sleep(Duration::from_millis(700));
    run(&mut holder, "COMMIT");
    until("both runs have ended", || first.is_finished() && late.is_finished());
    assert_eq!(first.join().unwrap().unwrap(), ["t1 migrated 1"]);
    assert_eq!(late.join().unwrap().unwrap(), ["t1 migrated"]);
    db.assert_all_is_done();
}

/// The statement that calls has a table of the tenant's in use, which the migration is to alter. The server sees that each waits
/// for the other, for the caller waits for a lock too.
fn a_run_that_waits_for_its_own_caller(db: &Db) {
    db.new_fleet(1);
    db.add_migration("2", "ALTER TABLE items ADD COLUMN more int");
    let mut admin = db.superuser();
    let sql = "SELECT m.slug || ' ' || m.status || ' ' || m.sqlstate FROM (SELECT count(*) FROM tenant_t1.items) i,
               LATERAL tenant_migrate_all(lock_timeout => '0', retries => 0) m";
    let told: Vec<String> = column(&mut admin, sql, &[]);
    assert_eq!(told, ["t1 failed 40P01"]);
    assert_eq!(db.migrate_all(""), ["t1 migrated 1"]);
}
