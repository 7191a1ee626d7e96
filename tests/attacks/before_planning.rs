//! What the planner could reveal before a query starts, because it reads statistics and index entries while it plans. A
//! query that names an inaccessible relation is refused before that.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    printed_plans,
    tables_of_a_deleted_tenant,
    statements_prepared_by_another_user,
    index_probes_for_the_largest_value,
    statistics_of_the_catalog,
    slugs_by_row_counters,
    memberships_by_row_counters,
];

const PAYMENTS: &str = "CREATE TABLE pay (who text, amount int);
     CREATE INDEX ON pay (amount);
     CREATE MATERIALIZED VIEW totals AS SELECT who, amount FROM pay;
     INSERT INTO pay SELECT CASE WHEN n <= 700 THEN 'big customer' ELSE 'c' || n END, n FROM generate_series(1, 1000) n;
     REFRESH MATERIALIZED VIEW totals";

/// Adds views and functions that the thief created over the victim's tables while a member, and then ends the
/// membership.
fn with_views(db: &Db) -> Scene<'_> {
    let scene = Scene::set(db);
    db.add_migration("2", PAYMENTS);
    for tenant in [scene.victim, scene.thief] {
        run(&mut db.admin(), &format!("SELECT tenant_migrate('{tenant}')"));
    }
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{}', '{}')", scene.victim, scene.crook));
    run(
        &mut scene.thief(),
        "CREATE VIEW lair.pay AS TABLE tenant_victim.pay; CREATE VIEW lair.totals AS TABLE tenant_victim.totals;
         CREATE VIEW lair.own AS TABLE tenant_thief.pay;
         CREATE FUNCTION lair.of_pay() RETURNS TABLE (who text, amount int) LANGUAGE sql STABLE
             BEGIN ATOMIC SELECT who, amount FROM tenant_victim.pay; END;
         CREATE FUNCTION lair.of_totals() RETURNS TABLE (who text, amount int) LANGUAGE sql STABLE
             BEGIN ATOMIC SELECT who, amount FROM tenant_victim.totals; END;
         CREATE FUNCTION lair.of_own() RETURNS TABLE (who text, amount int) LANGUAGE sql STABLE
             BEGIN ATOMIC SELECT who, amount FROM tenant_thief.pay; END;
         CREATE FUNCTION lair.of_a_view() RETURNS TABLE (who text, amount int) LANGUAGE sql STABLE
             AS 'SELECT who, amount FROM lair.pay'",
    );
    run(&mut db.admin(), &format!("SELECT tenant_remove_member('{}', '{}')", scene.victim, scene.crook));
    run(&mut db.superuser(), "ANALYZE tenant_victim.pay, tenant_victim.totals, tenant_thief.pay");
    scene
}

fn printed_plans(db: &Db) {
    let scene = with_views(db);
    let print = "SET debug_print_plan = on; SET client_min_messages = log; ";
    let output = |query: &str| {
        let ran = db.psql(&scene.role, &["--no-psqlrc"], &format!("{print}{query}"));
        String::from_utf8_lossy(&ran.stderr).into_owned()
    };
    for query in [
        "SELECT FROM lair.pay WHERE who = 'big customer'",
        "SELECT FROM lair.totals WHERE who = 'big customer'",
        "SELECT (SELECT count(*) FROM lair.totals WHERE who = 'big customer')",
        "WITH w AS MATERIALIZED (SELECT * FROM lair.totals WHERE amount < 9) SELECT FROM w, lair.own",
        "UPDATE lair.pay SET amount = 0 WHERE who = 'big customer'",
        "INSERT INTO lair.own SELECT * FROM lair.pay WHERE amount < 9",
        "SELECT FROM lair.of_pay() WHERE who = 'big customer'",
        "SELECT FROM lair.of_totals() WHERE who = 'big customer'",
        "SELECT FROM lair.of_a_view() WHERE who = 'big customer'",
        "SELECT FROM lair.own WHERE EXISTS (SELECT FROM lair.of_pay() f WHERE f.amount < 9)",
    ] {
        let output = output(query);
        assert!(output.contains("permission denied for table"), "{query}: {output}");
        assert!(!output.contains("plan_rows"), "{query}: {output}");
    }
    for own in ["lair.own", "lair.of_own()"] {
        let output = output(&format!("SELECT FROM {own} WHERE who = 'big customer'"));
        assert!(output.contains("plan_rows 700"), "{own}: {output}");
    }
}

