//! The planner estimates queries on tenants' tables with the same statistics as on any other table.

use postgres::Client;

use crate::cases;
use crate::support::people::{column, new_user, reached, run};
use crate::support::{Db, expect_error};

cases![estimates_equal_those_without_a_policy, finer_policies_hide_statistics];

const SKEWED: &str = "
    CREATE TABLE skewed (id int PRIMARY KEY, body text, more jsonb);
    INSERT INTO skewed SELECT n, CASE WHEN n % 10 = 0 THEN 'rare ' || n ELSE 'common' END, jsonb_build_object('n', n % 3)
    FROM generate_series(1, 3000) n;
    CREATE VIEW skewed_seen AS SELECT * FROM skewed WHERE body LIKE 'rare%'";

/// The operators are not leakproof. With a policy in the query, the planner would ignore their statistics and use
/// defaults.
const ESTIMATED: &[&str] = &[
    "SELECT * FROM {s}.skewed WHERE body LIKE 'rare%'",
    "SELECT * FROM {s}.skewed WHERE upper(body) = 'COMMON' AND body LIKE 'com%' AND id < 500",
    "SELECT * FROM {s}.skewed WHERE more @> '{\"n\": 1}'",
    "SELECT * FROM {s}.skewed_seen WHERE id > 100",
    "SELECT * FROM (SELECT * FROM {s}.skewed OFFSET 0) s WHERE body LIKE 'rare%'",
    "WITH s AS MATERIALIZED (SELECT * FROM {s}.skewed WHERE body LIKE 'rare%') SELECT * FROM s",
    "SELECT * FROM generate_series(1, 10) g WHERE EXISTS (SELECT FROM {s}.skewed WHERE id = g AND body LIKE 'rare%')",
    "SELECT (SELECT count(*) FROM {s}.skewed WHERE body LIKE 'rare%' AND id > g) FROM generate_series(1, 10) g",
    "SELECT * FROM {s}.skewed a JOIN {s}.skewed b USING (body) WHERE a.body LIKE 'rare%'",
    "UPDATE {s}.skewed SET body = 'x' WHERE body LIKE 'rare%'",
    "DELETE FROM {s}.skewed WHERE body LIKE 'rare%' RETURNING (SELECT count(*) FROM {s}.skewed WHERE body LIKE 'com%')",
    "INSERT INTO {s}.skewed SELECT id + 5000, body FROM {s}.skewed WHERE body LIKE 'rare%'",
    "MERGE INTO {s}.skewed t USING {s}.skewed s ON t.id = s.id AND s.body LIKE 'rare%' WHEN MATCHED THEN DELETE",
];

/// Compares costs and row counts, in custom and generic plans. The library is preloaded: otherwise a session's first
/// query loads it during planning and is planned with the policy.
fn estimates_equal_those_without_a_policy(db: &Db) {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    let user = new_user();
    db.add_migration("1", SKEWED);
    let acme = db.new_tenant("acme", user);
    let mut superuser = db.superuser();
    run(&mut superuser, "ANALYZE tenant_acme.skewed");
    for mut client in [db.as_user(user), db.as_service(acme), db.admin()] {
        for command in ESTIMATED {
            let explain = format!("EXPLAIN {}", command.replace("{s}", "tenant_acme"));
            let shown: Vec<String> = column(&mut client, &explain, &[]);
            assert_eq!(shown, column::<String>(&mut superuser, &explain, &[]), "{command}");
        }
        run(&mut client, "PREPARE p (text) AS SELECT * FROM tenant_acme.skewed WHERE body LIKE $1 || '%'");
        for mode in ["force_custom_plan", "force_generic_plan"] {
            run(&mut client, &format!("SET plan_cache_mode = {mode}"));
            let shown = column::<String>(&mut client, "EXPLAIN EXECUTE p('rare')", &[]).join(" ");
            let guessed = shown.contains("rows=300 ");
            assert_eq!(guessed, mode == "force_custom_plan", "{shown}");
        }
    }
}

/// The planner's estimates do not reveal rows that a tenant's own policies hide.
fn finer_policies_hide_statistics(db: &Db) {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    let user = new_user();
    db.add_migration("1", SKEWED);
    let acme = db.new_tenant("acme", user);
    let mut member = db.as_user(user);
    run(&mut db.superuser(), "ANALYZE tenant_acme.skewed");
    let sql = "EXPLAIN SELECT * FROM tenant_acme.skewed WHERE body LIKE 'rare%'";
    let explain = |member: &mut Client| column::<String>(member, sql, &[]).join(" ");
    assert!(explain(&mut member).contains("rows=300 "));
    db.migrate(
        acme,
        "DROP POLICY tenant_access ON skewed; CREATE POLICY few ON skewed USING (id <> 7);
         CREATE POLICY others ON skewed AS RESTRICTIVE USING (id <> 10)",
    );
    let guessed = explain(&mut member);
    assert!(!guessed.contains("rows=300 ") && !guessed.contains("rows=299 "), "{guessed}");
    assert_eq!(reached(&mut member, "tenant_acme.skewed WHERE body LIKE 'rare%'"), 299);
    expect_error(member.batch_execute("INSERT INTO tenant_acme.skewed VALUES (7)"), "42501").message_has("skewed");
    expect_error(member.batch_execute("UPDATE tenant_acme.skewed SET id = 10 WHERE id = 11"), "42501")
        .message_has("others");
}
