//! All processes of the server are killed at random moments, and the server is started again. Every tenant is then
//! either complete or absent, and the next fleet run migrates all tenants to the target and applies each migration
//! once.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use uuid::Uuid;

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{column, one, run};
use crate::support::{Cluster, Db};

cases![killed_during_a_fleet_run, killed_while_tenants_are_created, killed_during_both];

const TENANTS: usize = 30;

/// An xorshift generator. FLUXBASE_TENANT_SEED sets the seed, which repeats a failed run as far as timing permits.
struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    fn new() -> Random {
        let given = std::env::var("FLUXBASE_TENANT_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| Uuid::new_v4().as_u128() as u64 | 1);
        Random { seed, state: seed }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }
}

impl Drop for Random {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("FLUXBASE_TENANT_SEED={}", self.seed);
        }
    }
}

/// Starts a cluster with synchronous_commit, so that a transaction that was reported as committed survives a crash.
fn new_cluster(db: &Db) -> (Arc<Cluster>, Db) {
    let cluster = Cluster::start(db.install(), &["synchronous_commit = on", "autovacuum = off"]);
    let db = Db::new(&cluster);
    db.add_migration(
        "1",
        "CREATE TABLE log (version text); CREATE TABLE items (body text); INSERT INTO log VALUES ('1')",
    );
    (cluster, db)
}

/// Adds three migrations, each of which logs that it ran and adds a column: `{round}1` and `{round}3` run in a
/// transaction, `{round}2` is nontransactional.
fn add_round(db: &Db, round: usize) {
    let transactional = |version: &str| {
        format!(
            "INSERT INTO log VALUES ('{version}'); ALTER TABLE items ADD COLUMN c{version} int; SELECT pg_sleep(0.01);
             UPDATE items SET c{version} = 1"
        )
    };
    let (first, second, last) = (format!("{round}1"), format!("{round}2"), format!("{round}3"));
    db.add_migration(&first, &transactional(&first));
    db.add_nontransactional(
        &second,
        &format!(
            "INSERT INTO log VALUES ('{second}'); CREATE INDEX CONCURRENTLY i{second} ON items (body);
             ALTER TABLE items ADD COLUMN c{second} int; VACUUM log; DROP INDEX CONCURRENTLY i{second}; SELECT pg_sleep(0.01)"
        ),
    );
    db.add_migration(&last, &transactional(&last));
}

/// Creates tenants in another thread until a call fails, and returns those whose creation was confirmed.
fn create_in_background(db: &Db, name: String) -> JoinHandle<Vec<String>> {
    let mut client = db.admin();
    std::thread::spawn(move || {
        let mut confirmed = Vec::new();
        for number in 0..12 {
            let slug = format!("{name}-{number}");
            let sql = "SELECT slug FROM tenant_create($1, $1, admin_user_id => gen_random_uuid())";
            match client.query_one(sql, &[&slug]) {
                Ok(row) => confirmed.push(row.get(0)),
                Err(_) => break,
            }
        }
        confirmed
    })
}

