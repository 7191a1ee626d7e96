//! Every table that is created in a tenant schema, by any statement and any role, is protected at the end of its
//! statement.

use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    tables_of_a_migration,
    tables_of_a_superuser,
    tables_of_the_first_migrations,
    tables_created_by_explain_analyze,
    tables_moved_in,
    tables_without_rights_to_the_catalog,
    tables_elsewhere_are_left_alone,
    foreign_tables_need_the_library_preloaded,
    only_members_can_access_foreign_tables,
    materialized_views_need_the_library_preloaded,
    only_members_can_access_materialized_views,
    views_check_their_reader,
    serial_columns_work_only_for_members,
    identity_columns_work_only_for_members,
    finer_policies_may_replace_tenant_access,
    restrictive_policies_may_be_added,
];

/// Every method to create a table, each in its own statement.
const STATEMENTS: &[&str] = &[
    "CREATE TABLE plain (n int)",
    "CREATE TABLE IF NOT EXISTS unless_there (n int)",
    "CREATE UNLOGGED TABLE unlogged (n int)",
    "CREATE TABLE \"Qu\"\"oted Näme; --\" (n int)",
    "CREATE TABLE from_query AS SELECT 1 AS n",
    "CREATE TABLE from_query_without_data AS SELECT 1 AS n WITH NO DATA",
    "CREATE TABLE from_values AS VALUES (1)",
    "CREATE TABLE from_table AS TABLE plain",
    "SELECT 1 AS n INTO selected",
    "CREATE TABLE copied (LIKE plain INCLUDING ALL)",
    "CREATE TYPE shape AS (n int); CREATE TABLE typed OF shape",
    "CREATE TABLE parent (n int); CREATE TABLE child () INHERITS (parent)",
    "CREATE TABLE adopted (n int); ALTER TABLE adopted INHERIT parent",
    "CREATE TABLE split (n int) PARTITION BY RANGE (n)",
    "CREATE TABLE split_0 PARTITION OF split FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE split_1 PARTITION OF split FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (n)",
    "CREATE TABLE split_1_0 PARTITION OF split_1 DEFAULT",
    "CREATE TABLE attached (n int); ALTER TABLE split ATTACH PARTITION attached FOR VALUES FROM (20) TO (30)",
    "ALTER TABLE split DETACH PARTITION split_0",
    "CREATE TABLE before (n int); ALTER TABLE before RENAME TO after",
    "DO $$ BEGIN CREATE TABLE in_do (n int); EXECUTE 'CREATE TABLE in_execute AS SELECT 1 AS n'; END $$",
    "CREATE FUNCTION make() RETURNS void LANGUAGE plpgsql AS 'BEGIN CREATE TABLE in_function (n int); END'",
    "SELECT make()",
    "CREATE FUNCTION make_sql() RETURNS void LANGUAGE sql AS 'CREATE TABLE in_sql_function (n int)'; SELECT make_sql()",
    "CREATE PROCEDURE make_more() LANGUAGE plpgsql AS 'BEGIN CREATE TABLE in_procedure (n int); END'; CALL make_more()",
    "CREATE TABLE dropped (n int); DROP TABLE dropped; CREATE TABLE dropped (n int)",
];

const CREATED: usize = 26;

fn tables_of_a_migration(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    db.migrate(id, &STATEMENTS.join(";\n"));
    assert_eq!(db.tables_of(id).len(), CREATED, "{:?}", db.tables_of(id));
    db.assert_tables_are_protected(id);
}

/// Superusers can create tables there too. As in psql, each statement runs in its own transaction.
fn tables_of_a_superuser(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    let mut superuser = db.superuser();
    run(&mut superuser, "SET search_path = tenant_acme");
    for statement in STATEMENTS {
        run(&mut superuser, statement);
        db.assert_tables_are_protected(id);
    }
    run(&mut superuser, "PREPARE later AS SELECT 1 AS n; CREATE TABLE from_prepared AS EXECUTE later");
    assert_eq!(db.tables_of(id).len(), CREATED + 1, "{:?}", db.tables_of(id));
    db.assert_tables_are_protected(id);
}

