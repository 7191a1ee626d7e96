//! A nontransactional migration that a test can stop before it is finished.

use postgres::Client;

use super::Db;
use super::people::{one, run};

/// Three statements. The second fails while items has duplicates, and waits while another session holds an older
/// snapshot.
pub const HALF: &str = "INSERT INTO log (step) VALUES (1);
    CREATE UNIQUE INDEX CONCURRENTLY body_idx ON items (body);
    INSERT INTO log (step) VALUES (3)";

const LOG: &str = "CREATE TABLE log (n serial, step int); CREATE TABLE parts (n int) PARTITION BY LIST (n);
    CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1); INSERT INTO parts VALUES (1)";

/// Creates a fleet whose tenants also have a table `log` and a partitioned one.
#[track_caller]
pub fn fleet_with_log(db: &Db, tenants: usize) -> Client {
    db.new_fleet(tenants);
    db.add_migration("2", LOG);
    db.migrate_all("");
    db.superuser()
}

/// Returns the steps that the migration has recorded in the tenant.
#[track_caller]
pub fn steps(client: &mut Client, slug: &str) -> String {
    one(client, &format!("SELECT coalesce(string_agg(step::text, ' ' ORDER BY n), '') FROM tenant_{slug}.log"), &[])
}

/// Opens a session with a snapshot that concurrent index builds have to wait for.
#[track_caller]
pub fn old_snapshot(db: &Db) -> Client {
    let mut client = db.superuser();
    run(&mut client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class");
    client
}
