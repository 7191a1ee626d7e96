//! pg_restore can load the catalog's tables in any order and with any number of jobs, and tenant_check() reports what a
//! restore lost.

use postgres::Client;

use crate::cases;
use crate::support::Db;
use crate::support::people::{column, new_user, one, run};

cases![
    any_number_of_jobs_gives_the_same_rows,
    any_order_gives_the_same_rows,
    lost_rows_are_reported,
    a_missing_shared_table_does_not_affect_the_others,
];

/// The catalog's tables, in an order in which referencing rows come before the rows that they refer to.
const TABLES: [&str; 11] = [
    "removals",
    "shared_tables",
    "fleet_results",
    "fleet_runs",
    "unfinished_migrations",
    "applied_migrations",
    "members",
    "tenants",
    "migrations",
    "instance_admins",
    "tenant_limit",
];

/// Fills every table that a dump contains, with rows that are long enough for the jobs to overlap.
fn populate(db: &Db) {
    let mut superuser = db.superuser();
    run(&mut superuser, "SELECT tenant_migration_add('1', 'a', 'CREATE TABLE a (n int)')");
    run(
        &mut superuser,
        &format!(
            "SELECT tenant_create('t' || i, 'T', jsonb_build_object('note', (SELECT string_agg(md5(g::text), '')
                 FROM generate_series(1, 20000) g)), NULL, '{}') FROM generate_series(1, 5) i",
            new_user()
        ),
    );
    run(&mut superuser, "SELECT tenant_migration_add('2', 'b', 'CREATE TABLE b (n int)')");
    run(&mut superuser, "SELECT * FROM tenant_migrate_all()");
    run(
        &mut superuser,
        "CREATE TABLE jobs (n int); SELECT tenant_protect('jobs');
         CREATE TABLE parted (n int) PARTITION BY LIST (n); CREATE TABLE parted1 PARTITION OF parted FOR VALUES IN (1);
         CREATE TABLE parted2 PARTITION OF parted FOR VALUES IN (2); CREATE TABLE parted3 PARTITION OF parted FOR VALUES IN (3);
         SELECT tenant_protect('parted'); CREATE TABLE dropped (n int); SELECT tenant_protect('dropped');
         DROP TABLE dropped; INSERT INTO fluxbase_tenant.removals (tenant_id, relation, attempts, tried_at)
             VALUES ('00000000-0000-4000-8000-000000000001', 'jobs', 30, now()), ('00000000-0000-4000-8000-000000000001', NULL, 30, now());
         INSERT INTO jobs SELECT 1, id FROM fluxbase_tenant.tenants",
    );
    run(&mut superuser, &format!("SELECT tenant_grant_instance_admin('{}')", new_user()));
    run(
        &mut superuser,
        "SELECT tenant_migration_add('3', 'c', 'CREATE INDEX CONCURRENTLY ON a (n); SELECT 1/0', transactional => false)",
    );
    run(&mut superuser, "SELECT * FROM tenant_migrate_all(retries => 0)");
}

/// Returns all rows except those of the dropped table, and without the counters of attempts, which change concurrently.
fn rows(client: &mut Client) -> Vec<String> {
    let mut all = Vec::new();
    for table in TABLES {
        let sql = match table {
            "shared_tables" => "SELECT relation::text || tenant_column FROM fluxbase_tenant.shared_tables
                                WHERE EXISTS (SELECT FROM pg_class WHERE oid = relation)"
                .to_string(),
            "removals" => {
                "SELECT tenant_id::text || coalesce(relation::text, 'role') FROM fluxbase_tenant.removals".to_string()
            }
            "tenant_limit" => continue,
            _ => format!("SELECT '{table} ' || md5(t::text) FROM fluxbase_tenant.{table} t"),
        };
        let found: Vec<String> = column(client, &format!("{sql} ORDER BY 1"), &[]);
        assert!(!found.is_empty(), "{table} is empty: the test would prove nothing");
        all.extend(found);
    }
    all.extend(column::<String>(client, "SELECT 'jobs ' || t::text FROM jobs t ORDER BY 1", &[]));
    all
}