fn tables_of_the_first_migrations(db: &Db) {
    for (version, statement) in STATEMENTS.iter().enumerate() {
        db.add_migration(&(version + 1).to_string(), statement);
    }
    let id = db.new_tenant("acme", new_user());
    assert_eq!(db.tables_of(id).len(), CREATED);
    db.assert_tables_are_protected(id);
}

/// EXPLAIN ANALYZE executes its statement, but does not fire event triggers.
fn tables_created_by_explain_analyze(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    for text in [
        "EXPLAIN ANALYZE CREATE TABLE explained AS SELECT 1 AS n",
        "EXPLAIN (ANALYZE, COSTS OFF) SELECT 1 AS n INTO explained",
        "DO $$ BEGIN EXECUTE 'EXPLAIN ANALYZE CREATE TABLE tenant_acme.explained AS SELECT 1 AS n'; END $$",
        "PREPARE q AS SELECT 1; EXPLAIN ANALYZE CREATE TABLE explained AS EXECUTE q",
    ] {
        let _ = db.try_migration(id, text);
        let mut superuser = db.superuser();
        run(&mut superuser, "SELECT tenant_is_instance_admin(); SET search_path = tenant_acme, public");
        let _ = superuser.batch_execute(text);
        db.assert_tables_are_protected(id);
    }
    db.migrate(id, "EXPLAIN CREATE TABLE only_planned AS SELECT 1 AS n");
    assert!(!db.tables_of(id).contains(&"only_planned".into()));
}

fn tables_moved_in(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let mut superuser = db.superuser();
    run(&mut superuser, "CREATE TABLE moved AS SELECT 1 AS n; ALTER TABLE moved SET SCHEMA tenant_acme");
    run(
        &mut superuser,
        "CREATE TABLE split (n int) PARTITION BY LIST (n); CREATE TABLE part PARTITION OF split DEFAULT;
         ALTER TABLE part SET SCHEMA tenant_acme; ALTER TABLE split SET SCHEMA tenant_acme",
    );
    run(&mut superuser, "CREATE SCHEMA staging; CREATE TABLE staging.sent (n int)");
    run(&mut superuser, "DO $$ BEGIN ALTER TABLE staging.sent SET SCHEMA tenant_acme; END $$");
    assert_eq!(db.tables_of(id), ["moved", "part", "sent", "split"]);
    db.assert_tables_are_protected(id);
    assert_eq!(reached(&mut db.as_user(user), "tenant_acme.moved"), 1);
    assert_eq!(reached(&mut db.as_user(new_user()), "tenant_acme.moved"), 0);
}

/// The event trigger runs as the role that runs the statement, which may have no privileges on the catalog.
fn tables_without_rights_to_the_catalog(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    run(&mut db.superuser(), "GRANT CREATE, USAGE ON SCHEMA tenant_acme TO app_outsider");
    let mut outsider = db.outsider();
    // A caller without access to the tenant creates nothing there, whatever was granted.
    expect_error(outsider.batch_execute("CREATE TABLE tenant_acme.theirs (n int)"), "42501");
    let mut service = db.superuser();
    run(&mut service, &format!("SET fluxbase_tenant.tenant_id = '{id}'; SET SESSION AUTHORIZATION app_outsider"));
    run(&mut service, "CREATE TABLE tenant_acme.theirs (n int)");
    db.assert_tables_are_protected(id);
    expect_error(outsider.query("SELECT * FROM tenant_acme.theirs", &[]), "42501");
}

fn tables_elsewhere_are_left_alone(db: &Db) {
    db.new_tenant("acme", new_user());
    let mut superuser = db.superuser();
    run(&mut superuser, "CREATE SCHEMA tenant_like; CREATE TABLE tenant_like.t (n int); CREATE TEMP TABLE t (n int)");
    run(&mut superuser, "CREATE TABLE public.t AS SELECT 1 AS n; CREATE VIEW public.v AS SELECT * FROM public.t");
    run(&mut db.outsider(), "CREATE TEMP TABLE mine AS SELECT 1 AS n; TABLE mine");
    let touched: i64 = one(
        &mut superuser,
        "SELECT count(*) FROM pg_class c WHERE relname IN ('t', 'v') AND (relrowsecurity OR relacl IS NOT NULL
             OR reloptions IS NOT NULL OR EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid))",
        &[],
    );
    assert_eq!(touched, 0);
}

