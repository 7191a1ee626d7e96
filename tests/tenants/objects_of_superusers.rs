//! What a superuser, or a job that runs as one, creates in a tenant's schema belongs to the tenant's owner role.

use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_error};

cases![objects_belong_to_the_owner_role, partitions_are_migrated_and_no_drift, objects_elsewhere_are_left_alone];

const OWNERS: &str = "SELECT DISTINCT o.owner::regrole::text FROM (
    SELECT relowner, relnamespace FROM pg_class UNION ALL SELECT proowner, pronamespace FROM pg_proc
    -- PostgreSQL 15 does not change the owner of a multirange type together with its range type.
    UNION ALL SELECT typowner, typnamespace FROM pg_type WHERE typname NOT LIKE '%multirange') o (owner, schema) WHERE schema = $1::text::regnamespace";

fn acme(db: &Db) -> (Uuid, Uuid) {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    db.add_migration("1", "CREATE TABLE notes (id int PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'x')");
    let user = new_user();
    (user, db.new_tenant("acme", user))
}

fn objects_belong_to_the_owner_role(db: &Db) {
    let (user, id) = acme(db);
    run(
        &mut db.superuser(),
        "SET search_path = tenant_acme, public;
         CREATE TABLE plain (id serial PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY);
         CREATE TABLE copied AS TABLE notes; SELECT * INTO selected FROM notes; CREATE SEQUENCE counter;
         CREATE VIEW seen AS TABLE notes; CREATE VIEW safe WITH (security_invoker) AS TABLE notes; CREATE MATERIALIZED VIEW total AS SELECT count(*) FROM notes;
         CREATE FUNCTION f(int, text DEFAULT 'a') RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE PROCEDURE p(x int) LANGUAGE sql AS 'SELECT 1'; CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int);
         CREATE TYPE mood AS ENUM ('ok'); CREATE DOMAIN small AS int CHECK (VALUE < 10); CREATE TYPE pair AS (a int, b int);
         CREATE TYPE span AS RANGE (subtype = int); CREATE TABLE \"Odd name\" (n small)",
    );
    assert_eq!(column::<String>(&mut db.superuser(), OWNERS, &[&"tenant_acme"]), [Db::owner_role(id)]);
    assert!(db.superuser().query("SELECT * FROM tenant_repair($1)", &[&id]).unwrap().is_empty());
    let mut member = db.as_user(user);
    run(
        &mut member,
        "INSERT INTO tenant_acme.plain DEFAULT VALUES; SELECT * FROM tenant_acme.copied, tenant_acme.total, tenant_acme.safe",
    );
    expect_error(db.as_user(new_user()).query("SELECT * FROM tenant_acme.copied", &[]), "42501");
    // A migration can change them.
    db.add_migration(
        "2",
        "ALTER TABLE plain ADD COLUMN more mood; DROP VIEW seen; ALTER DOMAIN small DROP CONSTRAINT small_check;
         CREATE OR REPLACE FUNCTION f(int, text DEFAULT 'a') RETURNS int LANGUAGE sql AS 'SELECT 2'; DROP AGGREGATE total(int)",
    );
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{id}')"));
    // A SECURITY DEFINER function runs as the owner role.
    run(
        &mut db.superuser(),
        "CREATE FUNCTION tenant_acme.who() RETURNS text LANGUAGE sql SECURITY DEFINER AS 'SELECT current_user::text'",
    );
    assert_eq!(one::<String>(&mut member, "SELECT tenant_acme.who()", &[]), Db::owner_role(id));
    // A superuser can still choose another owner. The audit reports it.
    run(&mut db.superuser(), "ALTER TABLE tenant_acme.copied OWNER TO postgres");
    let found =
        "SELECT count(*) FROM tenant_check() WHERE object = 'table tenant_acme.copied' AND problem LIKE 'is owned by%'";
    assert_eq!(one::<i64>(&mut db.superuser(), found, &[]), 1);
}

fn partitions_are_migrated_and_no_drift(db: &Db) {
    let (_, id) = acme(db);
    db.add_migration(
        "2",
        "CREATE TABLE log (day date, what text) PARTITION BY RANGE (day); CREATE INDEX ON log (what);
         CREATE TABLE log_2025 PARTITION OF log FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
    );
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{id}')"));
    run(
        &mut db.superuser(),
        "CREATE TABLE tenant_acme.log_2026 PARTITION OF tenant_acme.log FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
         CREATE TABLE tenant_acme.\"log of 2027\" PARTITION OF tenant_acme.log FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')
             PARTITION BY RANGE (day);
         CREATE TABLE tenant_acme.log_2027_1 PARTITION OF tenant_acme.\"log of 2027\" FOR VALUES FROM ('2027-01-01') TO ('2027-02-01')",
    );
    db.add_migration("3", "ALTER TABLE log ADD COLUMN who uuid; CREATE INDEX ON log (who)");
    assert_eq!(column::<String>(&mut db.admin(), "SELECT status FROM tenant_migrate_all()", &[]), ["migrated"]);
    let drift = "SELECT object || ' ' || problem FROM tenant_drift() ORDER BY 1";
    assert_eq!(column::<String>(&mut db.admin(), drift, &[]), [""; 0]);
    // Any other object is drift, and so is a missing partition of the ledger.
    run(
        &mut db.superuser(),
        "CREATE TABLE tenant_acme.log_2028 (n int) PARTITION BY LIST (n);
         CREATE TABLE tenant_acme.part PARTITION OF tenant_acme.log_2028 FOR VALUES IN (1); DROP TABLE tenant_acme.log_2025",
    );
    let found = column::<String>(&mut db.admin(), drift, &[]);
    assert_eq!(found, ["table log_2025 missing", "table log_2028 unexpected", "table part unexpected"]);
}

fn objects_elsewhere_are_left_alone(db: &Db) {
    acme(db);
    let role = format!("maker_of_{}", db.name());
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE outside (n int); CREATE TYPE mood AS ENUM ('ok'); CREATE TEMP TABLE t (n int);
             CREATE ROLE {role} LOGIN; GRANT CREATE, USAGE ON SCHEMA tenant_acme TO {role};
             CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
             CREATE FOREIGN TABLE tenant_acme.far (n int) SERVER nowhere"
        ),
    );
    let owner = "SELECT relowner::regrole::text FROM pg_class WHERE relname = $1";
    for table in ["outside", "far"] {
        assert_eq!(one::<String>(&mut db.superuser(), owner, &[&table]), "postgres", "{table}");
    }
    // Another role cannot create anything there, even if it was granted CREATE.
    let create = "CREATE FUNCTION tenant_acme.g() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    expect_error(db.connect_as(&role, "").batch_execute(create), "42501");
    run(&mut db.superuser(), create);
    run(&mut db.superuser(), &format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}"));
}
