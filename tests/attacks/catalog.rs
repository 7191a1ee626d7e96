//! The policies of the catalog tables hide other tenants' rows. Plans, counters and locks must not reveal them either.

use std::io::Read;

use postgres::Client;

use crate::cases;
use crate::support::people::{column, one, run};
use crate::support::scene::Scene;
use crate::support::tables::plan;
use crate::support::{Db, expect_error};

cases![
    conditions_evaluated_before_the_policy,
    functions_inlined_by_the_planner,
    deeply_nested_queries,
    merge_that_does_nothing,
    queries_of_every_form
];

/// Conditions on indexed columns whose operators are leakproof, so that the planner would evaluate them before the
/// policy.
fn conditions_evaluated_before_the_policy(db: &Db) {
    let scene = Scene::set(db);
    let existing = [
        ("tenants", "slug = 'victim' AND deleted_at IS NULL"),
        ("tenants", "slug >= 'victim' AND slug < 'victin' AND deleted_at IS NULL"),
        ("tenants", "schema_name = 'tenant_victim'"),
        ("tenants", &format!("id = '{}'", scene.victim)),
        ("members", &format!("user_id = '{}'", scene.owner)),
        ("members", &format!("tenant_id = '{}'", scene.victim)),
    ];
    // The same conditions with values that do not exist.
    let unknown = [
        "slug = 'nobody' AND deleted_at IS NULL",
        "slug >= 'nobody' AND slug < 'nobodz' AND deleted_at IS NULL",
        "schema_name = 'tenant_nobody'",
        "id = '01920000-0000-7000-8000-000000000001'",
        "user_id = '01920000-0000-7000-8000-000000000001'",
        "tenant_id = '01920000-0000-7000-8000-000000000001'",
    ];
    for settings in ["SET enable_seqscan = off", "SET enable_seqscan = off; SET enable_bitmapscan = off"] {
        for ((table, condition), unknown) in existing.iter().zip(unknown) {
            let observed = |condition: &str| observed(&mut scene.thief(), settings, table, condition);
            assert_eq!(observed(condition), observed(unknown), "{condition}");
        }
    }
    // A caller who may see the row finds it with the same condition.
    let mut owner = scene.owner();
    let found = "SELECT count(*) FROM fluxbase_tenant.tenants WHERE slug = 'victim' AND deleted_at IS NULL";
    assert_eq!(one::<i64>(&mut owner, found, &[]), 1);
    assert_eq!(one::<i64>(&mut scene.thief(), found, &[]), 0);
}

/// The planner inlines these functions after the planner hook has read the query.
fn functions_inlined_by_the_planner(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut scene.thief(),
        "SET check_function_bodies = off;
         CREATE VIEW lair.slugs AS SELECT slug, deleted_at FROM fluxbase_tenant.tenants;
         CREATE FUNCTION lair.plain() RETURNS SETOF fluxbase_tenant.tenants LANGUAGE sql STABLE AS 'SELECT * FROM fluxbase_tenant.tenants';
         CREATE FUNCTION lair.by_view() RETURNS SETOF lair.slugs LANGUAGE sql STABLE AS 'SELECT * FROM lair.slugs';
         CREATE FUNCTION lair.nested() RETURNS SETOF lair.slugs LANGUAGE sql STABLE AS 'SELECT slug, deleted_at FROM lair.plain()';
         CREATE FUNCTION lair.unnamed() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT slug FROM tenants WHERE deleted_at IS NULL'",
    );
    for function in ["lair.plain()", "lair.by_view()", "lair.nested()", "lair.unnamed() AS slug"] {
        for form in [
            "SELECT count(*) FROM {} WHERE slug = '$'",
            "WITH w AS (SELECT * FROM {} WHERE slug = '$') SELECT count(*) FROM w",
            "SELECT (SELECT count(*) FROM {} WHERE slug = '$')",
            "SELECT count(*) FROM {} WHERE slug = '$' AND (true OR EXISTS (SELECT FROM fluxbase_tenant.tenants))",
            "SELECT count(*) FROM (SELECT * FROM {} OFFSET 0) s WHERE slug = '$'",
        ] {
            let query = form.replace("{}", function);
            let observed = |slug: &str| {
                let mut thief = scene.thief();
                run(&mut thief, "SET enable_seqscan = off; SET search_path = public, fluxbase_tenant");
                let explain = format!(
                    "EXPLAIN (ANALYZE, TIMING off, SUMMARY off, BUFFERS off, COSTS off) {}",
                    query.replace('$', slug)
                );
                column::<String>(&mut thief, &explain, &[]).join("\n").replace(slug, "$")
            };
            assert_eq!(observed("victim"), observed("nobody"), "{query}");
            let mut owner = scene.owner();
            run(
                &mut scene.thief(),
                "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA lair TO PUBLIC; GRANT SELECT ON lair.slugs TO PUBLIC",
            );
            run(&mut owner, "SET search_path = public, fluxbase_tenant");
            assert_eq!(one::<i64>(&mut owner, &query.replace('$', "victim"), &[]), 1, "{query}");
        }
    }
    // Functions that read no catalog table are still inlined.
    run(
        &mut scene.thief(),
        "CREATE FUNCTION lair.notes() RETURNS SETOF tenant_thief.notes LANGUAGE sql STABLE AS 'SELECT * FROM tenant_thief.notes'",
    );
    let plan = plan(&mut scene.thief(), "SELECT * FROM lair.notes() WHERE id = 1");
    assert!(plan.contains("notes_pkey") && !plan.contains("Function Scan"), "{plan}");
}

