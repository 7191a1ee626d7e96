//! tenant_protect() turns any table into a shared table, in which every row belongs to a tenant. tenant_unprotect()
//! undoes it.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    fresh_table_gets_everything,
    a_second_call_does_nothing,
    missing_parts_are_restored,
    rows_without_a_tenant_are_counted,
    existing_rows_are_given_to_a_tenant,
    nulls_in_an_existing_column_are_filled,
    triggers_run_as_the_tables_owner,
    column_of_another_type_is_refused,
    names_are_quoted,
    existing_and_later_partitions,
    partitions_with_another_column_order,
    requires_an_instance_admin_who_owns_the_table,
    relations_that_are_not_tables_are_refused,
    tables_in_tenant_schemas_are_refused,
    existing_policies_are_kept,
    unprotect_removes_everything_but_the_data,
    bad_arguments,
];

const PROTECT: &str = "SELECT done FROM tenant_protect($1::text::regclass)";

fn protect(client: &mut Client, table: &str) -> Vec<String> {
    column(client, PROTECT, &[&table])
}

/// Returns a session of a role that owns tables in schema public and is an instance admin. The role is named after the
/// database, because roles are shared by the cluster.
fn owner(db: &Db) -> Client {
    let role = format!("table_owner_{}", db.name());
    run(
        &mut db.superuser(),
        &format!("CREATE ROLE {role} LOGIN IN ROLE fluxbase_tenant_admin; GRANT CREATE ON SCHEMA public TO {role}"),
    );
    db.connect_as(&role, "")
}

/// Reports which parts of what `tenant_protect` adds a table has.
fn has(db: &Db, table: &str, tenant_column: &str) -> [bool; 6] {
    let row = db.superuser().query_one(
        "SELECT c.relrowsecurity AND c.relforcerowsecurity,
                (SELECT bool_and(CASE polname WHEN 'tenant_isolation' THEN NOT polpermissive AND polcmd = '*'
                                              ELSE polpermissive END) AND count(*) >= 2 FROM pg_policy WHERE polrelid = c.oid),
                a.attnotnull AND a.atttypid = 'uuid'::regtype,
                pg_get_expr(d.adbin, d.adrelid) = 'tenant_current_id()',
                EXISTS (SELECT FROM fluxbase_tenant.shared_tables s WHERE s.relation = (
                            WITH RECURSIVE up (oid) AS (SELECT c.oid UNION SELECT inhparent FROM up JOIN pg_inherits ON inhrelid = oid)
                            SELECT oid FROM up WHERE NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = oid))
                        AND s.tenant_column = a.attname),
                EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indkey[0] = a.attnum AND indisvalid)
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $2::text::name
         LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum WHERE c.oid = $1::text::regclass",
        &[&table, &tenant_column],
    );
    let row = row.unwrap_or_else(|e| panic!("{table} has no {tenant_column}: {e:?}"));
    std::array::from_fn(|index| row.get::<_, Option<bool>>(index).unwrap_or(false))
}

fn fresh_table_gets_everything(db: &Db) {
    let mut client = owner(db);
    run(&mut client, "CREATE TABLE public.jobs (id int PRIMARY KEY, body text)");
    let rows = client.query("SELECT * FROM tenant_protect('jobs')", &[]).unwrap();
    let steps: Vec<(&str, &str)> = rows.iter().map(|row| (row.get("object"), row.get("done"))).collect();
    let of_column = "column public.jobs.tenant_id";
    assert_eq!(
        steps,
        [
            (of_column, "added"),
            (of_column, "default set to the current tenant"),
            (of_column, "index added"),
            ("table public.jobs", "policies added"),
            ("table public.jobs", "registered as a shared table"),
        ]
    );
    assert_eq!(has(db, "jobs", "tenant_id"), [true; 6]);
}

fn a_second_call_does_nothing(db: &Db) {
    let mut client = owner(db);
    run(&mut client, "CREATE TABLE public.jobs (id int); CREATE TABLE public.split (id int) PARTITION BY LIST (id)");
    for table in ["jobs", "split"] {
        assert!(!protect(&mut client, table).is_empty());
        for _ in 0..2 {
            assert_eq!(protect(&mut client, table), [""; 0]);
        }
        assert_eq!(has(db, table, "tenant_id"), [true; 6]);
    }
}

