//! Objects of other roles on shared tables cannot prevent or delay the deletion of a tenant: rows that cannot be
//! deleted remain, inaccessible and reported, and the deletion is retried.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{one, run};
use crate::support::removal::{bait, left, removed, reported, trigger};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error, expect_refusal};

cases![
    trigger_that_raises,
    trigger_and_rule_that_keep_the_rows,
    trigger_that_never_ends,
    trigger_that_inserts_the_row_again,
    foreign_key_that_keeps_the_rows,
    publication_that_refuses,
    tables_with_a_policy_of_the_same_name,
    more_rows_than_the_session_deletes,
    removals_that_were_tried_often,
    rows_that_are_locked_or_not_yet_committed,
    reusing_the_id_of_a_tenant_under_removal,
    grants_to_an_owner_role,
    policies_that_are_too_long_or_too_deep_to_read,
    uncommitted_schema_names,
];

fn trigger_that_raises(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    bait(&scene, "lair.bait", &[doomed, scene.thief]);
    trigger(&scene, "lair.bait", "refuse", "BEFORE", "RAISE 'not while I am here';");
    run(&mut scene.thief(), "ALTER TABLE lair.bait ENABLE ALWAYS TRIGGER refuse");
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{doomed}')"));
    removed(db);
    assert_eq!(left(db, "lair.bait", doomed), 0);
    // The trigger still works for its owner.
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

/// A superuser can terminate the stuck worker. Another worker continues with the remaining tables.
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
    assert!(started.elapsed() < Duration::from_secs(20), "the caller does not wait for the thief's trigger");
    assert_eq!(left(db, "plain", doomed), 0, "a table that runs no code is cleared at once");
    let mut superuser = db.superuser();
    let stuck = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'fluxbase_tenant removal'
                 AND datname = current_database() AND wait_event = 'PgSleep'";
    until("the worker is stuck", || one::<i64>(&mut superuser, stuck, &[]) == 1);
    let workers = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE backend_type = 'fluxbase_tenant removal' AND datname = current_database()";
    assert!(one::<i64>(&mut superuser, workers, &[]) >= 1);
    until("the honest table is cleared", || left(db, "lair.honest", doomed) == 0);
    assert_eq!(left(db, "lair.bait", doomed), 1);
    run(&mut scene.thief(), "DROP TRIGGER sleep ON lair.bait");
}

fn trigger_that_inserts_the_row_again(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    bait(&scene, "lair.bait", &[doomed]);
    trigger(&scene, "lair.bait", "again", "BEFORE", "INSERT INTO lair.bait VALUES (OLD.*); RETURN OLD;");
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{doomed}')"));
    removed(db);
    assert_eq!(left(db, "lair.bait", doomed), 0);
}

/// A row that another table refers to cannot be deleted. The problem is reported, because only the table's owner knows
/// why the reference exists.
fn foreign_key_that_keeps_the_rows(db: &Db) {
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
        problem.starts_with("rows of 1 deleted tenants remain: ") && problem.contains("violates foreign key"),
        "{problem}"
    );
    for mut caller in [scene.thief(), db.as_user(scene.crook), db.as_service(doomed)] {
        let seen = caller.query("SELECT * FROM lair.bait", &[]);
        assert!(seen.map_or(true, |rows| rows.is_empty()), "the remaining rows are not accessible");
    }
    run(&mut scene.thief(), "DROP TABLE lair.holder");
    run(&mut db.superuser(), "SELECT tenant_purge('100 years')");
    removed(db);
    assert_eq!(left(db, "lair.bait", doomed), 0);
}

/// PostgreSQL refuses a DELETE from a published table that has no replica identity.
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