/// The schema still exists, because an open transaction holds a lock in it.
fn tables_of_a_deleted_tenant(db: &Db) {
    let scene = with_views(db);
    let mut thief = scene.thief();
    run(&mut thief, "BEGIN; PREPARE held AS SELECT FROM lair.own");
    run(&mut db.admin(), &format!("SELECT tenant_assign_admin('{}', '{}')", scene.thief, scene.owner));
    let mut former = scene.thief();
    run(&mut db.admin(), &format!("SELECT tenant_remove_member('{}', '{}')", scene.thief, scene.crook));
    assert_eq!(one::<String>(&mut db.admin(), "SELECT slug FROM tenant_delete($1)", &[&scene.thief]), "thief");
    let left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'tenant_thief'::regnamespace AND relname = 'pay'";
    assert_eq!(one::<i64>(&mut db.superuser(), left, &[]), 1);
    for query in ["SELECT FROM lair.own WHERE amount < 9", "SELECT FROM tenant_thief.pay"] {
        expect_error(former.query(&format!("EXPLAIN {query}"), &[]), "42501");
    }
    run(&mut thief, "COMMIT");
}

/// A pooled connection keeps the statement. The next user was never a member.
fn statements_prepared_by_another_user(db: &Db) {
    let scene = with_views(db);
    let mut client = scene.owner();
    run(&mut client, "PREPARE q (text) AS SELECT count(*) FROM tenant_victim.pay WHERE who = $1");
    assert_eq!(one::<i64>(&mut client, "EXECUTE q ('big customer')", &[]), 700);
    db.act_as(&mut client, Some(scene.crook));
    let probes = "SELECT coalesce(idx_scan, 0) + seq_scan FROM pg_stat_xact_all_tables WHERE relid = 'tenant_victim.pay'::regclass::oid";
    run(&mut client, "BEGIN; SAVEPOINT s");
    expect_error(client.query("EXECUTE q ('big customer')", &[]), "42501");
    run(&mut client, "ROLLBACK TO s");
    expect_error(client.query(probes, &[]), "42501");
    run(&mut client, "ROLLBACK");
    db.act_as(&mut client, Some(scene.owner));
    assert_eq!(one::<i64>(&mut client, "EXECUTE q ('big customer')", &[]), 700);
}

/// If a condition is close to the end of the histogram, the planner reads the largest value from the index.
fn index_probes_for_the_largest_value(db: &Db) {
    let scene = with_views(db);
    run(&mut db.superuser(), "INSERT INTO tenant_victim.pay VALUES ('new', 123456)");
    let probes = |thief: &mut Client, view: &str, table: &str| -> i64 {
        run(thief, "BEGIN; SAVEPOINT s");
        let _ = thief.batch_execute(&format!("SELECT FROM {view} WHERE amount < 200000"));
        run(thief, "ROLLBACK TO s");
        let sql = "SELECT coalesce(sum(s.idx_scan), 0)::bigint FROM pg_stat_xact_all_tables s JOIN pg_class c ON c.oid = s.relid
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'pay'";
        let probes = one(thief, sql, &[&table]);
        run(thief, "ROLLBACK");
        probes
    };
    let mut thief = scene.thief();
    assert_eq!(probes(&mut thief, "lair.pay", "tenant_victim"), 0);
    assert!(probes(&mut thief, "lair.own", "tenant_thief") > 0, "the planner probes its own index");
}