fn missing_parts_are_restored(db: &Db) {
    let mut client = owner(db);
    run(&mut client, "CREATE TABLE public.jobs (id int)");
    protect(&mut client, "jobs");
    for (damage, done) in [
        ("ALTER TABLE jobs ALTER tenant_id DROP NOT NULL", "set not null"),
        ("ALTER TABLE jobs ALTER tenant_id DROP DEFAULT", "default set to the current tenant"),
        ("DROP INDEX jobs_tenant_id_idx", "index added"),
        ("DROP POLICY tenant_isolation ON jobs", "policies added"),
        ("DROP POLICY tenant_isolation ON jobs; DROP POLICY tenant_access ON jobs", "policies added"),
        ("ALTER TABLE jobs DISABLE ROW LEVEL SECURITY", "policies added"),
        ("ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY", "policies added"),
    ] {
        run(&mut client, damage);
        assert_eq!(protect(&mut client, "jobs"), [done], "{damage}");
        assert_eq!(has(db, "jobs", "tenant_id"), [true; 6], "{damage}");
    }
}

fn rows_without_a_tenant_are_counted(db: &Db) {
    let mut client = owner(db);
    run(&mut client, "CREATE TABLE public.jobs AS SELECT n FROM generate_series(1, 7) n");
    let refusal = expect_refusal(client.query(PROTECT, &[&"jobs"]), "conflict");
    refusal.message("7 rows have no tenant").hint_has("existing_rows");
    run(&mut client, "ALTER TABLE jobs ADD COLUMN tenant_id uuid");
    expect_refusal(client.query(PROTECT, &[&"jobs"]), "conflict").message("7 rows have no tenant");
    let touched: bool = one(&mut client, "SELECT relrowsecurity FROM pg_class WHERE oid = 'jobs'::regclass", &[]);
    assert!(!touched, "a failed call changes nothing");
    run(&mut client, "DELETE FROM jobs");
    assert_eq!(protect(&mut client, "jobs").len(), 5);
}

fn existing_rows_are_given_to_a_tenant(db: &Db) {
    let user = new_user();
    let acme = db.new_tenant("acme", user);
    let mut client = owner(db);
    run(
        &mut client,
        "CREATE TABLE public.jobs AS SELECT n FROM generate_series(1, 7) n; GRANT SELECT ON jobs TO PUBLIC",
    );
    let give = "SELECT done FROM tenant_protect('jobs', existing_rows => $1)";
    expect_refusal(client.query(give, &[&new_user()]), "not_found");
    assert_eq!(column::<String>(&mut client, give, &[&acme])[0], "added");
    assert_eq!(has(db, "jobs", "tenant_id"), [true; 6]);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM jobs WHERE tenant_id = $1", &[&acme]), 7);
}

const PARTLY_FILLED: &str = "
    CREATE TABLE public.jobs (n int, tenant_id uuid);
    CREATE TABLE public.seen (who text, fluent text)";

fn nulls_in_an_existing_column_are_filled(db: &Db) {
    let (acme, other) = (db.new_tenant("acme", new_user()), db.new_tenant("other", new_user()));
    let mut superuser = db.superuser();
    run(&mut superuser, PARTLY_FILLED);
    run(&mut superuser, &format!("INSERT INTO jobs VALUES (1, NULL), (2, '{acme}'), (3, NULL), (4, NULL)"));
    expect_refusal(superuser.query(PROTECT, &[&"jobs"]), "conflict").message("3 rows have no tenant");
    let steps: Vec<String> =
        column(&mut superuser, "SELECT done FROM tenant_protect('jobs', existing_rows => $1)", &[&other]);
    assert_eq!(steps[..2], ["existing rows assigned to the tenant", "set not null"]);
    let given: Vec<i32> = column(&mut superuser, "SELECT n FROM jobs WHERE tenant_id = $1 ORDER BY n", &[&other]);
    assert_eq!(given, [1, 3, 4], "the row with a tenant keeps it");
    assert_eq!(has(db, "jobs", "tenant_id"), [true; 6]);
    let unknown = new_user();
    run(&mut superuser, &format!("CREATE TABLE dangling AS SELECT '{unknown}'::uuid AS tenant_id"));
    let refusal = expect_refusal(superuser.query(PROTECT, &[&"dangling"]), "conflict");
    refusal.message(&format!("rows of the table refer to tenant {unknown}, which does not exist"));
}