/// Returns what a query reveals besides its rows: plan, counts and estimates, counters, predicate locks.
fn observed(client: &mut Client, settings: &str, table: &str, condition: &str) -> Vec<String> {
    run(client, &format!("{settings}; BEGIN ISOLATION LEVEL SERIALIZABLE"));
    let query = format!("SELECT FROM fluxbase_tenant.{table} WHERE {condition}");
    let mut observed: Vec<String> =
        column(client, &format!("EXPLAIN (ANALYZE, TIMING off, SUMMARY off, BUFFERS off) {query}"), &[]);
    observed.retain(|line| !line.contains("Filter: (") && !line.contains("Cond: ("));
    run(client, &query);
    let counters = "SELECT format('%s %s %s', relname, coalesce(seq_tup_read, 0), coalesce(idx_tup_fetch, 0)) \
                    FROM pg_stat_xact_all_tables WHERE schemaname = 'fluxbase_tenant' ORDER BY relname";
    observed.extend(column::<String>(client, counters, &[]));
    let locks = "SELECT format('%s %s', locktype, count(*)) FROM pg_locks \
                 WHERE pid = pg_backend_pid() AND mode = 'SIReadLock' GROUP BY locktype ORDER BY 1";
    observed.extend(column::<String>(client, locks, &[]));
    run(client, "ROLLBACK");
    observed
}