/// Finds schemas and owner roles without a tenant, tenants without a schema, owner role or admin, ledgers that differ
/// from the tenant's count, and errors of tenant_check().
const CATALOG_PROBLEMS: &str = "
    SELECT 'schema without a tenant: ' || nspname FROM pg_namespace
    WHERE nspname LIKE 'tenant\\_%' AND nspname NOT IN (SELECT schema_name FROM fluxbase_tenant.tenants)
    UNION ALL SELECT 'role without a tenant: ' || rolname FROM pg_roles
    WHERE rolname ~ '^fluxbase_tenant_[0-9a-f]{32}$'
      AND rolname NOT IN (SELECT 'fluxbase_tenant_' || replace(id::text, '-', '') FROM fluxbase_tenant.tenants)
    UNION ALL SELECT 'tenant without a schema: ' || slug FROM fluxbase_tenant.tenants
    WHERE schema_name NOT IN (SELECT nspname FROM pg_namespace)
    UNION ALL SELECT 'tenant without a role: ' || slug FROM fluxbase_tenant.tenants
    WHERE 'fluxbase_tenant_' || replace(id::text, '-', '') NOT IN (SELECT rolname FROM pg_roles)
    UNION ALL SELECT 'tenant without an admin: ' || slug FROM fluxbase_tenant.tenants t
    WHERE slug LIKE 'c%' AND NOT EXISTS (SELECT FROM fluxbase_tenant.members m WHERE m.tenant_id = t.id)
    UNION ALL SELECT format('%s: %s applied, %s in the ledger', slug, applied, n) FROM (
        SELECT t.*, (SELECT count(*) FROM fluxbase_tenant.applied_migrations a WHERE a.tenant_id = t.id) AS n
        FROM fluxbase_tenant.tenants t) t WHERE applied <> n
    UNION ALL SELECT format('%s: %s: %s', severity, object, problem) FROM tenant_check() WHERE severity = 'error'";

/// Finds differences between the ledger of the tenant whose schema replaces `{}` and its tables. A statement of a
/// nontransactional migration commits together with its record. A statement that commits its own transactions can be
/// complete before it is recorded.
const LEDGER_PROBLEMS: &str = "
    SELECT format('{}, %s: %s times in the log, %s in the ledger, %s columns, %s statements', version, logged, applied,
                  columns, done)
    FROM (SELECT m.version, m.transactional, (SELECT count(*) FROM {}.log l WHERE l.version = m.version) AS logged,
              (SELECT count(*) FROM fluxbase_tenant.applied_migrations a WHERE a.version = m.version AND a.tenant_id = t.id) AS applied,
              (SELECT count(*) FROM pg_attribute WHERE attrelid = '{}.items'::regclass AND attname = 'c' || m.version) AS columns,
              coalesce((SELECT statements_done FROM fluxbase_tenant.unfinished_migrations u
                        WHERE u.version = m.version AND u.tenant_id = t.id), 0) AS done
          FROM fluxbase_tenant.migrations m, fluxbase_tenant.tenants t WHERE t.schema_name = '{}') AS compared
    WHERE logged <> CASE WHEN done > 0 THEN 1 ELSE applied END
       OR (version <> '1' AND columns <> CASE WHEN done > 2 THEN 1 ELSE applied END)
       OR (transactional AND done > 0) OR (done > 0 AND applied > 0)";

#[track_caller]
fn consistent(db: &Db, when: &str) {
    let mut client = db.superuser();
    let mut problems: Vec<String> = column(&mut client, CATALOG_PROBLEMS, &[]);
    let schemas: Vec<String> = column(&mut client, "SELECT schema_name::text FROM fluxbase_tenant.tenants", &[]);
    for schema in schemas {
        problems.extend(column::<String>(&mut client, &LEDGER_PROBLEMS.replace("{}", &schema), &[]));
    }
    assert!(problems.is_empty(), "{when}: {problems:#?}");
}

/// Runs the fleet to completion: nothing fails, nothing is left over, and ledgers and tables agree.
#[track_caller]
fn finish(db: &Db, when: &str) {
    let sql = "SELECT concat_ws(' ', slug, status, sqlstate, error) FROM tenant_migrate_all(parallel => 3, lock_timeout => '60 s')
               WHERE status <> 'migrated'";
    assert_eq!(column::<String>(&mut db.admin(), sql, &[]), [""; 0], "{when}");
    consistent(db, when);
    db.assert_all_is_done();
    let mut client = db.superuser();
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_migration_progress()", &[]), 0);
    let lagging = "SELECT count(*) FROM fluxbase_tenant.tenants
                  WHERE applied <> (SELECT count(*) FROM fluxbase_tenant.migrations)";
    assert_eq!(one::<i64>(&mut client, lagging, &[]), 0, "{when}");
    let indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname LIKE 'tenant\\_%'";
    assert_eq!(one::<i64>(&mut client, indexes, &[]), 0, "{when}: every index was dropped again");
}