/// Any owner can create a policy named tenant_isolation, which does not make the table a shared one. A shared table can
/// have any number of inheritance children.
fn tables_with_a_policy_of_the_same_name(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    bait(&scene, "lair.bait", &[doomed]);
    run(
        &mut scene.thief(),
        &format!(
            "CREATE TABLE lair.own (n int, tenant_id uuid); INSERT INTO lair.own VALUES (1, '{doomed}');
             CREATE POLICY tenant_isolation ON lair.own AS RESTRICTIVE
                 USING (tenant_id = ANY ((SELECT fluxbase_tenant.accessible_tenant_ids())::uuid[]));
             DO $$ BEGIN FOR i IN 1..1100 LOOP
                 EXECUTE format('CREATE TABLE lair.child_%s () INHERITS (lair.bait)', i); END LOOP; END $$"
        ),
    );
    let locks = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation::regclass::text LIKE 'lair.%'";
    let mut superuser = db.superuser();
    run(&mut superuser, &format!("BEGIN; SELECT tenant_delete('{doomed}')"));
    assert!(one::<i64>(&mut superuser, locks, &[]) < 10);
    run(&mut superuser, "COMMIT");
    removed(db);
    assert_eq!(left(db, "lair.bait", doomed), 0);
    assert_eq!(left(db, "lair.own", doomed), 1);
}

/// A foreign key without an index is checked by a sequential scan for each deleted row.
fn more_rows_than_the_session_deletes(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    bait(&scene, "lair.many", &[doomed]);
    bait(&scene, "lair.tree", &[doomed]);
    run(
        &mut scene.thief(),
        &format!(
            "INSERT INTO lair.many SELECT i, '{doomed}' FROM generate_series(1, 25000) i;
             ALTER TABLE lair.tree ADD PRIMARY KEY (n), ADD COLUMN parent int REFERENCES lair.tree;
             INSERT INTO lair.tree SELECT i, '{doomed}', 1 FROM generate_series(2, 1500) i"
        ),
    );
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{doomed}')"));
    removed(db);
    assert_eq!([left(db, "lair.many", doomed), left(db, "lair.tree", doomed)], [0, 0]);
}

/// The interval before the next attempt is bounded, whatever the number of attempts.
fn removals_that_were_tried_often(db: &Db) {
    let scene = Scene::set(db);
    let (first, second) = (db.new_tenant("first", scene.crook), db.new_tenant("second", scene.crook));
    run(&mut scene.thief(), "CREATE TABLE lair.bait (n int PRIMARY KEY)");
    run(
        &mut db.superuser(),
        &format!("SELECT tenant_protect('lair.bait'); INSERT INTO lair.bait VALUES (1, '{first}')"),
    );
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.holder (n int REFERENCES lair.bait); INSERT INTO lair.holder VALUES (1)",
    );
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{first}')"));
    reported(db, "table lair.bait");
    run(
        &mut db.superuser(),
        "UPDATE fluxbase_tenant.removals SET attempts = 2000000, tried_at = now() - interval '2 hours'",
    );
    bait(&scene, "lair.honest", &[second]);
    trigger(&scene, "lair.honest", "honest", "AFTER", "RETURN NULL;");
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{second}')"));
    until("the other tenant's rows are deleted", || left(db, "lair.honest", second) == 0);
    run(&mut scene.thief(), "DROP TABLE lair.holder");
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
        let exists = "SELECT count(*) FROM fluxbase_tenant.tenants WHERE id = $1";
        assert_eq!(one::<i64>(&mut superuser, exists, &[&tenant]), 0);
        run(&mut thief, "COMMIT");
        removed(db);
        assert_eq!(left(db, "lair.bait", tenant), 0, "{hold}");
    }
}

