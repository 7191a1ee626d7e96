//! A nontransactional migration takes time: it can be killed, cancelled or time out, and other runs can call it
//! concurrently.

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
    killed_between_the_build_and_its_record,
    killed_while_it_detaches,
    interrupted_detach_is_completed,
    interrupted_drop_of_an_index_is_completed,
    concurrent_runs_apply_once,
    a_build_that_waits_for_a_second_run,
    a_run_that_waits_for_its_own_caller,
    any_default_isolation_level,
    second_run_waits_without_blocking_the_build,
    conflicting_calls_are_refused_while_it_runs,
    lock_timeout_and_retries,
    index_built_by_another_session_is_kept,
];

#[track_caller]
fn kill_the_worker(client: &mut Client) {
    let pid = workers(client)[0];
    run(client, &format!("SELECT pg_terminate_backend({pid})"));
}

/// Waits until a run has completed `done` statements and waits for a lock in the next one.
#[track_caller]
fn until_waiting_after(client: &mut Client, done: i32) {
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
    // Once in the last phase of the build, and once in its first.
    for blocking in ["SELECT 1", "INSERT INTO tenant_t1.items VALUES (77, 'open')"] {
        let mut holder = old_snapshot(db);
        run(&mut holder, blocking);
        let ran = db.migrate_all_in_background("lock_timeout => '0'");
        until_waiting_after(&mut client, 1);
        kill_the_worker(&mut client);
        expect_error(ran.join().unwrap(), "55000").message_has("0 of 1 tenants done");
        run(&mut holder, "ROLLBACK");
        db.assert_no_workers();
        assert_eq!(db.migration_status(), ["t1 2 1 3, 1 of 3 statements done"]);
        let error: Option<String> = one(&mut client, "SELECT error FROM fluxbase_tenant.unfinished_migrations", &[]);
        assert_eq!(error, None, "a killed worker records no error");
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
    until_waiting_after(&mut client, 1);
    run(&mut client, &format!("SELECT pg_cancel_backend({pid})"));
    expect_error(ran.join().unwrap(), "57014");
    until("the workers have ended", || workers(&mut client).is_empty());
    run(&mut holder, "ROLLBACK");
    assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1"]);
    assert_eq!(steps(&mut client, "t1"), "1 3");
    assert_eq!(steps(&mut client, "t2"), "1 3");
    db.assert_all_is_done();
}

/// The build is complete and not recorded, and the next attempts cannot even lock the table to look.
fn killed_between_the_build_and_its_record(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    db.add_nontransactional("3", HALF);
    let mut holder = old_snapshot(db);
    let ran = db.migrate_all_in_background("lock_timeout => '0'");
    until_waiting_after(&mut client, 1);
    kill_the_worker(&mut client);
    expect_error(ran.join().unwrap(), "55000");
    run(&mut holder, "COMMIT");
    // The state that the completed build would have left.
    run(&mut client, "DROP INDEX tenant_t1.body_idx; CREATE UNIQUE INDEX body_idx ON tenant_t1.items (body)");
    run(&mut holder, "BEGIN; LOCK TABLE tenant_t1.items");
    for _ in 0..2 {
        assert_eq!(db.migrate_all("lock_timeout => '50 ms', retries => 0"), ["t1 failed 0 55P03"]);
    }
    run(&mut holder, "COMMIT");
    assert_eq!(db.migrate_all(""), ["t1 migrated 1"]);
    assert_eq!(steps(&mut client, "t1"), "1 3");
    db.assert_all_is_done();
    // An index that existed before the migration is a conflict, which every attempt reports.
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
    let ran = db.migrate_all_in_background("lock_timeout => '0'");
    until_waiting_after(&mut client, 1);
    kill_the_worker(&mut client);
    expect_error(ran.join().unwrap(), "55000");
    run(&mut reader, "COMMIT");
    assert_eq!(db.migrate_all(""), ["t1 migrated 1"]);
    detached(db, &mut client);
}

fn interrupted_detach_is_completed(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    db.add_nontransactional("3", DETACH);
    let mut reader = db.superuser();
    run(&mut reader, "BEGIN; SELECT count(*) FROM tenant_t1.parts");
    assert_eq!(db.migrate_all("lock_timeout => '50 ms', retries => 1"), ["t1 failed 0 55P03"]);
    let pending = "SELECT count(*) FROM pg_inherits WHERE inhdetachpending";
    assert_eq!(one::<i64>(&mut client, pending, &[]), 1, "the detach was not interrupted between its phases");
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

fn interrupted_drop_of_an_index_is_completed(db: &Db) {
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

fn concurrent_runs_apply_once(db: &Db) {
    let mut client = fleet_with_log(db, 8);
    db.add_nontransactional("3", &format!("SELECT pg_sleep(0.02); {HALF}; SELECT pg_sleep(0.02)"));
    db.add_migration("4", "INSERT INTO log (step) VALUES (4)");
    let runs: Vec<_> = (0..3).map(|_| db.migrate_all_in_background("lock_timeout => '20 s'")).collect();
    let visits: Vec<String> = runs.into_iter().flat_map(|ran| ran.join().unwrap().unwrap()).collect();
    let failed: Vec<&String> = visits.iter().filter(|visit| !visit.contains("migrated")).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let applied: i32 = visits.iter().map(|visit| visit.split(' ').nth(2).unwrap().parse::<i32>().unwrap()).sum();
    assert_eq!(applied, 16, "a run counts only what it applied itself: {visits:?}");
    for tenant in 1..=8 {
        assert_eq!(steps(&mut client, &format!("t{tenant}")), "1 3 4");
    }
    db.assert_all_is_done();
}

fn any_default_isolation_level(db: &Db) {
    let mut client = fleet_with_log(db, 4);
    for (number, level) in (3..).zip(["repeatable read", "serializable"]) {
        db.configure("default_transaction_isolation", level);
        let script = HALF.replace("body_idx", &format!("body{number}_idx"));
        db.add_nontransactional(&number.to_string(), &script);
        let runs: Vec<_> = (0..2).map(|_| db.migrate_all_in_background("lock_timeout => '20 s'")).collect();
        let visits: Vec<String> = runs.into_iter().flat_map(|ran| ran.join().unwrap().unwrap()).collect();
        let failed: Vec<&String> = visits.iter().filter(|visit| !visit.contains("migrated")).collect();
        assert!(failed.is_empty(), "{level}: {failed:?}");
    }
    for slug in ["t1", "t2", "t3", "t4"] {
        assert_eq!(steps(&mut client, slug), "1 3 1 3");
    }
    db.assert_all_is_done();
}

/// A build waits for all older snapshots. If a worker that waits for the build held one, the two would deadlock.
fn second_run_waits_without_blocking_the_build(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    db.add_nontransactional("3", HALF);
    // In the first phase of the build, so that the second run's snapshot would be older than the index.
    let mut holder = db.superuser();
    run(&mut holder, "BEGIN; INSERT INTO tenant_t1.items VALUES (77, 'open')");
    let first = db.migrate_all_in_background("lock_timeout => '0', retries => 0");
    until_waiting_after(&mut client, 1);
    let second = db.migrate_all_in_background("lock_timeout => '0', retries => 0");
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

fn conflicting_calls_are_refused_while_it_runs(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    db.add_nontransactional("3", HALF);
    let id: Uuid = one(&mut client, "SELECT id FROM tenant_get_by_slug('t1')", &[]);
    let mut holder = old_snapshot(db);
    let ran = db.migrate_all_in_background("lock_timeout => '0'");
    until_waiting_after(&mut client, 1);
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
    // Up to version 2 nothing is pending, so the call waits for nothing. The pending migration cannot run in a
    // transaction.
    assert_eq!(one::<i32>(&mut admin, "SELECT applied FROM tenant_migrate($1, '2')", &[&id]), 0);
    expect_error(admin.query("SELECT * FROM tenant_migrate($1)", &[&id]), "25001");
    db.add_migration("2.5", "INSERT INTO log (step) VALUES (25)");
    let refused = admin.query("SELECT * FROM tenant_migrate($1, '2.5')", &[&id]);
    expect_refusal(refused, "conflict").message("tenant \"t1\" is being migrated by another session");
    // Calls that do not concern the schema succeed, and so does the tenant's own work.
    run(&mut admin, &format!("SELECT tenant_update('{id}', 'New'), tenant_suspend('{id}'), tenant_resume('{id}')"));
    run(&mut admin, "INSERT INTO tenant_t1.items VALUES (5, 'five')");
    assert_eq!(one::<i64>(&mut admin, "SELECT done FROM tenant_migration_progress()", &[]), 0);
    assert_eq!(db.migration_status(), ["t1 2 2 3, 1 of 3 statements done"]);
    run(&mut holder, "COMMIT");
    assert_eq!(ran.join().unwrap().unwrap(), ["t1 migrated 2"], "including the migration added during the run");
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
    let results = db.migrate_all("lock_timeout => '50 ms', retries => 2");
    assert_eq!(results, ["t1 migrated 1", "t2 failed 0 55P03", "t3 migrated 1"]);
    let ran = db.migrate_all_in_background("lock_timeout => '50 ms', retries => 20");
    std::thread::sleep(std::time::Duration::from_millis(400));
    run(&mut holder, "COMMIT");
    assert_eq!(ran.join().unwrap().unwrap(), ["t2 migrated 1"]);
    assert_eq!(steps(&mut client, "t2"), "1 3");
    db.assert_all_is_done();
}

/// The index of an administrator's build is invalid while the build runs, and must not be taken for a leftover.
fn index_built_by_another_session_is_kept(db: &Db) {
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
    let ran = db.migrate_all_in_background("lock_timeout => '20 s'");
    std::thread::sleep(std::time::Duration::from_millis(300));
    run(&mut holder, "COMMIT");
    built.join().unwrap().unwrap();
    assert_eq!(ran.join().unwrap().unwrap(), ["t1 migrated 1"]);
    let valid = "SELECT count(*) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
                 WHERE relname IN ('by_hand_idx', 'other_idx') AND indisvalid";
    assert_eq!(one::<i64>(&mut client, valid, &[]), 2);
    db.assert_all_is_done();
}

/// The second run's session takes a snapshot before it declares that no build needs to wait for it. So the first run's
/// build waits for that session, whose worker waits for the first run's worker.
fn a_build_that_waits_for_a_second_run(db: &Db) {
    db.new_fleet(1);
    db.add_migration("2", "INSERT INTO items VALUES (1, 'a')");
    db.migrate_all("");
    db.add_nontransactional("3", "CREATE INDEX CONCURRENTLY body_idx ON items (body)");
    let mut holder = db.superuser();
    run(&mut holder, "BEGIN; INSERT INTO tenant_t1.items VALUES (2, 'b')");
    let first = db.migrate_all_in_background("lock_timeout => '0'");
    let mut watcher = db.superuser();
    let building = "SELECT count(*) FROM pg_stat_progress_create_index WHERE datname = current_database()";
    until("the build waits for the writer", || one::<i64>(&mut watcher, building, &[]) == 1);
    // The snapshot is taken 1.5 seconds before the function is called.
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

/// The calling statement uses a table of the tenant that the migration alters. PostgreSQL detects the deadlock, because
/// the caller waits for a lock as well.
fn a_run_that_waits_for_its_own_caller(db: &Db) {
    db.new_fleet(1);
    db.add_migration("2", "ALTER TABLE items ADD COLUMN more int");
    let mut admin = db.superuser();
    let sql = "SELECT m.slug || ' ' || m.status || ' ' || m.sqlstate FROM (SELECT count(*) FROM tenant_t1.items) i,
               LATERAL tenant_migrate_all(lock_timeout => '0', retries => 0) m";
    let results: Vec<String> = column(&mut admin, sql, &[]);
    assert_eq!(results, ["t1 failed 40P01"]);
    assert_eq!(db.migrate_all(""), ["t1 migrated 1"]);
}
