//! tenant_migrate_all() migrates the whole fleet in background workers. Whatever interrupts a run, its results say
//! which tenants were migrated.

use std::time::{Duration, Instant};

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Cluster, Db, expect_error, expect_refusal};

cases![
    migrates_every_tenant_that_lacks_something,
    nothing_pending_visits_no_tenant,
    a_failure_does_not_stop_other_tenants_and_is_recorded,
    stop_on_error_visits_no_further_tenants,
    dry_run_reports_and_changes_nothing,
    only_the_named_tenants_are_visited,
    tenants_are_migrated_up_to_a_target,
    deleted_tenants_are_skipped,
    refused_in_a_transaction_block,
    fleet_runs_are_for_instance_admins,
    bad_arguments_are_refused_before_anything_runs,
    cancelling_ends_the_workers,
    terminating_the_caller_ends_the_workers,
    terminating_a_worker_loses_nothing,
    two_runs_share_the_work,
    lock_waits_are_limited_and_retried,
    without_a_free_worker_the_run_fails,
    progress_is_visible_to_other_sessions,
    runs_that_a_crash_ended_are_closed,
    scripts_run_in_the_sandbox,
];

const SLOW: &str = "SELECT pg_sleep(0.3); ALTER TABLE items ADD COLUMN slow int;";

/// Creates tenants t1 to tn with a table each, and returns a superuser's session.
fn fleet(db: &Db, tenants: usize) -> Client {
    db.add_migration("1", "CREATE TABLE items (id int PRIMARY KEY, body text)");
    let mut client = db.superuser();
    run(&mut client, &format!("SELECT tenant_create('t' || g, 'T' || g) FROM generate_series(1, {tenants}) g"));
    client
}

fn pending(client: &mut Client) -> i64 {
    one(client, "SELECT coalesce(sum(pending), 0)::bigint FROM tenant_migration_status()", &[])
}

fn workers(client: &mut Client) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'fluxbase_tenant fleet'
               AND datname = current_database()";
    one(client, sql, &[])
}

#[track_caller]
fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let started = Instant::now();
    while !happened() {
        assert!(started.elapsed() < Duration::from_secs(30), "not in 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Asserts that ledger, version column and schema agree for every tenant.
#[track_caller]
fn consistent(client: &mut Client, column_name: &str, version: &str) {
    let sql = "SELECT t.slug FROM fluxbase_tenant.tenants t
               CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM information_schema.columns c WHERE c.table_schema = t.schema_name
                   AND c.column_name = $1) AS changed,
                   EXISTS (SELECT FROM fluxbase_tenant.applied_migrations a WHERE a.tenant_id = t.id AND a.version = $2) AS recorded) s
               WHERE s.changed <> s.recorded OR (t.schema_version = $2) <> s.recorded
                  OR t.applied <> (SELECT coalesce(sum(m.revision), 0) FROM fluxbase_tenant.applied_migrations a
              JOIN fluxbase_tenant.migrations m ON m.version = a.version WHERE a.tenant_id = t.id)";
    assert_eq!(column::<String>(client, sql, &[&column_name, &version]), Vec::<String>::new());
}

fn migrates_every_tenant_that_lacks_something(db: &Db) {
    let mut client = fleet(db, 12);
    db.add_migration("2", "ALTER TABLE items ADD COLUMN a int");
    db.add_migration("3", "ALTER TABLE items ADD COLUMN b int");
    let rows = client.query("SELECT * FROM tenant_migrate_all()", &[]).unwrap();
    assert_eq!(rows.len(), 12);
    for row in &rows {
        assert_eq!(row.get::<_, String>("status"), "migrated");
        assert_eq!(row.get::<_, Option<String>>("from_version").as_deref(), Some("1"));
        assert_eq!(row.get::<_, Option<String>>("to_version").as_deref(), Some("3"));
        assert_eq!(row.get::<_, i32>("applied"), 2);
        assert_eq!(row.get::<_, Option<String>>("error"), None);
    }
    consistent(&mut client, "b", "3");
    let history =
        "SELECT count(*) FROM fluxbase_tenant.fleet_runs WHERE finished_at IS NOT NULL AND total = 12 AND workers = 2";
    assert_eq!(one::<i64>(&mut client, history, &[]), 1);
}

fn nothing_pending_visits_no_tenant(db: &Db) {
    let mut client = fleet(db, 3);
    assert_eq!(client.query("SELECT * FROM tenant_migrate_all()", &[]).unwrap().len(), 0);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM fluxbase_tenant.fleet_runs", &[]), 0);
}