fn foreign_server(db: &Db) {
    let script = format!(
        "CREATE EXTENSION postgres_fdw; CREATE SCHEMA far; CREATE TABLE far.rows AS SELECT 1 AS n;
         CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{}', dbname '{}');
         CREATE USER MAPPING FOR PUBLIC SERVER self OPTIONS (user 'postgres', password_required 'false')",
        db.socket_dir().display(),
        db.name(),
    );
    run(&mut db.superuser(), &script);
}

const FOREIGN_TABLES: [&str; 3] = [
    "CREATE FOREIGN TABLE tenant_acme.rows (n int) SERVER self OPTIONS (schema_name 'far')",
    "IMPORT FOREIGN SCHEMA far FROM SERVER self INTO tenant_acme",
    "CREATE FOREIGN TABLE public.rows (n int) SERVER self OPTIONS (schema_name 'far');
     ALTER FOREIGN TABLE public.rows SET SCHEMA tenant_acme",
];

fn foreign_tables_need_the_library_preloaded(db: &Db) {
    db.new_tenant("acme", new_user());
    foreign_server(db);
    for statement in FOREIGN_TABLES {
        let refusal = expect_refusal(db.superuser().batch_execute(statement), "conflict");
        refusal.hint_has("session_preload_libraries");
    }
}

fn only_members_can_access_foreign_tables(db: &Db) {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    let user = new_user();
    db.new_tenant("acme", user);
    foreign_server(db);
    for statement in FOREIGN_TABLES {
        run(&mut db.superuser(), statement);
        assert_eq!(column::<i32>(&mut db.as_user(user), "SELECT n FROM tenant_acme.rows", &[]), [1], "{statement}");
        for mut outsider in [db.as_user(new_user()), db.user_role()] {
            let refusal = expect_error(outsider.query("SELECT n FROM tenant_acme.rows", &[]), "42501");
            refusal.message_has("tenant_acme");
        }
        run(&mut db.superuser(), "DROP FOREIGN TABLE tenant_acme.rows");
    }
}

const SUMMARY: &str =
    "CREATE TABLE IF NOT EXISTS notes AS SELECT 1 AS n; CREATE MATERIALIZED VIEW summary AS TABLE notes";

fn materialized_views_need_the_library_preloaded(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    expect_refusal(db.try_migration(id, SUMMARY), "conflict").hint_has("session_preload_libraries");
    let made = db.superuser().batch_execute("CREATE MATERIALIZED VIEW tenant_acme.summary AS SELECT 1 AS n");
    expect_refusal(made, "conflict");
    let moved =
        "CREATE MATERIALIZED VIEW summary AS SELECT 1 AS n; ALTER MATERIALIZED VIEW summary SET SCHEMA tenant_acme";
    expect_refusal(db.superuser().batch_execute(moved), "conflict");
}

fn only_members_can_access_materialized_views(db: &Db) {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    let user = new_user();
    let id = db.new_tenant("acme", user);
    db.migrate(id, SUMMARY);
    db.migrate(id, "INSERT INTO notes VALUES (2); REFRESH MATERIALIZED VIEW summary");
    let mut member = db.as_user(user);
    assert_eq!(column::<i32>(&mut member, "SELECT n FROM tenant_acme.summary ORDER BY n", &[]), [1, 2]);
    let other = new_user();
    db.new_tenant("other", other);
    for mut outsider in [db.as_user(other), db.as_user(new_user()), db.server(), db.user_role()] {
        let refusal = expect_error(outsider.query("SELECT * FROM tenant_acme.summary", &[]), "42501");
        refusal.message_has("tenant_acme");
        expect_error(outsider.batch_execute("REFRESH MATERIALIZED VIEW tenant_acme.summary"), "42501");
        expect_error(outsider.query("COPY (TABLE tenant_acme.summary) TO STDOUT", &[]), "42501");
    }
}

