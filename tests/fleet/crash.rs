//! The server is killed at random moments, with all its processes, and started again: every tenant is whole or not there,
//! and the next run brings all to the target, each migration once.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use uuid::Uuid;

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{column, one, run};
use crate::support::{Cluster, Db};

cases![killed_in_migrations_of_the_fleet, killed_in_creations_of_tenants, killed_in_both];

const TENANTS: usize = 30;

/// xorshift; the seed can be given, to see the same again as far as timing lets it.
struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    fn new() -> Chance {
        let given = std::env::var("FLUXBASE_TENANT_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| Uuid::new_v4().as_u128() as u64 | 1);
        Chance { seed, state: seed }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }
}

impl Drop for Chance {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("FLUXBASE_TENANT_SEED={}", self.seed);
        }
    }
}

/// A cluster of its own in which what is told to be committed is committed.
fn a_cluster(db: &Db) -> (Arc<Cluster>, Db) {
    let cluster = Cluster::start(db.install(), &["synchronous_commit = on", "autovacuum = off"]);
    let db = Db::new(&cluster);
    db.add_migration(
        "1",
        "CREATE TABLE log (version text); CREATE TABLE items (body text); INSERT INTO log VALUES ('1')",
    );
    (cluster, db)
}

/// Three migrations, each of which writes down that it ran and makes a column: `{round}1` and `{round}3` in a transaction,
/// `{round}2` outside of one.
fn add_round(db: &Db, round: usize) {
    let inside = |version: &str| {
        format!(
            "INSERT INTO log VALUES ('{version}'); ALTER TABLE items ADD COLUMN c{version} int; SELECT pg_sleep(0.01);
             UPDATE items SET c{version} = 1"
        )
    };
    let (first, outside, last) = (format!("{round}1"), format!("{round}2"), format!("{round}3"));
    db.add_migration(&first, &inside(&first));
    db.add_nontransactional(
        &outside,
        &format!(
            "INSERT INTO log VALUES ('{outside}'); CREATE INDEX CONCURRENTLY i{outside} ON items (body);
             ALTER TABLE items ADD COLUMN c{outside} int; VACUUM log; DROP INDEX CONCURRENTLY i{outside}; SELECT pg_sleep(0.01)"
        ),
    );
    db.add_migration(&last, &inside(&last));
}

/// Creates tenants until it is stopped, and tells which ones it was told of.
fn create_aside(db: &Db, name: String) -> JoinHandle<Vec<String>> {
    let mut client = db.admin();
    std::thread::spawn(move || {
        let mut told = Vec::new();
        for number in 0..12 {
            let slug = format!("{name}-{number}");
            let sql = "SELECT slug FROM tenant_create($1, $1, admin_user_id => gen_random_uuid())";
            match client.query_one(sql, &[&slug]) {
                Ok(row) => told.push(row.get(0)),
                Err(_) => break,
            }
        }
        told
    })
}

/// Every schema and owner role of a tenant has its row, and every row both; what is half done is noted.
const ASTRAY: &str = "
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
    UNION ALL SELECT format('%s: %s applied, %s noted', slug, applied, n) FROM (
        SELECT t.*, (SELECT count(*) FROM fluxbase_tenant.applied_migrations a WHERE a.tenant_id = t.id) AS n
        FROM fluxbase_tenant.tenants t) t WHERE applied <> n
    UNION ALL SELECT format('%s: %s: %s', severity, object, problem) FROM tenant_check() WHERE severity = 'error'";

/// Of one tenant with its schema for `{}`: where the ledger and the tables do not say the same. A statement of a migration
/// outside a transaction is done with its note, or, if it is a transaction of its own, may be done without.
const UNLIKE: &str = "
    SELECT format('{}, %s: %s times in the log, %s in the ledger, %s columns, %s statements', version, logged, applied,
                  columns, done)
    FROM (SELECT m.version, m.transactional, (SELECT count(*) FROM {}.log l WHERE l.version = m.version) AS logged,
              (SELECT count(*) FROM fluxbase_tenant.applied_migrations a WHERE a.version = m.version AND a.tenant_id = t.id) AS applied,
              (SELECT count(*) FROM pg_attribute WHERE attrelid = '{}.items'::regclass AND attname = 'c' || m.version) AS columns,
              coalesce((SELECT statements_done FROM fluxbase_tenant.unfinished_migrations u
                        WHERE u.version = m.version AND u.tenant_id = t.id), 0) AS done
          FROM fluxbase_tenant.migrations m, fluxbase_tenant.tenants t WHERE t.schema_name = '{}') AS said
    WHERE logged <> CASE WHEN done > 0 THEN 1 ELSE applied END
       OR (version <> '1' AND columns <> CASE WHEN done > 2 THEN 1 ELSE applied END)
       OR (transactional AND done > 0) OR (done > 0 AND applied > 0)";