fn triggers_run_as_the_tables_owner(db: &Db) {
    let acme = db.new_tenant("acme", new_user());
    let mut client = owner(db);
    let role: String = one(&mut client, "SELECT current_user::text", &[]);
    run(&mut client, PARTLY_FILLED);
    run(
        &mut client,
        "INSERT INTO jobs VALUES (1, NULL);
         CREATE FUNCTION public.spy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO public.seen VALUES (current_user, current_setting('is_superuser'));
             BEGIN EXECUTE 'SET ROLE postgres'; RAISE 'became postgres';
             EXCEPTION WHEN insufficient_privilege THEN NULL; END;
             RETURN new; END $$;
         CREATE TRIGGER spy BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION spy();
         CREATE TRIGGER spy_too AFTER UPDATE ON jobs FOR EACH STATEMENT EXECUTE FUNCTION spy()",
    );
    run(&mut db.superuser(), &format!("SELECT tenant_protect('jobs', existing_rows => '{acme}')"));
    let rows = client.query("SELECT who FROM seen", &[]).unwrap();
    assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), [role.clone(), role]);
}

fn column_of_another_type_is_refused(db: &Db) {
    let mut client = owner(db);
    run(&mut client, "CREATE TABLE public.jobs (tenant_id text, account int); CREATE DOMAIN public.ref AS uuid");
    for name in ["tenant_id", "account"] {
        let refused = client.query("SELECT * FROM tenant_protect('jobs', $1::text::name)", &[&name]);
        expect_refusal(refused, "invalid_argument").message_has("is not of type uuid");
    }
    run(&mut client, "ALTER TABLE jobs DROP COLUMN account; SELECT tenant_protect('jobs', 'account')");
    assert_eq!(has(db, "jobs", "account"), [true; 6], "dropped columns are ignored");
    for reserved in ["ctid", "tableoid", "xmin"] {
        assert!(client.query("SELECT * FROM tenant_protect('jobs', $1::text::name)", &[&reserved]).is_err());
    }
}

fn names_are_quoted(db: &Db) {
    let acme = db.new_tenant("acme", new_user());
    let mut client = owner(db);
    for (number, name) in
        ["Tenant", "select", "a b", "x\"y", "x'; DROP TABLE victim; --", "Größe", "$1", "%s%I"].iter().enumerate()
    {
        let quoted = format!("\"{}\"", name.replace('"', "\"\""));
        run(&mut client, &format!("CREATE TABLE public.{quoted} (n int)"));
        let table = format!("public.{quoted}");
        let call = "SELECT count(*) FROM tenant_protect($1::text::regclass, $2::text::name)";
        assert_eq!(one::<i64>(&mut client, call, &[&table, name]), 5, "{name}");
        assert_eq!(has(db, &table, name), [true; 6], "{name}");
        assert_eq!(one::<i64>(&mut client, call, &[&table, name]), 0, "{name}");
        run(&mut db.superuser(), &format!("INSERT INTO {table} VALUES ({number}, '{acme}')"));
        assert_eq!(one::<i64>(&mut db.as_service(acme), "SELECT 1::bigint", &[]), 1);
        run(&mut client, &format!("SELECT tenant_unprotect('{}')", table.replace('\'', "''")));
    }
}

const SPLIT: &str = "
    CREATE TABLE public.split (n int) PARTITION BY RANGE (n);
    CREATE TABLE public.low PARTITION OF split FOR VALUES FROM (0) TO (10);
    CREATE TABLE public.high PARTITION OF split FOR VALUES FROM (10) TO (30) PARTITION BY LIST (n);
    CREATE TABLE public.deep PARTITION OF high DEFAULT";

fn existing_and_later_partitions(db: &Db) {
    let mut client = owner(db);
    run(&mut client, SPLIT);
    protect(&mut client, "split");
    for part in ["split", "low", "high", "deep"] {
        assert_eq!(has(db, part, "tenant_id"), [true; 6], "{part}");
    }
    run(
        &mut client,
        "CREATE TABLE public.later PARTITION OF split FOR VALUES FROM (30) TO (40);
         CREATE TABLE public.attached (n int, tenant_id uuid NOT NULL);
         ALTER TABLE split ATTACH PARTITION attached FOR VALUES FROM (40) TO (50);
         CREATE TABLE public.tree (n int, tenant_id uuid NOT NULL) PARTITION BY LIST (n);
         CREATE TABLE public.leaf PARTITION OF tree DEFAULT;
         ALTER TABLE split ATTACH PARTITION tree FOR VALUES FROM (50) TO (60);
         CREATE TABLE public.last PARTITION OF high FOR VALUES IN (15)",
    );
    for part in ["later", "attached", "tree", "leaf", "last"] {
        let [secured, policies, column, _, listed, index] = has(db, part, "tenant_id");
        assert!(secured && policies && column && listed && index, "{part}: {:?}", has(db, part, "tenant_id"));
    }
    assert_eq!(protect(&mut client, "split"), [""; 0]);
    run(&mut client, "ALTER TABLE split DETACH PARTITION low");
    assert!(has(db, "low", "tenant_id")[..2] == [true, true], "a detached partition stays protected");
}