fn is_invoker(db: &Db, view: &str) -> bool {
    let sql = "SELECT coalesce(reloptions && '{security_invoker=true,security_invoker=on}', false)
               FROM pg_class WHERE oid = $1::text::regclass";
    one(&mut db.superuser(), sql, &[&view])
}

fn views_check_their_reader(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    db.migrate(id, "CREATE TABLE notes AS SELECT 1 AS n; CREATE VIEW seen AS TABLE notes");
    let in_a_migration = [
        "CREATE OR REPLACE VIEW seen AS TABLE notes",
        "ALTER VIEW seen RESET (security_invoker)",
        "ALTER VIEW seen SET (security_invoker = off)",
        "ALTER TABLE seen RESET (security_invoker)",
        "DROP VIEW seen; CREATE VIEW seen WITH (security_invoker = false, security_barrier) AS TABLE notes",
        "DROP VIEW seen; CREATE RECURSIVE VIEW seen (n) AS SELECT 1 UNION ALL SELECT n FROM notes WHERE n > 1",
    ];
    for change in in_a_migration {
        db.migrate(id, change);
        assert!(is_invoker(db, "tenant_acme.seen"), "{change}");
        run(&mut db.superuser(), &format!("SET search_path = tenant_acme; {change}"));
        assert!(is_invoker(db, "tenant_acme.seen"), "{change}");
        assert_eq!(reached(&mut db.as_user(user), "tenant_acme.seen"), 1, "{change}");
    }
    let mut superuser = db.superuser();
    run(&mut superuser, "CREATE VIEW public.moved AS TABLE tenant_acme.notes; ALTER VIEW moved SET SCHEMA tenant_acme");
    assert!(is_invoker(db, "tenant_acme.moved"));
    assert_eq!(reached(&mut db.as_user(user), "tenant_acme.moved"), 1);
    let other = new_user();
    db.new_tenant("other", other);
    for mut outsider in [db.as_user(other), db.server(), db.user_role()] {
        assert_eq!(reached(&mut outsider, "tenant_acme.seen"), 0);
        assert_eq!(reached(&mut outsider, "tenant_acme.moved"), 0);
    }
}

fn serial_columns_work_only_for_members(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let other = new_user();
    db.new_tenant("other", other);
    db.migrate(
        id,
        "CREATE TABLE small (id serial, body text); CREATE TABLE big (id bigserial PRIMARY KEY, body text);
         CREATE SEQUENCE \"Odd Numbers\" START 1 INCREMENT 2;
         CREATE TABLE odd (id bigint DEFAULT nextval('\"Odd Numbers\"'), body text);
         CREATE TABLE later (body text); ALTER TABLE later ADD COLUMN id serial;
         CREATE TABLE altered (id int, body text);
         ALTER TABLE altered ALTER COLUMN id SET DEFAULT 1000 + nextval('\"Odd Numbers\"'::regclass);
         INSERT INTO small (body) VALUES ('from the migration')",
    );
    let sequences: Vec<String> = column(
        &mut db.superuser(),
        "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S' AND relnamespace = 'tenant_acme'::regnamespace",
        &[],
    );
    assert_eq!(sequences.len(), 4, "{sequences:?}");
    for (table, first) in [("small", 2), ("big", 1), ("odd", 1), ("later", 1), ("altered", 1003)] {
        let insert = format!("INSERT INTO tenant_acme.{table} (body) VALUES ('x') RETURNING id::bigint");
        for mut outsider in [db.as_user(other), db.server(), db.user_role()] {
            expect_error(outsider.query(&insert, &[]), "42501");
        }
        for mut member in [db.as_user(user), db.as_service(id)] {
            run(&mut member, "SET search_path = pg_catalog");
            assert!(one::<i64>(&mut member, &insert, &[]) >= first, "{table}");
        }
    }
    for sequence in sequences {
        let quoted = sequence.replace('\'', "''");
        for function in ["nextval", "fluxbase_tenant.nextval", "currval", "pg_sequence_last_value"] {
            let call = format!("SELECT {function}('{quoted}')::text");
            for mut outsider in [db.as_user(other), db.server(), db.user_role()] {
                assert_ne!(
                    outsider.query_one(&call, &[]).ok().and_then(|r| r.get::<_, Option<String>>(0)).as_deref(),
                    Some("1")
                );
            }
        }
    }
}