/// Asserts that every tenant whose creation was confirmed exists.
#[track_caller]
fn confirmed_exist(db: &Db, confirmed: &[String]) {
    let sql =
        "SELECT slug FROM unnest($1::text[]) AS confirmed (slug) WHERE slug NOT IN (SELECT slug FROM tenant_list())";
    assert_eq!(column::<String>(&mut db.superuser(), sql, &[&confirmed]), [""; 0]);
}

fn killed_during_a_fleet_run(db: &Db) {
    let (cluster, db) = new_cluster(db);
    let mut random = Random::new();
    let sql = format!("SELECT tenant_create('t' || g, 'T' || g) FROM generate_series(1, {TENANTS}) g");
    run(&mut db.admin(), &sql);
    let mut interrupted = 0;
    for round in 1..=2 {
        add_round(&db, round);
        for kill in 1..=3 {
            let visits = "SELECT count(*) FROM fluxbase_tenant.fleet_results";
            let before: i64 = one(&mut db.superuser(), visits, &[]);
            let ran = db.migrate_all_in_background("parallel => 3, lock_timeout => '60 s'");
            // The kill comes after a random number of visits, so that on a machine of any speed some kills find some
            // tenants migrated and others pending.
            let (mut client, some) = (db.superuser(), random.below(TENANTS as u64 / 2) as i64);
            until("tenants are migrated", || {
                ran.is_finished() || one::<i64>(&mut client, visits, &[]) >= before + some
            });
            std::thread::sleep(Duration::from_millis(random.below(50)));
            cluster.crash();
            let _ = ran.join();
            consistent(&db, &format!("round {round}, kill {kill}"));
            let some = "SELECT bool_or(pending > 0) AND bool_or(pending < 3) FROM tenant_migration_status()";
            interrupted += i32::from(one::<bool>(&mut db.superuser(), some, &[]));
        }
        finish(&db, &format!("round {round}"));
    }
    assert!(interrupted > 0, "no kill interrupted a run");
}

fn killed_while_tenants_are_created(db: &Db) {
    let (cluster, db) = new_cluster(db);
    let mut random = Random::new();
    add_round(&db, 1);
    for kill in 1..=4 {
        let creators: Vec<_> = (0..2).map(|who| create_in_background(&db, format!("c{kill}-{who}"))).collect();
        std::thread::sleep(Duration::from_millis(random.below(700)));
        cluster.crash();
        let confirmed: Vec<String> = creators
            .into_iter()
            .flat_map(|creator| creator.join().expect("the creating thread does not panic"))
            .collect();
        consistent(&db, &format!("kill {kill}"));
        confirmed_exist(&db, &confirmed);
    }
    finish(&db, "after the last kill");
}

fn killed_during_both(db: &Db) {
    let (cluster, db) = new_cluster(db);
    let mut random = Random::new();
    for kill in 1..=4 {
        add_round(&db, kill);
        let creators: Vec<_> = (0..2).map(|who| create_in_background(&db, format!("c{kill}-{who}"))).collect();
        let ran = db.migrate_all_in_background("parallel => 2, lock_timeout => '20 s'");
        if random.below(2) == 0 {
            let mut client = db.superuser();
            let unfinished = "SELECT count(*) FROM fluxbase_tenant.unfinished_migrations";
            until("a nontransactional migration is unfinished, or the run has ended", || {
                ran.is_finished() || one::<i64>(&mut client, unfinished, &[]) > 0
            });
        }
        std::thread::sleep(Duration::from_millis(random.below(1500)));
        cluster.crash();
        let _ = ran.join();
        let confirmed: Vec<String> = creators
            .into_iter()
            .flat_map(|creator| creator.join().expect("the creating thread does not panic"))
            .collect();
        consistent(&db, &format!("kill {kill}"));
        confirmed_exist(&db, &confirmed);
    }
    finish(&db, "after the last kill");
}
