//! Parents, partitions and children of shared tables, and locks and triggers of roles that were granted privileges on
//! them.

use crate::cases;
use crate::support::people::{column, one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error, expect_refusal};

cases![
    inheritance_children,
    a_partition_without_its_root,
    foreign_partitions,
    commands_that_rebuild_the_table,
    triggers_while_a_column_is_filled,
];

const FINDINGS: &str =
    "SELECT object FROM tenant_check() WHERE severity = 'error' AND object LIKE 'table public.%' ORDER BY 1";

/// Children that are created before the table is protected, created after that, or attached later.
fn inheritance_children(db: &Db) {
    let scene = Scene::set(db);
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        "CREATE TABLE logs (happened text NOT NULL, tenant_id uuid NOT NULL); CREATE TABLE logs_1 () INHERITS (logs);
         CREATE TABLE logs_11 () INHERITS (logs_1); SELECT tenant_protect('logs'); CREATE TABLE logs_2 () INHERITS (logs);
         CREATE TABLE logs_3 (LIKE logs); ALTER TABLE logs_3 INHERIT logs",
    );
    for table in ["logs", "logs_1", "logs_11", "logs_2", "logs_3"] {
        run(
            &mut superuser,
            &format!(
                "GRANT SELECT ON {table} TO fluxbase_tenant_user;
                 INSERT INTO {table} SELECT slug, id FROM fluxbase_tenant.tenants"
            ),
        );
        let read: Vec<String> = column(&mut scene.thief(), &format!("SELECT DISTINCT happened FROM {table}"), &[]);
        assert_eq!(read, ["thief"], "{table}");
    }
    assert_eq!(column::<String>(&mut superuser, FINDINGS, &[]), [""; 0]);
    run(&mut superuser, "DROP POLICY tenant_isolation ON logs_11");
    assert_eq!(column::<String>(&mut superuser, FINDINGS, &[]), ["table public.logs_11"]);
    run(&mut superuser, "SELECT tenant_protect('logs')");
    assert_eq!(column::<String>(&mut superuser, FINDINGS, &[]), [""; 0]);
    run(&mut superuser, "SELECT tenant_unprotect('logs')");
    assert_eq!(
        one::<i64>(
            &mut superuser,
            "SELECT count(*) FROM fluxbase_tenant.isolation_policies WHERE tenant_id IS NULL",
            &[]
        ),
        0
    );
}

/// A query on the root does not evaluate the policies of a partition.
fn a_partition_without_its_root(db: &Db) {
    let scene = Scene::set(db);
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        "CREATE TABLE facts (happened text, tenant_id uuid, y int) PARTITION BY LIST (y);
         CREATE TABLE facts_1 PARTITION OF facts FOR VALUES IN (1); CREATE TABLE facts_2 (LIKE facts);
         GRANT SELECT ON facts, facts_1 TO fluxbase_tenant_user;
         INSERT INTO facts SELECT slug, id, 1 FROM fluxbase_tenant.tenants",
    );
    let refused = expect_refusal(superuser.batch_execute("SELECT tenant_protect('facts_1')"), "conflict");
    refused.message_has("is a partition or child of table public.facts").hint_has("public.facts");
    run(
        &mut superuser,
        "SELECT tenant_protect('facts_2'); ALTER TABLE facts ATTACH PARTITION facts_2 FOR VALUES IN (2)",
    );
    let found =
        "SELECT fix FROM tenant_check() WHERE object = 'table public.facts_2' AND problem LIKE '%parent public.facts%'";
    let fix: String = one(&mut superuser, found, &[]);
    run(&mut superuser, &fix);
    assert_eq!(column::<String>(&mut superuser, found, &[]), [""; 0]);
    for table in ["facts", "facts_1"] {
        let read: Vec<String> = column(&mut scene.thief(), &format!("SELECT happened FROM {table}"), &[]);
        assert_eq!(read, ["thief"], "{table}");
    }
}

/// Policies do not apply to foreign tables.
fn foreign_partitions(db: &Db) {
    let scene = Scene::set(db);
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        &format!(
            "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
             COPY (SELECT slug, id, 1 FROM fluxbase_tenant.tenants) TO '{0}/facts.csv' CSV;
             CREATE TABLE facts (happened text NOT NULL, tenant_id uuid NOT NULL, y int) PARTITION BY LIST (y);
             CREATE FOREIGN TABLE facts_old PARTITION OF facts FOR VALUES IN (1) SERVER files
                 OPTIONS (filename '{0}/facts.csv', format 'csv');
             SELECT tenant_protect('facts'); GRANT SELECT ON facts TO fluxbase_tenant_user",
            db.cluster.folder().display()
        ),
    );
    let found = "SELECT fix FROM tenant_check() WHERE object = 'foreign table public.facts_old'";
    assert_eq!(column::<String>(&mut superuser, found, &[]), [""; 0]);
    assert_eq!(column::<String>(&mut scene.thief(), "SELECT happened FROM facts", &[]), ["thief"]);
    expect_error(scene.thief().query("SELECT happened FROM facts_old", &[]), "42501");
    run(&mut superuser, "GRANT SELECT ON facts_old TO fluxbase_tenant_user");
    assert_eq!(one::<String>(&mut superuser, found, &[]), "REVOKE ALL ON public.facts_old FROM fluxbase_tenant_user");
}

/// A role with MAINTAIN could keep the table locked in an open transaction.
fn commands_that_rebuild_the_table(db: &Db) {
    if db.major() < 17 {
        return;
    }
    let scene = Scene::set(db);
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        "CREATE TABLE jobs (id int PRIMARY KEY, n int); CREATE TABLE plain (id int PRIMARY KEY);
         GRANT ALL ON jobs, plain TO fluxbase_tenant_user; SELECT tenant_protect('jobs');
         CLUSTER jobs USING jobs_pkey; CLUSTER plain USING plain_pkey",
    );
    let mut thief = scene.thief();
    for command in ["REINDEX TABLE jobs", "REINDEX INDEX jobs_pkey", "CLUSTER jobs", "CLUSTER jobs USING jobs_pkey"] {
        expect_error(thief.batch_execute(command), "42501");
        run(&mut thief, &command.replace("jobs", "plain"));
    }
    // The owner may run them.
    run(&mut superuser, "REINDEX TABLE jobs; CLUSTER jobs");
}

/// GRANT ALL lets other roles create triggers on the table, which would run with its owner's privileges.
fn triggers_while_a_column_is_filled(db: &Db) {
    let scene = Scene::set(db);
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        "CREATE TABLE events (id int, tenant_id uuid); INSERT INTO events VALUES (1, NULL); GRANT ALL ON events TO fluxbase_tenant_user",
    );
    run(
        &mut scene.thief(),
        &format!(
            "CREATE FUNCTION lair.evil() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN EXECUTE 'ALTER ROLE {} SUPERUSER'; RETURN NEW; END $$;
             CREATE TRIGGER evil BEFORE UPDATE ON events FOR EACH ROW EXECUTE FUNCTION lair.evil()",
            scene.role
        ),
    );
    let protect = format!("SELECT tenant_protect('events', existing_rows => '{}')", scene.victim);
    expect_refusal(superuser.batch_execute(&protect), "conflict").message_has("trigger evil on public.events");
    assert!(!one::<bool>(&mut superuser, "SELECT rolsuper FROM pg_roles WHERE rolname = $1", &[&scene.role]));
    run(&mut superuser, "DROP TRIGGER evil ON events");
    run(&mut superuser, &protect);
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM events WHERE tenant_id = $1", &[&scene.victim]), 1);
}