fn partitions_with_another_column_order(db: &Db) {
    let (ann, bob) = (new_user(), new_user());
    let (acme, other) = (db.new_tenant("acme", ann), db.new_tenant("other", bob));
    let mut client = owner(db);
    run(
        &mut client,
        "CREATE TABLE public.split (n int, account uuid) PARTITION BY LIST (n);
         CREATE TABLE public.part (account uuid, gone int, n int); ALTER TABLE part DROP COLUMN gone;
         ALTER TABLE split ATTACH PARTITION part DEFAULT; SELECT tenant_protect('split', 'account');
         CREATE TABLE public.more (gone text, account uuid NOT NULL, n int); ALTER TABLE more DROP COLUMN gone;
         ALTER TABLE split ATTACH PARTITION more FOR VALUES IN (2); GRANT ALL ON split, part, more TO PUBLIC",
    );
    run(
        &mut db.superuser(),
        &format!("INSERT INTO split VALUES (1, '{acme}'), (2, '{acme}'), (1, '{other}'), (2, '{other}')"),
    );
    for user in [ann, bob] {
        for (table, rows) in [("split", 2), ("part", 1), ("more", 1)] {
            let sql = format!("SELECT count(*) FROM {table}");
            assert_eq!(one::<i64>(&mut db.as_user(user), &sql, &[]), rows, "{table}");
        }
    }
}

/// Only an instance admin decides about rows of all tenants, and only the owner may change the table.
fn requires_an_instance_admin_who_owns_the_table(db: &Db) {
    let mut client = owner(db);
    let user = new_user();
    run(&mut client, "CREATE TABLE public.jobs (n int); GRANT ALL ON jobs TO PUBLIC");
    let acme = db.new_tenant("acme", user);
    for (mut other, code, hint) in [
        (db.admin(), "forbidden", "owner of the table"),
        (db.user_role(), "unauthenticated", "user_id"),
        (db.server(), "unauthenticated", "user_id"),
        (db.as_user(user), "forbidden", "instance admin"),
        (db.as_service(acme), "forbidden", "instance admin"),
    ] {
        for call in ["tenant_protect('jobs')", "tenant_protect('jobs', 'n')", "tenant_unprotect('jobs')"] {
            expect_refusal(other.query(&format!("SELECT * FROM {call}"), &[]), code).hint_has(hint);
        }
    }
    let mere_owner = format!("mere_owner_{}", db.name());
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE {mere_owner} LOGIN IN ROLE fluxbase_tenant_user; CREATE TABLE public.theirs (n int);
             ALTER TABLE theirs OWNER TO {mere_owner}"
        ),
    );
    let mut owner_alone = db.connect_as(&mere_owner, "");
    for call in ["tenant_protect('theirs')", "tenant_unprotect('theirs')"] {
        expect_refusal(owner_alone.query(&format!("SELECT * FROM {call}"), &[]), "unauthenticated");
    }
    for name in ["fluxbase_tenant.members", "pg_catalog.pg_class"] {
        expect_refusal(client.query(PROTECT, &[&name]), "forbidden");
    }
    expect_error(db.outsider().query(PROTECT, &[&"jobs"]), "42501");
    assert_eq!(protect(&mut client, "jobs").len(), 5);
}

fn relations_that_are_not_tables_are_refused(db: &Db) {
    let mut client = db.superuser();
    run(
        &mut client,
        "CREATE TABLE t (n int PRIMARY KEY); CREATE VIEW v AS TABLE t; CREATE MATERIALIZED VIEW m AS TABLE t;
         CREATE SEQUENCE s; CREATE TEMP TABLE temporary (n int); CREATE TYPE c AS (n int);
         CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE f (n int) SERVER far",
    );
    for name in ["v", "m", "s", "temporary", "c", "f", "t_pkey"] {
        let refusal = expect_refusal(client.query(PROTECT, &[&name]), "invalid_argument");
        refusal.message("relation is not a table");
        let unprotected = client.query("SELECT * FROM tenant_unprotect($1::text::regclass)", &[&name]);
        expect_refusal(unprotected, "invalid_argument");
    }
    expect_error(client.query(PROTECT, &[&"no_such_table"]), "42P01");
    expect_refusal(client.query("SELECT * FROM tenant_protect(999999999::oid)", &[]), "invalid_argument");
}

