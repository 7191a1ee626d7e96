//! tenant_purge() deletes tenants in background workers, so that no single transaction holds the locks of all their
//! tables.

use postgres::Client;

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{column, one, run};
use crate::support::{Cluster, Db};

cases![
    more_tenants_than_one_transaction_can_lock,
    purge_in_a_transaction_block_is_part_of_it,
    a_tenant_that_cannot_be_deleted_does_not_stop_the_purge,
    purge_without_a_free_worker_runs_in_the_session,
    a_tenant_restored_concurrently_is_kept,
];

const TABLES: &str =
    "DO $$BEGIN FOR i IN 1..10 LOOP EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY)', i); END LOOP; END$$";

fn deleted(db: &Db, tenants: usize) -> Client {
    db.add_migration("1", TABLES);
    let mut client = db.superuser();
    for g in 1..=tenants {
        run(&mut client, &format!("SELECT tenant_create('t{g}', 'T'); "));
    }
    run(&mut client, "SELECT tenant_soft_delete(id) FROM tenant_list()");
    client
}

#[track_caller]
fn nothing_left(client: &mut Client) {
    let left = "SELECT (SELECT count(*) FROM fluxbase_tenant.tenants) + (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tenant\\_%')";
    assert_eq!(one::<i64>(client, left, &[]), 0);
}

fn more_tenants_than_one_transaction_can_lock(db: &Db) {
    let settings = ["max_locks_per_transaction = 10", "max_connections = 20", "max_worker_processes = 4"];
    let own = Cluster::start(db.install(), &settings);
    let db = Db::new(&own);
    let mut client = deleted(&db, 60);
    let mut block = db.superuser();
    run(&mut block, "BEGIN");
    let refused =
        block.query("SELECT * FROM tenant_purge('0')", &[]).expect_err("600 tables are too many for one transaction");
    assert_eq!(refused.code().map(|code| code.code()), Some("53200"), "{refused:?}");
    run(&mut block, "ROLLBACK");
    let slugs: Vec<String> = column(&mut client, "SELECT slug FROM tenant_purge('0')", &[]);
    assert_eq!(slugs.len(), 60);
    nothing_left(&mut client);
}

fn purge_in_a_transaction_block_is_part_of_it(db: &Db) {
    let mut client = deleted(db, 4);
    run(&mut client, "BEGIN; SELECT tenant_purge('0'); ROLLBACK");
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_list_deleted()", &[]), 4);
    run(&mut client, "BEGIN; SELECT tenant_purge('0'); COMMIT");
    nothing_left(&mut client);
}

fn a_tenant_that_cannot_be_deleted_does_not_stop_the_purge(db: &Db) {
    let mut client = deleted(db, 6);
    run(&mut client, "CREATE TABLE keeps (id int REFERENCES tenant_t3.t1)");
    // The view that depends on t3 is dropped by CASCADE. Another session's lock delays only t4's schema. Tenant t5,
    // which another transaction is changing, is skipped.
    let mut busy = db.superuser();
    run(&mut busy, "BEGIN; LOCK TABLE tenant_t4.t2 IN ACCESS SHARE MODE");
    run(&mut busy, "SELECT tenant_restore(id) FROM tenant_list_deleted() WHERE slug = 't5'");
    let slugs: Vec<String> = column(&mut client, "SELECT slug FROM tenant_purge('0') ORDER BY 1", &[]);
    assert_eq!(slugs, ["t1", "t2", "t3", "t4", "t6"]);
    assert_eq!(column::<String>(&mut client, "SELECT slug FROM tenant_list_deleted()", &[]), ["t5"]);
    run(&mut busy, "ROLLBACK");
    assert_eq!(column::<String>(&mut client, "SELECT slug FROM tenant_purge('0')", &[]), ["t5"]);
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'tenant_t4'";
    until("the schema is dropped", || one::<i64>(&mut client, schemas, &[]) == 0);
    nothing_left(&mut client);
}

fn purge_without_a_free_worker_runs_in_the_session(db: &Db) {
    let own = Cluster::start(db.install(), &["max_worker_processes = 0"]);
    let db = Db::new(&own);
    let mut client = deleted(&db, 3);
    // A tenant that another session has locked does not stop the purge of the other tenants.
    let mut busy = db.superuser();
    run(&mut busy, "BEGIN; SELECT tenant_restore(id) FROM tenant_list_deleted() WHERE slug = 't2'");
    let purge = "SELECT slug FROM tenant_purge('0') ORDER BY 1";
    assert_eq!(column::<String>(&mut client, purge, &[]), ["t1", "t3"]);
    run(&mut busy, "ROLLBACK");
    assert_eq!(column::<String>(&mut client, purge, &[]), ["t2"]);
    nothing_left(&mut client);
}

fn a_tenant_restored_concurrently_is_kept(db: &Db) {
    let mut client = deleted(db, 3);
    // The purge waits for this row, and rechecks it under the lock.
    let mut busy = db.superuser();
    run(&mut busy, "BEGIN; SELECT tenant_restore(id) FROM tenant_list_deleted() WHERE slug = 't2'");
    let purging = std::thread::scope(|scope| {
        let purged =
            scope.spawn(|| column::<String>(&mut client, "SELECT slug FROM tenant_purge('0') ORDER BY 1", &[]));
        std::thread::sleep(std::time::Duration::from_millis(500));
        run(&mut busy, "COMMIT");
        purged.join().unwrap()
    });
    assert_eq!(purging, ["t1", "t3"]);
    assert_eq!(column::<String>(&mut busy, "SELECT slug FROM tenant_list()", &[]), ["t2"]);
}
