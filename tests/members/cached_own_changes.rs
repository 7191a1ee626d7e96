//! The cache of answers about access follows the session's own changes at once, and their rollback.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{new_user, one, reached, run};
use crate::support::{Db, expect_error};

cases![
    own_changes_apply_at_once,
    own_changes_end_with_the_transaction,
    own_changes_end_with_the_savepoint,
    own_changes_end_with_a_caught_error,
    errors_do_not_change_the_answers,
    parallel_workers_give_the_same_answers,
];

struct World {
    acme: Uuid,
    user: Uuid,
}

/// `user` is a plain member of acme.
fn world(db: &Db) -> World {
    db.add_migration("1", "CREATE TABLE notes AS SELECT n FROM generate_series(1, 5) n");
    let acme = db.new_tenant("acme", new_user());
    World { acme, user: db.new_member(acme) }
}

/// Counts the rows that user `late` can access, in a session that makes its own changes as an instance admin.
fn assert_rows_for(client: &mut Client, late: Uuid, expected: i64, when: &str) {
    run(client, "SAVEPOINT asking");
    run(client, &format!("SET LOCAL fluxbase_tenant.user_id = '{late}'; SET LOCAL ROLE app_server"));
    assert_eq!(reached(client, "tenant_acme.notes"), expected, "{when}");
    run(client, "ROLLBACK TO asking");
}

fn own_changes_apply_at_once(db: &Db) {
    let (world, late) = (world(db), new_user());
    let mut client = db.superuser();
    run(&mut client, "BEGIN");
    assert_rows_for(&mut client, late, 0, "before");
    run(&mut client, &format!("SELECT tenant_add_member('{}', '{late}')", world.acme));
    assert_rows_for(&mut client, late, 5, "added");
    run(&mut client, &format!("SELECT tenant_suspend('{}')", world.acme));
    assert_rows_for(&mut client, late, 0, "suspended");
    run(
        &mut client,
        &format!("SELECT tenant_resume('{}'), tenant_remove_member('{}', '{late}')", world.acme, world.acme),
    );
    assert_rows_for(&mut client, late, 0, "removed");
    run(&mut client, &format!("SELECT tenant_grant_instance_admin('{late}')"));
    assert_rows_for(&mut client, late, 5, "instance admin");
    assert_eq!(reached(&mut db.as_user(late), "tenant_acme.notes"), 0, "not committed");
    run(&mut client, "COMMIT");
    assert_eq!(reached(&mut db.as_user(late), "tenant_acme.notes"), 5);
}

fn own_changes_end_with_the_transaction(db: &Db) {
    let (world, late) = (world(db), new_user());
    let mut client = db.superuser();
    for end in ["ROLLBACK", "SELECT 1/0"] {
        run(&mut client, "BEGIN");
        run(&mut client, &format!("SELECT tenant_add_member('{}', '{late}')", world.acme));
        assert_rows_for(&mut client, late, 5, "added");
        let _ = client.batch_execute(end);
        run(&mut client, "ROLLBACK; BEGIN");
        assert_rows_for(&mut client, late, 0, end);
        run(&mut client, "ROLLBACK");
    }
}

fn own_changes_end_with_the_savepoint(db: &Db) {
    let (world, late) = (world(db), new_user());
    let mut client = db.superuser();
    run(&mut client, &format!("BEGIN; SAVEPOINT s; SELECT tenant_add_member('{}', '{late}')", world.acme));
    assert_rows_for(&mut client, late, 5, "added");
    run(&mut client, "ROLLBACK TO s");
    assert_rows_for(&mut client, late, 0, "rolled back to the savepoint");
    run(&mut client, &format!("SAVEPOINT t; SELECT tenant_add_member('{}', '{late}'); RELEASE t", world.acme));
    assert_rows_for(&mut client, late, 5, "released");
    run(&mut client, &format!("SAVEPOINT u; SELECT tenant_remove_member('{}', '{late}')", world.acme));
    assert_rows_for(&mut client, late, 0, "removed");
    run(&mut client, "ROLLBACK TO u");
    assert_rows_for(&mut client, late, 5, "the removal was rolled back");
    run(&mut client, "ROLLBACK TO s");
    assert_rows_for(&mut client, late, 0, "everything was rolled back");
    run(&mut client, "COMMIT");
}