/// The planner inlines a function in FROM and plans its query. That query must not read statistics of the catalog
/// either.
fn statistics_of_the_catalog(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        "SELECT tenant_grant_instance_admin(gen_random_uuid()) FROM generate_series(1, 200); ANALYZE fluxbase_tenant.instance_admins",
    );
    let mut thief = scene.thief();
    run(
        &mut thief,
        "CREATE FUNCTION lair.admins() RETURNS SETOF fluxbase_tenant.instance_admins LANGUAGE sql STABLE
         AS 'SELECT * FROM fluxbase_tenant.instance_admins'",
    );
    let probes = |thief: &mut Client, id: &str| -> i64 {
        run(thief, "BEGIN");
        run(thief, &format!("SELECT FROM lair.admins() WHERE user_id < '{id}'"));
        let sql = "SELECT coalesce(sum(idx_scan), 0)::bigint FROM pg_stat_xact_all_tables
             WHERE relid = 'fluxbase_tenant.instance_admins'::regclass";
        let probes = one(thief, sql, &[]);
        run(thief, "ROLLBACK");
        probes
    };
    // Estimated column widths come from statistics too.
    let explain = "EXPLAIN SELECT slug, name, metadata FROM fluxbase_tenant.tenants";
    let width = |thief: &mut Client| -> String {
        let plan: Vec<String> = column(thief, explain, &[]);
        plan[0].split("width=").nth(1).unwrap_or_default().to_string()
    };
    let before = width(&mut thief);
    run(
        &mut db.superuser(),
        "SELECT tenant_create(repeat('long', 10), repeat('Long ', 20)); ANALYZE fluxbase_tenant.tenants",
    );
    assert_eq!(width(&mut thief), before);
    // Compares the middle of the histogram with both ends, where the planner would probe the index.
    let ends = ["00000000-0000-0000-0000-000000000001", "ffffffff-ffff-ffff-ffff-ffffffffffff"];
    let middle = probes(&mut thief, "80000000-0000-0000-0000-000000000000");
    for end in ends {
        assert_eq!(probes(&mut thief, end), middle, "{end}");
    }
}

/// Returns how many rows of a catalog table a call reads, according to the counters that the caller can see.
fn rows_read(client: &mut Client, table: &str, call: &str) -> i64 {
    // The counters add up over transactions until the session reports them, so only the difference counts.
    let sql = format!(
        "SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::bigint FROM pg_stat_xact_all_tables
         WHERE relid = 'fluxbase_tenant.{table}'::regclass"
    );
    run(client, "BEGIN");
    let before: i64 = one(client, &sql, &[]);
    run(client, "SAVEPOINT s");
    let _ = client.batch_execute(&format!("SELECT {call}"));
    run(client, "ROLLBACK TO s");
    let rows = one::<i64>(client, &sql, &[]) - before;
    run(client, "ROLLBACK");
    rows
}

fn slugs_by_row_counters(db: &Db) {
    let scene = Scene::set(db);
    let mut thief = scene.thief();
    rows_read(&mut thief, "tenants", "tenant_get_by_slug('warm')");
    for call in ["tenant_get_by_slug('{}')", "tenant_set_current('{}')"] {
        let of = |thief: &mut Client, slug: &str| rows_read(thief, "tenants", &call.replace("{}", slug));
        assert_eq!(of(&mut thief, "victim"), of(&mut thief, "nobody"), "{call}");
    }
    let random = "01920000-0000-7000-8000-000000000001";
    for call in ["tenant_has_access('{}')", "tenant_has_role('{}', 'tenant_member')", "tenant_get('{}')"] {
        let of = |thief: &mut Client, id: &str| rows_read(thief, "tenants", &call.replace("{}", id));
        assert_eq!(of(&mut thief, &scene.victim.to_string()), of(&mut thief, random), "{call}");
    }
    run(&mut scene.thief(), "SELECT tenant_set_current('thief')");
    assert_eq!(one::<String>(&mut scene.thief(), "SELECT name FROM tenant_get_by_slug('thief')", &[]), "thief");
}

/// The thief adds users to their own tenant. The rows read must not depend on a user's other memberships.
fn memberships_by_row_counters(db: &Db) {
    let scene = Scene::set(db);
    let (known, unknown) = (new_user(), new_user());
    run(
        &mut db.superuser(),
        &format!(
            "SELECT tenant_add_member((tenant_create('t' || n, 'T')).id, '{known}') FROM generate_series(1, 5) n;
             SELECT tenant_add_member('{}', gen_random_uuid()) FROM generate_series(1, 300); ANALYZE fluxbase_tenant.members",
            scene.thief
        ),
    );
    let mut thief = scene.thief();
    rows_read(&mut thief, "members", &format!("tenant_add_member('{}', '{}')", scene.thief, new_user()));
    for call in [
        "tenant_add_member('{}', '{user}')",
        "tenant_assign_admin('{}', '{user}')",
        "tenant_remove_member('{}', '{user}')",
    ] {
        let call = call.replace("{}", &scene.thief.to_string());
        let mut of = |user: Uuid| rows_read(&mut thief, "members", &call.replace("{user}", &user.to_string()));
        assert_eq!(of(known), of(unknown), "{call}");
    }
}