fn identity_columns_work_only_for_members(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    db.migrate(
        id,
        "CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY, body text);
         CREATE TABLE by_default (id int GENERATED BY DEFAULT AS IDENTITY, body text);
         CREATE TABLE later (body text); ALTER TABLE later ADD COLUMN id int GENERATED ALWAYS AS IDENTITY",
    );
    for table in ["always", "by_default", "later"] {
        let insert = format!("INSERT INTO tenant_acme.{table} (body) VALUES ('x') RETURNING id");
        expect_error(db.as_user(new_user()).query(&insert, &[]), "42501");
        assert_eq!(one::<i32>(&mut db.as_user(user), &insert, &[]), 1, "{table}: the outsider advanced the sequence");
    }
}

fn finer_policies_may_replace_tenant_access(db: &Db) {
    let (ann, bob): (Uuid, Uuid) = (new_user(), new_user());
    let id = db.new_tenant("acme", ann);
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{id}', '{bob}')"));
    db.migrate(id, "CREATE TABLE notes (author uuid DEFAULT tenant_current_user_id(), body text)");
    db.migrate(
        id,
        "DROP POLICY tenant_access ON notes;
         CREATE POLICY all_read ON notes FOR SELECT USING (true);
         CREATE POLICY own_writes ON notes FOR INSERT WITH CHECK (author = (SELECT tenant_current_user_id()));
         CREATE POLICY own_deletes ON notes FOR DELETE USING (author = (SELECT tenant_current_user_id()))",
    );
    for author in [ann, bob] {
        run(&mut db.as_user(author), "INSERT INTO tenant_acme.notes (body) VALUES ('mine')");
    }
    let mut client = db.as_user(ann);
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 2);
    let foreign = client.execute("INSERT INTO tenant_acme.notes VALUES ($1, 'as bob')", &[&bob]);
    expect_error(foreign, "42501").message_has("row-level security");
    assert_eq!(client.execute("DELETE FROM tenant_acme.notes", &[]).unwrap(), 1, "only their own row");
    assert_eq!(reached(&mut db.as_user(new_user()), "tenant_acme.notes"), 0);
    assert!(db.admin().query("SELECT * FROM tenant_repair($1)", &[&id]).unwrap().is_empty(), "nothing to repair");
    db.migrate(id, "ALTER TABLE notes ADD COLUMN more text");
    let policies = "SELECT policyname::text FROM pg_policies WHERE tablename = 'notes' ORDER BY 1";
    let names: Vec<String> = column(&mut db.superuser(), policies, &[]);
    assert_eq!(names, ["all_read", "own_deletes", "own_writes", "tenant_isolation"]);
}

fn restrictive_policies_may_be_added(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    db.migrate(
        id,
        "CREATE TABLE notes AS SELECT n FROM generate_series(1, 10) n;
         CREATE POLICY even ON notes AS RESTRICTIVE USING (n % 2 = 0);
         CREATE POLICY open_to_all ON notes USING (true);
         ALTER POLICY even ON notes USING (n % 5 = 0);",
    );
    assert_eq!(reached(&mut db.as_user(user), "tenant_acme.notes"), 2);
    assert_eq!(
        reached(&mut db.as_user(new_user()), "tenant_acme.notes"),
        0,
        "a permissive policy gives no access to outsiders"
    );
    db.migrate(id, "DROP POLICY even ON notes; DROP POLICY open_to_all ON notes");
    assert_eq!(reached(&mut db.as_user(user), "tenant_acme.notes"), 10);
}