fn reusing_the_id_of_a_tenant_under_removal(db: &Db) {
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

/// Roles belong to the cluster, and the owner of any object can grant privileges on it to a tenant's owner role.
fn grants_to_an_owner_role(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    let role = Db::owner_role(doomed);
    run(&mut scene.thief(), "CREATE TABLE lair.gift (n int)");
    let mut granting = db.superuser();
    run(&mut granting, &format!("BEGIN; GRANT SELECT ON lair.gift TO {role}"));
    let mut superuser = db.superuser();
    run(&mut superuser, &format!("SET lock_timeout = '500ms'; SELECT tenant_delete('{doomed}')"));
    let exists = "SELECT count(*) FROM pg_roles WHERE rolname = $1::text::name";
    assert_eq!(one::<i64>(&mut superuser, exists, &[&role]), 1, "dropping the role is left to the worker");
    run(&mut granting, "COMMIT");
    until("the role is dropped", || one::<i64>(&mut superuser, exists, &[&role]) == 0);
    removed(db);
    let second = db.new_tenant("second", scene.crook);
    let role = Db::owner_role(second);
    run(
        &mut granting,
        &format!(
            "GRANT SELECT ON lair.gift TO {role};
             ALTER DEFAULT PRIVILEGES IN SCHEMA lair GRANT SELECT ON TABLES TO {role}"
        ),
    );
    run(&mut superuser, &format!("CREATE POLICY p ON lair.gift TO {role} USING (true)"));
    run(&mut superuser, &format!("SELECT tenant_delete('{second}')"));
    assert_eq!(one::<i64>(&mut superuser, exists, &[&role]), 0);
}

/// Any owner can create a policy named tenant_isolation, with an expression of any size.
fn policies_that_are_too_long_or_too_deep_to_read(db: &Db) {
    let scene = Scene::set(db);
    let ids = ["a", "b", "c"].map(|slug| db.new_tenant(slug, scene.crook));
    bait(&scene, "lair.bait", &ids);
    bait(&scene, "lair.more", &ids);
    run(&mut scene.thief(), "DROP POLICY tenant_isolation ON lair.bait; CREATE TABLE lair.own (n int)");
    let deep = |table: &str, depth: usize| {
        format!("CREATE POLICY tenant_isolation ON {table} USING (1{} > 0)", "+1".repeat(depth))
    };
    for table in ["lair.bait", "lair.own"] {
        // The deepest expression that the server accepts.
        let taken =
            (1000..12000).rev().step_by(500).find(|depth| scene.thief().batch_execute(&deep(table, *depth)).is_ok());
        assert!(taken.is_some_and(|depth| depth >= 2000), "{taken:?}");
    }
    let long = format!("CREATE POLICY tenant_isolation ON lair.more USING ('{}' <> '')", "x".repeat(5_000_000));
    run(&mut scene.thief(), "DROP POLICY tenant_isolation ON lair.more");
    run(&mut scene.thief(), &long);
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{}'); SELECT count(*) FROM tenant_check()", ids[0]));
    // The policy of lair.bait is too deep for a session to open the table. The worker can, if the operating system's
    // limit allows it more stack.
    until("the other table is cleared", || left(db, "lair.more", ids[0]) == 0);
    assert_eq!(ids.map(|id| left(db, "lair.more", id)), [0, 1, 1]);
    let report = "SELECT count(*) FROM tenant_check() WHERE object = 'table lair.bait' AND problem LIKE '%stack depth limit exceeded%'";
    until("the rows are deleted, or the reason is reported", || {
        one::<i64>(&mut db.superuser(), "SELECT count(*) FROM fluxbase_tenant.removals", &[]) == 0
            || one::<i64>(&mut db.superuser(), report, &[]) > 0
    });
}

/// A session that creates a schema of the same name waits until the transaction that created it first has ended.
fn uncommitted_schema_names(db: &Db) {
    let scene = Scene::set(db);
    run(&mut db.superuser(), &format!("GRANT CREATE ON DATABASE {} TO {}", db.name(), scene.role));
    for statement in [
        "CREATE SCHEMA tenant_beta",
        "CREATE SCHEMA IF NOT EXISTS tenant_beta",
        "ALTER SCHEMA lair RENAME TO tenant_beta",
    ] {
        let mut thief = scene.thief();
        run(&mut thief, "BEGIN; SAVEPOINT s");
        expect_error(thief.batch_execute(statement), "42501");
        run(&mut thief, "ROLLBACK TO s");
        run(&mut db.superuser(), "SET lock_timeout = '500ms'; BEGIN; SELECT tenant_create('beta', 'Beta'); ROLLBACK");
    }
    run(&mut scene.thief(), "CREATE SCHEMA tenants; ALTER SCHEMA tenants RENAME TO nest");
    run(&mut db.superuser(), "CREATE SCHEMA tenant_of_a_superusers");
}