fn a_failure_does_not_stop_other_tenants_and_is_recorded(db: &Db) {
    let mut client = fleet(db, 6);
    run(&mut client, "INSERT INTO tenant_t4.items VALUES (1, 'x'), (2, 'x')");
    db.add_migration("2", "ALTER TABLE items ADD COLUMN a int; CREATE UNIQUE INDEX ON items (body)");
    let failed = client.query("SELECT * FROM tenant_migrate_all() WHERE status <> 'migrated'", &[]).unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].get::<_, String>("slug"), "t4");
    assert_eq!(failed[0].get::<_, String>("status"), "failed");
    assert_eq!(failed[0].get::<_, Option<String>>("sqlstate").as_deref(), Some("23505"));
    assert_eq!(failed[0].get::<_, i32>("applied"), 0);
    consistent(&mut client, "a", "2");
    let error: String = one(&mut client, "SELECT last_error FROM tenant_migration_status() WHERE pending > 0", &[]);
    assert!(
        error.contains("could not create unique index")
            && error.contains("version \"2\"")
            && error.contains("statement 2 of 2"),
        "{error}"
    );

    run(&mut client, "DELETE FROM tenant_t4.items WHERE id = 2");
    let retried = client.query("SELECT * FROM tenant_migrate_all()", &[]).unwrap();
    assert_eq!(retried.len(), 1);
    assert_eq!(pending(&mut client), 0);
    let left = "SELECT count(*) FROM tenant_migration_status() WHERE last_error IS NOT NULL";
    assert_eq!(one::<i64>(&mut client, left, &[]), 0);
}

fn stop_on_error_visits_no_further_tenants(db: &Db) {
    let mut client = fleet(db, 8);
    db.add_migration("2", "SELECT 1 / 0");
    let sql = "SELECT * FROM tenant_migrate_all(parallel => 1, stop_on_error => true)";
    let rows = client.query(sql, &[]).unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<_, Option<String>>("sqlstate").as_deref(), Some("22012"));
}

fn dry_run_reports_and_changes_nothing(db: &Db) {
    let mut client = fleet(db, 4);
    run(&mut client, "INSERT INTO tenant_t2.items VALUES (1, 'x'), (2, 'x')");
    db.add_migration("2", "CREATE UNIQUE INDEX ON items (body); ALTER TABLE items ADD COLUMN a int");
    let sql = "SELECT slug || ' ' || status || ' ' || applied FROM tenant_migrate_all(dry_run => true) ORDER BY slug";
    assert_eq!(
        column::<String>(&mut client, sql, &[]),
        ["t1 migrated 1", "t2 failed 0", "t3 migrated 1", "t4 migrated 1"]
    );
    assert_eq!(pending(&mut client), 4);
    consistent(&mut client, "a", "2");
}

fn only_the_named_tenants_are_visited(db: &Db) {
    let mut client = fleet(db, 5);
    db.add_migration("2", "ALTER TABLE items ADD COLUMN a int");
    let third: Uuid = one(&mut client, "SELECT id FROM tenant_get_by_slug('t3')", &[]);
    let named = vec!["t1".to_string(), third.to_string(), "t1".to_string()];
    let sql = "SELECT slug FROM tenant_migrate_all(tenants => $1) ORDER BY slug";
    assert_eq!(column::<String>(&mut client, sql, &[&named]), ["t1", "t3"]);
    assert_eq!(pending(&mut client), 3);
    let unknown = vec!["t1".to_string(), "nobody".to_string()];
    expect_refusal(client.query(sql, &[&unknown]), "not_found");
}

fn tenants_are_migrated_up_to_a_target(db: &Db) {
    let mut client = fleet(db, 3);
    db.add_migration("2", "ALTER TABLE items ADD COLUMN a int");
    db.add_migration("3", "ALTER TABLE items ADD COLUMN b int");
    let sql = "SELECT DISTINCT to_version FROM tenant_migrate_all('2')";
    assert_eq!(column::<String>(&mut client, sql, &[]), ["2"]);
    assert_eq!(client.query("SELECT * FROM tenant_migrate_all('2')", &[]).unwrap().len(), 0);
    assert_eq!(client.query("SELECT * FROM tenant_migrate_all()", &[]).unwrap().len(), 3);
}

fn deleted_tenants_are_skipped(db: &Db) {
    let mut client = fleet(db, 2);
    let second: Uuid = one(&mut client, "SELECT id FROM tenant_get_by_slug('t2')", &[]);
    client.execute("SELECT tenant_soft_delete($1)", &[&second]).unwrap();
    db.add_migration("2", "ALTER TABLE items ADD COLUMN a int");
    assert_eq!(column::<String>(&mut client, "SELECT slug FROM tenant_migrate_all()", &[]), ["t1"]);
    let named = vec![second.to_string()];
    assert_eq!(
        column::<String>(&mut client, "SELECT status FROM tenant_migrate_all(tenants => $1)", &[&named]),
        ["skipped"]
    );
}