#[track_caller]
fn consistent(db: &Db, when: &str) {
    let mut client = db.superuser();
    let mut problems: Vec<String> = column(&mut client, ASTRAY, &[]);
    let schemas: Vec<String> = column(&mut client, "SELECT schema_name::text FROM fluxbase_tenant.tenants", &[]);
    for schema in schemas {
        problems.extend(column::<String>(&mut client, &UNLIKE.replace("{}", &schema), &[]));
    }
    assert!(problems.is_empty(), "{when}: {problems:#?}");
}

/// A run to the end: nothing failed, nothing is left, and all is as it says.
#[track_caller]
fn finish(db: &Db, when: &str) {
    let sql = "SELECT concat_ws(' ', slug, status, sqlstate, error) FROM tenant_migrate_all(parallel => 3, lock_timeout => '60 s')
               WHERE status <> 'migrated'";
    assert_eq!(column::<String>(&mut db.admin(), sql, &[]), [""; 0], "{when}");
    consistent(db, when);
    db.assert_all_is_done();
    let mut client = db.superuser();
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_migration_progress()", &[]), 0);
    let behind = "SELECT count(*) FROM fluxbase_tenant.tenants
                  WHERE applied <> (SELECT count(*) FROM fluxbase_tenant.migrations)";
    assert_eq!(one::<i64>(&mut client, behind, &[]), 0, "{when}");
    let indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname LIKE 'tenant\\_%'";
    assert_eq!(one::<i64>(&mut client, indexes, &[]), 0, "{when}: every index was dropped again");
}

/// Who was told that a tenant is there finds it there.
#[track_caller]
fn kept(db: &Db, told: &[String]) {
    let sql = "SELECT slug FROM unnest($1::text[]) AS told (slug) WHERE slug NOT IN (SELECT slug FROM tenant_list())";
    assert_eq!(column::<String>(&mut db.superuser(), sql, &[&told]), [""; 0]);
}

fn killed_in_migrations_of_the_fleet(db: &Db) {
    let (cluster, db) = a_cluster(db);
    let mut chance = Chance::new();
    let sql = format!("SELECT tenant_create('t' || g, 'T' || g) FROM generate_series(1, {TENANTS}) g");
    run(&mut db.admin(), &sql);
    let mut cut_short = 0;
    for round in 1..=2 {
        add_round(&db, round);
        for kill in 1..=3 {
            let visits = "SELECT count(*) FROM fluxbase_tenant.fleet_results";
            let before: i64 = one(&mut db.superuser(), visits, &[]);
            let ran = db.migrate_all_aside("parallel => 3, lock_timeout => '60 s'");
            // However slow or fast the machine is, some kills come when some tenants are done and others are not.
            let (mut client, some) = (db.superuser(), chance.below(TENANTS as u64 / 2) as i64);
            until("tenants are done", || ran.is_finished() || one::<i64>(&mut client, visits, &[]) >= before + some);
            std::thread::sleep(Duration::from_millis(chance.below(50)));
            cluster.crash();
            let _ = ran.join();
            consistent(&db, &format!("round {round}, kill {kill}"));
            let some = "SELECT bool_or(pending > 0) AND bool_or(pending < 3) FROM tenant_migration_status()";
            cut_short += i32::from(one::<bool>(&mut db.superuser(), some, &[]));
        }
        finish(&db, &format!("round {round}"));
    }
    assert!(cut_short > 0, "every kill came before the run or after it");
}

fn killed_in_creations_of_tenants(db: &Db) {
    let (cluster, db) = a_cluster(db);
    let mut chance = Chance::new();
    add_round(&db, 1);
    for kill in 1..=4 {
        let creators: Vec<_> = (0..2).map(|who| create_aside(&db, format!("c{kill}-{who}"))).collect();
        std::thread::sleep(Duration::from_millis(chance.below(700)));
        cluster.crash();
        let told: Vec<String> = creators.into_iter().flat_map(|creator| creator.join().expect("it counts")).collect();
        consistent(&db, &format!("kill {kill}"));
        kept(&db, &told);
    }
    finish(&db, "in the end");
}

fn killed_in_both(db: &Db) {
    let (cluster, db) = a_cluster(db);
    let mut chance = Chance::new();
    for kill in 1..=4 {
        add_round(&db, kill);
        let creators: Vec<_> = (0..2).map(|who| create_aside(&db, format!("c{kill}-{who}"))).collect();
        let ran = db.migrate_all_aside("parallel => 2, lock_timeout => '20 s'");
        if chance.below(2) == 0 {
            let mut client = db.superuser();
            let under_way = "SELECT count(*) FROM fluxbase_tenant.unfinished_migrations";
            until("a concurrent build is under way, or the run has ended", || {
                ran.is_finished() || one::<i64>(&mut client, under_way, &[]) > 0
            });
        }
        std::thread::sleep(Duration::from_millis(chance.below(1500)));
        cluster.crash();
        let _ = ran.join();
        let told: Vec<String> = creators.into_iter().flat_map(|creator| creator.join().expect("it counts")).collect();
        consistent(&db, &format!("kill {kill}"));
        kept(&db, &told);
    }
    finish(&db, "in the end");
}