fn tables_in_tenant_schemas_are_refused(db: &Db) {
    let acme = db.new_tenant("acme", new_user());
    db.migrate(acme, "CREATE TABLE jobs (n int)");
    for call in ["tenant_protect('tenant_acme.jobs')", "tenant_unprotect('tenant_acme.jobs')"] {
        let result = db.superuser().query(&format!("SELECT * FROM {call}"), &[]);
        expect_refusal(result, "conflict").message_has("is in a tenant schema");
    }
    db.assert_tables_are_protected(acme);
}

fn existing_policies_are_kept(db: &Db) {
    let mut client = owner(db);
    run(
        &mut client,
        "CREATE TABLE public.jobs (n int); ALTER TABLE jobs ENABLE ROW LEVEL SECURITY;
         CREATE POLICY few ON jobs USING (n < 10); CREATE POLICY odd ON jobs AS RESTRICTIVE USING (n % 2 = 1);
         SELECT tenant_protect('jobs')",
    );
    let policies = "SELECT polname::text FROM pg_policy WHERE polrelid = 'jobs'::regclass ORDER BY 1";
    assert_eq!(column::<String>(&mut client, policies, &[]), ["few", "odd", "tenant_isolation"]);
    run(&mut client, "SELECT tenant_unprotect('jobs')");
    assert_eq!(column::<String>(&mut client, policies, &[]), ["few", "odd"]);
    assert!(one::<bool>(&mut client, "SELECT relrowsecurity FROM pg_class WHERE oid = 'jobs'::regclass", &[]));
}

fn unprotect_removes_everything_but_the_data(db: &Db) {
    let acme: Uuid = db.new_tenant("acme", new_user());
    let mut client = owner(db);
    run(&mut client, SPLIT);
    run(&mut client, "CREATE TABLE public.jobs (n int); SELECT tenant_protect('jobs'), tenant_protect('split')");
    run(&mut db.superuser(), &format!("INSERT INTO jobs VALUES (1, '{acme}'); INSERT INTO split VALUES (1, '{acme}')"));
    for table in ["jobs", "split"] {
        let mut as_owner = db.superuser();
        run(
            &mut as_owner,
            &format!("SET fluxbase_tenant.user_id = '{}'; SET ROLE table_owner_{}", new_user(), db.name()),
        );
        assert_eq!(
            one::<i64>(&mut as_owner, &format!("SELECT count(*) FROM {table}"), &[]),
            0,
            "policies apply to the owner too"
        );
        assert!(client.query("SELECT * FROM tenant_unprotect($1::text::regclass)", &[&table]).unwrap().len() >= 2);
        assert_eq!(one::<i64>(&mut client, &format!("SELECT count(*) FROM {table}"), &[]), 1);
        let [secured, policies, column, default, listed, index] = has(db, table, "tenant_id");
        assert_eq!([secured, policies, default, listed], [false; 4], "{table}");
        assert_eq!([column, index], [true; 2], "{table}: the data remains");
        assert!(client.query("SELECT * FROM tenant_unprotect($1::text::regclass)", &[&table]).unwrap().is_empty());
    }
    let left: i64 = one(
        &mut client,
        "SELECT count(*) FROM pg_class c WHERE relnamespace = 'public'::regnamespace
         AND (relrowsecurity OR relforcerowsecurity OR EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid))",
        &[],
    );
    assert_eq!(left, 0, "partitions are unprotected too");
    let done = ["default set to the current tenant", "policies added", "registered as a shared table"];
    assert_eq!(protect(&mut client, "jobs"), done);
}

fn bad_arguments(db: &Db) {
    let mut client = owner(db);
    run(&mut client, "CREATE TABLE public.jobs (n int)");
    for call in
        ["tenant_protect(NULL)", "tenant_protect('jobs', NULL)", "tenant_protect('jobs', '')", "tenant_unprotect(NULL)"]
    {
        let result = client.query(&format!("SELECT * FROM {call}"), &[]);
        assert!(result.is_err(), "{call}");
        if !call.contains("''") {
            expect_refusal(result, "invalid_argument").message_has("must not be null");
        }
    }
}