fn refused_in_a_transaction_block(db: &Db) {
    let mut client = fleet(db, 1);
    db.add_migration("2", "ALTER TABLE items ADD COLUMN a int");
    let mut transaction = client.transaction().unwrap();
    expect_error(transaction.query("SELECT * FROM tenant_migrate_all()", &[]), "25001").hint_has("BEGIN");
    transaction.rollback().unwrap();
    assert_eq!(pending(&mut client), 1);
}

fn fleet_runs_are_for_instance_admins(db: &Db) {
    fleet(db, 1);
    let mut admin = db.admin();
    db.add_migration("2", "ALTER TABLE items ADD COLUMN a int");
    let mut user = db.as_user(new_user());
    expect_refusal(user.query("SELECT * FROM tenant_migrate_all()", &[]), "forbidden");
    expect_refusal(user.query("SELECT * FROM tenant_migration_progress()", &[]), "forbidden");
    expect_refusal(db.server().query("SELECT * FROM tenant_migrate_all()", &[]), "unauthenticated");
    assert_eq!(admin.query("SELECT * FROM tenant_migrate_all()", &[]).unwrap().len(), 1);
}

fn bad_arguments_are_refused_before_anything_runs(db: &Db) {
    let mut client = fleet(db, 1);
    db.add_migration("2", "ALTER TABLE items ADD COLUMN a int");
    for arguments in [
        "parallel => 0",
        "parallel => 100000",
        "parallel => NULL",
        "retries => -1",
        "lock_timeout => '-1 s'",
        "lock_timeout => '1000 years'",
        "target => '77'",
        "dry_run => NULL",
    ] {
        expect_refusal(
            client.query(&format!("SELECT * FROM tenant_migrate_all({arguments})"), &[]),
            "invalid_argument",
        );
    }
    assert_eq!(pending(&mut client), 1);
}

/// Starts a run that takes seconds, in another thread, and waits until it has migrated a tenant. Returns a session, the
/// thread, and the process id of the run's session.
fn slow_run(db: &Db, tenants: usize) -> (Client, std::thread::JoinHandle<Result<u64, postgres::Error>>, i32) {
    let mut client = fleet(db, tenants);
    db.add_migration("2", SLOW);
    let mut caller = db.superuser();
    let pid: i32 = one(&mut caller, "SELECT pg_backend_pid()", &[]);
    let ran = std::thread::spawn(move || caller.execute("SELECT * FROM tenant_migrate_all()", &[]));
    until("a tenant is migrated", || {
        one::<i64>(&mut client, "SELECT count(*) FROM fluxbase_tenant.fleet_results", &[]) > 0
    });
    (client, ran, pid)
}

#[track_caller]
fn ended_early_and_resumable(client: &mut Client) {
    until("the workers have ended", || workers(client) == 0);
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND pid <> pg_backend_pid()
                 AND relation = 'fluxbase_tenant.tenants'::regclass AND mode <> 'AccessShareLock'";
    until("the locks are released", || one::<i64>(client, locks, &[]) == 0);
    let left = pending(client);
    assert!(left > 0, "the run was not interrupted");
    consistent(client, "slow", "2");
    assert_eq!(client.query("SELECT * FROM tenant_migrate_all(parallel => 4)", &[]).unwrap().len() as i64, left);
    assert_eq!(pending(client), 0);
    consistent(client, "slow", "2");
}

fn cancelling_ends_the_workers(db: &Db) {
    let (mut client, ran, pid) = slow_run(db, 12);
    run(&mut client, &format!("SELECT pg_cancel_backend({pid})"));
    expect_error(ran.join().unwrap(), "57014");
    ended_early_and_resumable(&mut client);
}

fn terminating_the_caller_ends_the_workers(db: &Db) {
    let (mut client, ran, pid) = slow_run(db, 12);
    run(&mut client, &format!("SELECT pg_terminate_backend({pid})"));
    assert!(ran.join().unwrap().is_err());
    ended_early_and_resumable(&mut client);
}

fn terminating_a_worker_loses_nothing(db: &Db) {
    let (mut client, ran, _) = slow_run(db, 12);
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'fluxbase_tenant fleet'
               AND datname = current_database()";
    run(&mut client, sql);
    expect_error(ran.join().unwrap(), "55000").message_has("of 12 tenants done");
    ended_early_and_resumable(&mut client);
}

fn two_runs_share_the_work(db: &Db) {
    let mut client = fleet(db, 16);
    db.add_migration("2", "CREATE TABLE once (); SELECT pg_sleep(0.02)");
    let runs: Vec<_> = (0..2)
        .map(|_| {
            let mut caller = db.superuser();
            std::thread::spawn(move || {
                one::<i64>(
                    &mut caller,
                    "SELECT coalesce(sum(applied), 0) FROM tenant_migrate_all() WHERE status = 'migrated'",
                    &[],
                )
            })
        })
        .collect();
    let applied: i64 = runs.into_iter().map(|ran| ran.join().unwrap()).sum();
    assert_eq!(applied, 16);
    assert_eq!(pending(&mut client), 0);
}