fn any_number_of_jobs_gives_the_same_rows(db: &Db) {
    populate(db);
    let before = rows(&mut db.superuser());
    let folder = db.cluster.folder().join(format!("{}.dump", db.name()));
    let folder = folder.to_str().unwrap();
    db.tool("pg_dump", &["--format=directory", "--jobs=2", "--file", folder]);
    for jobs in ["1", "2", "4", "8"] {
        let restored = Db::empty(&db.cluster);
        restored.tool("pg_restore", &["--exit-on-error", "--jobs", jobs, "--dbname", restored.name(), folder]);
        assert_eq!(rows(&mut restored.superuser()), before, "{jobs} jobs");
        let mut superuser = restored.superuser();
        assert_eq!(
            one::<i64>(&mut superuser, "SELECT count(*) FROM tenant_migration_status() WHERE pending = 1", &[]),
            5
        );
        let lost = "SELECT problem FROM tenant_check() WHERE severity = 'error'";
        assert_eq!(column::<String>(&mut superuser, lost, &[]), [""; 0]);
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// Restores in an order that foreign keys would not permit.
fn any_order_gives_the_same_rows(db: &Db) {
    populate(db);
    let before = rows(&mut db.superuser());
    let file = db.cluster.folder().join(format!("{}.custom", db.name()));
    let file = file.to_str().unwrap();
    db.tool("pg_dump", &["--format=custom", "--file", file]);
    let restored = Db::empty(&db.cluster);
    let into = restored.name().to_owned();
    restored.tool("pg_restore", &["--exit-on-error", "--section=pre-data", "--dbname", &into, file]);
    for table in TABLES.iter().filter(|table| **table != "tenant_limit") {
        let schema =
            ["--exit-on-error", "--data-only", "--schema=fluxbase_tenant", "--table", table, "--dbname", &into, file];
        restored.tool("pg_restore", &schema);
    }
    restored.tool("pg_restore", &["--exit-on-error", "--data-only", "--table=jobs", "--dbname", &into, file]);
    restored.tool("pg_restore", &["--exit-on-error", "--section=post-data", "--dbname", &into, file]);
    assert_eq!(rows(&mut restored.superuser()), before);
    std::fs::remove_file(file).unwrap();
}

fn lost_rows_are_reported(db: &Db) {
    populate(db);
    let mut superuser = db.superuser();
    run(&mut superuser, "BEGIN");
    for (loss, object, problem) in [
        (
            "DELETE FROM fluxbase_tenant.tenants WHERE slug = 't1'",
            "table fluxbase_tenant.members",
            "has 1 rows of tenants that do not exist",
        ),
        (
            "DELETE FROM fluxbase_tenant.tenants",
            "table fluxbase_tenant.applied_migrations",
            "has 10 rows of tenants that do not exist",
        ),
        (
            "DELETE FROM fluxbase_tenant.tenants",
            "table fluxbase_tenant.fleet_results",
            "has 10 rows of tenants that do not exist",
        ),
        (
            "DELETE FROM fluxbase_tenant.tenants",
            "table fluxbase_tenant.unfinished_migrations",
            "has 5 rows of tenants that do not exist",
        ),
        (
            "DELETE FROM fluxbase_tenant.migrations WHERE version = '1'",
            "migration version \"1\"",
            "is in the ledgers of 5 tenants but not registered",
        ),
        (
            "DELETE FROM fluxbase_tenant.applied_migrations",
            "tenant t1",
            "has 0 migrations in its ledger and 2 in its row",
        ),
        (
            "DELETE FROM fluxbase_tenant.applied_migrations WHERE version = '2'",
            "tenant t2",
            "has 1 migrations in its ledger and 2 in its row",
        ),
        (
            "UPDATE fluxbase_tenant.tenants SET schema_version = '1'",
            "tenant t3",
            "has 2 migrations in its ledger and 2 in its row, but another schema_version",
        ),
        (
            "DELETE FROM fluxbase_tenant.shared_tables",
            "table public.jobs",
            "has the policies of a shared table but is not listed as one: tenant_delete() does not delete its rows",
        ),
        (
            "DROP POLICY tenant_isolation ON jobs",
            "table public.jobs",
            "row-level security or the policy tenant_isolation is missing or changed",
        ),
    ] {
        let found = "SELECT count(*) FROM tenant_check() WHERE object = $1 AND problem = $2";
        assert_eq!(one::<i64>(&mut superuser, found, &[&object, &problem]), 0, "before: {loss}");
        run(&mut superuser, &format!("SAVEPOINT s; {loss}"));
        assert_eq!(one::<i64>(&mut superuser, found, &[&object, &problem]), 1, "{loss}: {problem}");
        run(&mut superuser, "ROLLBACK TO s");
    }
}

/// The owner of a listed table can exclude it from dumps, by making it a member of an extension.
fn a_missing_shared_table_does_not_affect_the_others(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    run(
        &mut db.superuser(),
        "CREATE TABLE jobs (n int); SELECT tenant_protect('jobs'); CREATE TABLE bills (n int); SELECT tenant_protect('bills');
         CREATE TABLE gone (n int); SELECT tenant_protect('gone'); CREATE TABLE lost (n int); SELECT tenant_protect('lost');
         CREATE EXTENSION hstore; ALTER EXTENSION hstore ADD TABLE gone; ALTER EXTENSION hstore ADD TABLE lost;
         INSERT INTO fluxbase_tenant.removals (tenant_id, relation)
             SELECT '00000000-0000-4000-8000-000000000001', relation FROM fluxbase_tenant.shared_tables",
    );
    let folder = db.cluster.folder().join(format!("{}.dump", db.name()));
    let folder = folder.to_str().unwrap();
    db.tool("pg_dump", &["--format=directory", "--file", folder]);
    let restored = Db::empty(&db.cluster);
    restored.tool("pg_restore", &["--exit-on-error", "--jobs=4", "--dbname", restored.name(), folder]);
    let mut superuser = restored.superuser();
    let listed = "SELECT relation::text FROM fluxbase_tenant.shared_tables ORDER BY 1";
    assert_eq!(column::<String>(&mut superuser, listed, &[]), ["-", "-", "bills", "jobs"]);
    let found = "SELECT count(*) FROM tenant_check() WHERE severity = 'error' AND problem LIKE 'lists 2 tables that did not exist%'";
    assert_eq!(one::<i64>(&mut superuser, found, &[]), 1);
    run(&mut superuser, &format!("INSERT INTO jobs VALUES (1, '{id}'); SELECT tenant_delete('{id}')"));
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM jobs", &[]), 0);
    run(&mut superuser, "DELETE FROM fluxbase_tenant.shared_tables WHERE relation::oid = 0");
    assert_eq!(one::<i64>(&mut superuser, found, &[]), 0);
    std::fs::remove_dir_all(folder).unwrap();
}