fn own_changes_end_with_a_caught_error(db: &Db) {
    let (world, late) = (world(db), new_user());
    let mut client = db.superuser();
    run(
        &mut client,
        &format!(
            "BEGIN; DO $$ BEGIN
                 BEGIN
                     PERFORM tenant_add_member('{acme}', '{late}');
                     SET LOCAL fluxbase_tenant.user_id = '{late}';
                     IF NOT tenant_has_access('{acme}') THEN RAISE 'not yet'; END IF;
                     RAISE division_by_zero;
                 EXCEPTION WHEN division_by_zero THEN NULL;
                 END;
                 SET LOCAL fluxbase_tenant.user_id = '{late}';
                 IF tenant_has_access('{acme}') THEN RAISE 'still'; END IF;
             END $$; ROLLBACK",
            acme = world.acme
        ),
    );
}

fn errors_do_not_change_the_answers(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.user);
    for failing in [
        "SELECT 1 / (n - 5) FROM tenant_acme.notes",
        "SELECT tenant_has_role(gen_random_uuid(), 'no such role')",
        "SELECT tenant_get(gen_random_uuid())",
        "SELECT tenant_set_current('nowhere') FROM tenant_acme.notes",
        "DO $$ BEGIN PERFORM count(*) FROM tenant_acme.notes; RAISE 'x'; END $$",
    ] {
        assert_eq!(reached(&mut client, "tenant_acme.notes"), 5, "before {failing}");
        assert!(client.batch_execute(failing).is_err(), "{failing}");
        assert_eq!(reached(&mut client, "tenant_acme.notes"), 5, "after {failing}");
    }
    run(&mut client, "SET statement_timeout = 50");
    expect_error(client.query("SELECT pg_sleep(5), * FROM tenant_acme.notes", &[]), "57014");
    run(&mut client, "RESET statement_timeout");
    run(&mut db.admin(), &format!("SELECT tenant_suspend('{}')", world.acme));
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 0);
}

fn parallel_workers_give_the_same_answers(db: &Db) {
    let (world, late) = (world(db), new_user());
    db.migrate(world.acme, "CREATE TABLE many AS SELECT n FROM generate_series(1, 20000) n");
    let forced = if db.major() < 16 { "force_parallel_mode = on" } else { "debug_parallel_query = on" };
    let settings = format!(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET {forced}"
    );
    // Evaluated in the workers, for each row.
    let sql = format!("SELECT count(*) FROM tenant_acme.many WHERE tenant_has_access('{}')", world.acme);
    let mut watching = db.as_user(world.user);
    let mut changing = db.superuser();
    run(&mut watching, &settings);
    run(&mut changing, &settings);
    assert_eq!(one::<i64>(&mut watching, &sql, &[]), 20000);
    run(&mut changing, &format!("BEGIN; SELECT tenant_add_member('{}', '{late}')", world.acme));
    run(&mut changing, &format!("SET LOCAL fluxbase_tenant.user_id = '{late}'; SET LOCAL ROLE app_server"));
    assert_eq!(one::<i64>(&mut changing, &sql, &[]), 20000, "the session's own change, not committed");
    run(&mut changing, "ROLLBACK");
    run(&mut changing, &format!("SELECT tenant_remove_member('{}', '{}')", world.acme, world.user));
    expect_error(watching.query(&sql, &[]), "42501");
    let elsewhere = sql.replace("tenant_acme.many", "generate_series(1, 1000)");
    assert_eq!(one::<i64>(&mut watching, &elsewhere, &[]), 0);
}