fn lock_waits_are_limited_and_retried(db: &Db) {
    let mut client = fleet(db, 3);
    db.add_migration("2", "ALTER TABLE items ADD COLUMN a int");
    let mut holder = db.superuser();
    run(&mut holder, "BEGIN; LOCK TABLE tenant_t2.items IN ACCESS SHARE MODE");
    let sql = "SELECT slug || ' ' || coalesce(sqlstate, '') FROM tenant_migrate_all(lock_timeout => '50 ms', retries => 1) ORDER BY slug";
    assert_eq!(column::<String>(&mut client, sql, &[]), ["t1 ", "t2 55P03", "t3 "]);

    let mut caller = db.superuser();
    let waiting = std::thread::spawn(move || {
        one::<String>(
            &mut caller,
            "SELECT status FROM tenant_migrate_all(lock_timeout => '100 ms', retries => 20)",
            &[],
        )
    });
    std::thread::sleep(Duration::from_millis(400));
    run(&mut holder, "COMMIT");
    assert_eq!(waiting.join().unwrap(), "migrated");
}

fn without_a_free_worker_the_run_fails(db: &Db) {
    let cluster = Cluster::start(db.install(), &["max_worker_processes = 0"]);
    let db = Db::new(&cluster);
    let mut client = fleet(&db, 2);
    db.add_migration("2", "ALTER TABLE items ADD COLUMN a int");
    expect_error(client.query("SELECT * FROM tenant_migrate_all()", &[]), "53400").hint_has("max_worker_processes");
    assert_eq!(pending(&mut client), 2);
}

fn progress_is_visible_to_other_sessions(db: &Db) {
    let (mut client, ran, _) = slow_run(db, 6);
    let row = client.query_one("SELECT * FROM tenant_migration_progress()", &[]).unwrap();
    assert_eq!(row.get::<_, i32>("total"), 6);
    assert!((1..=6).contains(&row.get::<_, i64>("done")));
    assert!(row.get::<_, String>("bar").contains('#'));
    ran.join().unwrap().unwrap();
    assert_eq!(client.query("SELECT * FROM tenant_migration_progress()", &[]).unwrap().len(), 0);
}

fn runs_that_a_crash_ended_are_closed(db: &Db) {
    let (mut client, running, _) = slow_run(db, 16);
    run(
        &mut client,
        "INSERT INTO fluxbase_tenant.fleet_runs (id, dry_run, workers, total, started_by_role, started_at)
         VALUES (gen_random_uuid(), false, 2, 5, 'app', '2026-01-01 00:00:00+00')",
    );
    let open = "SELECT count(*) FROM fluxbase_tenant.fleet_runs WHERE finished_at IS NULL";
    assert_eq!(one::<i64>(&mut client, open, &[]), 2);
    db.new_tenant("other", new_user());
    db.add_migration("9", "SELECT 1");
    run(&mut client, "SELECT tenant_migrate_all(tenants => '{other}')");
    let ended = "SELECT finished_at::text FROM fluxbase_tenant.fleet_runs WHERE started_at < '2026-02-01'";
    assert!(one::<Option<String>>(&mut client, ended, &[]).is_some_and(|at| at.starts_with("2026-01-01")));
    assert_eq!(one::<i64>(&mut client, open, &[]), 1, "the run that is under way is not closed");
    running.join().unwrap().unwrap();
    assert_eq!(one::<i64>(&mut client, open, &[]), 0);
}

/// The workers connect as a superuser, but the migrations run as the tenant's owner role.
fn scripts_run_in_the_sandbox(db: &Db) {
    let mut client = fleet(db, 2);
    db.add_migration("2", "CREATE TABLE who AS SELECT current_user::text AS name, tenant_current_id() AS tenant");
    run(&mut client, "SELECT * FROM tenant_migrate_all()");
    let id: Uuid = one(&mut client, "SELECT id FROM tenant_get_by_slug('t1')", &[]);
    let row = client.query_one("SELECT name, tenant FROM tenant_t1.who", &[]).unwrap();
    assert_eq!(row.get::<_, String>(0), Db::owner_role(id));
    assert_eq!(row.get::<_, Uuid>(1), id);
    db.add_migration("3", "SELECT pg_read_file('postgresql.conf')");
    let states = column::<String>(&mut client, "SELECT DISTINCT sqlstate FROM tenant_migrate_all()", &[]);
    assert_eq!(states, ["42501"]);
    db.add_migration("4", "SELECT tenant_delete(id) FROM tenant_list()");
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_list()", &[]), 2);
}