fn queries_of_every_form(db: &Db) {
    let scene = Scene::set(db);
    let slugs = |client: &mut Client, query: &str| column::<String>(client, query, &[]);
    for query in [
        "SELECT slug FROM fluxbase_tenant.tenants",
        "SELECT t.slug FROM fluxbase_tenant.tenants t JOIN fluxbase_tenant.members m ON m.tenant_id = t.id",
        "SELECT (t).slug FROM fluxbase_tenant.tenants t",
        "SELECT to_jsonb(t) ->> 'slug' FROM fluxbase_tenant.tenants t",
        "WITH w AS (TABLE fluxbase_tenant.tenants) SELECT slug FROM w",
        "SELECT (SELECT slug FROM fluxbase_tenant.tenants LIMIT 1)",
        "SELECT slug FROM fluxbase_tenant.tenants WHERE id IN (SELECT tenant_id FROM fluxbase_tenant.members) ORDER BY slug",
        "SELECT slug FROM fluxbase_tenant.members m LEFT JOIN LATERAL (SELECT slug FROM fluxbase_tenant.tenants t WHERE t.id = m.tenant_id) t ON true",
        "SELECT slug FROM lair.slugs",
        "EXECUTE slugs",
    ] {
        for (mut client, expected) in [(scene.thief(), "thief"), (scene.owner(), "victim")] {
            if query.contains("lair") {
                run(
                    &mut scene.thief(),
                    "CREATE OR REPLACE VIEW lair.slugs WITH (security_invoker = false) AS SELECT slug FROM fluxbase_tenant.tenants;
                     GRANT SELECT ON lair.slugs TO PUBLIC",
                );
            }
            run(&mut client, "PREPARE slugs AS SELECT slug FROM fluxbase_tenant.tenants");
            assert_eq!(slugs(&mut client, query), [expected], "{query}");
        }
    }
    assert_eq!(
        column::<String>(&mut db.admin(), "SELECT slug FROM fluxbase_tenant.tenants ORDER BY slug", &[]),
        ["thief", "victim"]
    );
    run(&mut scene.thief(), "CREATE TABLE lair.mine AS SELECT id, slug, 0 AS n FROM fluxbase_tenant.tenants");
    for (statement, expected) in [
        (
            "UPDATE lair.mine SET n = 1 FROM fluxbase_tenant.tenants t WHERE t.id = mine.id RETURNING to_jsonb(t) ->> 'slug'",
            "thief",
        ),
        ("SELECT (t).slug FROM lair.mine, fluxbase_tenant.tenants t WHERE t.id = mine.id FOR UPDATE OF mine", "thief"),
        ("DELETE FROM lair.mine USING fluxbase_tenant.tenants t WHERE t.id = mine.id RETURNING (t).slug", "thief"),
    ] {
        assert_eq!(slugs(&mut scene.thief(), statement), [expected], "{statement}");
    }
    let mut copied = String::new();
    let mut thief = scene.thief();
    let mut copy = thief.copy_out("COPY fluxbase_tenant.tenants (slug) TO STDOUT").unwrap();
    copy.read_to_string(&mut copied).unwrap();
    assert_eq!(copied, "thief\n");
    for refused in [
        "SELECT ctid FROM fluxbase_tenant.tenants",
        "SELECT slug FROM fluxbase_tenant.tenants WHERE xmin::text <> '0'",
        "SELECT slug FROM fluxbase_tenant.tenants FOR UPDATE",
        "SELECT slug FROM fluxbase_tenant.tenants TABLESAMPLE system (100)",
        "SELECT (SELECT (SELECT count(*) FROM fluxbase_tenant.members TABLESAMPLE system (length(a.t)::real)) FROM (SELECT 5::int8 AS c) b)
         FROM (VALUES ('x'::text)) a(t)",
        "SELECT c FROM (VALUES (100::real)) v(x), LATERAL (SELECT count(*) c FROM fluxbase_tenant.members TABLESAMPLE bernoulli (x)) s",
        "UPDATE fluxbase_tenant.tenants SET name = 'x'",
        "DELETE FROM fluxbase_tenant.tenants",
    ] {
        expect_error(scene.thief().batch_execute(refused), "42501");
    }
    assert!(
        plan(&mut scene.thief(), "SELECT slug FROM fluxbase_tenant.tenants WHERE slug = 'x'").contains("Subquery Scan")
    );
}

/// The barrier must not reduce the nesting depth that PostgreSQL allows.
fn deeply_nested_queries(db: &Db) {
    let scene = Scene::set(db);
    let deep = |from: &str, levels: usize| {
        format!("{}SELECT count(*) FROM {from}{}", "SELECT (".repeat(levels), ")".repeat(levels))
    };
    run(&mut scene.thief(), "CREATE TABLE lair.plain (x int)");
    run(&mut scene.thief(), &deep("lair.plain", 300));
    run(&mut scene.thief(), &deep("tenant_thief.notes", 100));
    run(&mut scene.thief(), &deep("fluxbase_tenant.tenants", 100));
}

/// A MERGE that does nothing requires only SELECT, but the planner treats the table as its target.
fn merge_that_does_nothing(db: &Db) {
    let scene = Scene::set(db);
    let into = |table: &str, condition: &str| {
        format!("EXPLAIN MERGE INTO {table} t USING (VALUES (1)) v (s) ON {condition} WHEN MATCHED THEN DO NOTHING")
    };
    for table in ["tenants", "members", "instance_admins", "migrations", "shared_tables"] {
        let merge = into(&format!("fluxbase_tenant.{table}"), "t.ctid = '(0,1)'");
        expect_error(scene.thief().query(&merge, &[]), "42501");
    }
    let own = into("tenant_thief.notes", "t.id = 1");
    assert!(!column::<String>(&mut scene.thief(), &own, &[]).is_empty());
}
