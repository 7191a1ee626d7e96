//! What a thief could learn without reading rows: from error messages, statistics, leaky functions and operators, and
//! waits for locks.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::cases;
use crate::support::people::{one, reached, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error, expect_refusal};

cases![
    foreign_keys_to_the_victims_tables,
    unique_violations,
    cheap_leaky_functions,
    operators_evaluated_on_statistics,
    statistics_views,
    errors_do_not_reveal_whether_a_tenant_exists,
    outsiders_are_not_blocked_by_locks,
    rows_of_shared_tables,
    unique_keys_of_shared_tables,
    statement_texts_of_other_sessions,
];

fn foreign_keys_to_the_victims_tables(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    for reference in ["tenant_victim.notes (email)", "tenant_victim.notes", "fluxbase_tenant.tenants (id)"] {
        let create = format!("CREATE TABLE lair.child (email text REFERENCES {reference})");
        expect_error(client.batch_execute(&create), "42501");
    }
    // Foreign keys between the thief's own tables work.
    run(
        &mut client,
        "CREATE TABLE lair.parent (n int PRIMARY KEY); CREATE TABLE lair.child (n int REFERENCES lair.parent)",
    );
    expect_error(client.batch_execute("INSERT INTO lair.child VALUES (1)"), "23503");
}

fn unique_violations(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    let insert = |schema: &str, email: &str| format!("INSERT INTO tenant_{schema}.notes (email) VALUES ('{email}')");
    // The error is the same whether or not the value exists.
    let taken = expect_error(client.batch_execute(&insert("victim", "1@tenant_victim")), "42501").words();
    let free = expect_error(client.batch_execute(&insert("victim", "none")), "42501").words();
    assert_eq!(taken, free);
    expect_error(client.batch_execute(&insert("thief", "1@tenant_thief")), "23505");
    run(&mut client, &insert("thief", "none"));
}

/// The planner evaluates cheaper functions first. No row gets to them.
fn cheap_leaky_functions(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    run(
        &mut client,
        "CREATE FUNCTION lair.leak(row_text text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 0.0000001 AS
         $$ BEGIN RAISE EXCEPTION 'leaked %', row_text USING ERRCODE = 'raise_exception'; END $$",
    );
    for query in [
        "SELECT * FROM {}.notes n WHERE lair.leak(n.body)",
        "SELECT * FROM {}.notes n WHERE lair.leak(n::text) AND false IS NOT NULL",
        "SELECT * FROM {}.notes n JOIN generate_series(1, 2) g ON lair.leak(n.body || g)",
        "SELECT 1 / (id - id) FROM {}.notes",
        "SELECT body::int FROM {}.notes",
        "DELETE FROM {}.notes n WHERE lair.leak(n.body)",
    ] {
        expect_error(client.batch_execute(&query.replace("{}", "tenant_victim")), "42501");
        let at_home = client.batch_execute(&query.replace("{}", "tenant_thief")).unwrap_err();
        assert_ne!(at_home.code().unwrap().code(), "42501", "{query}: refused on their own table");
    }
}

/// The planner estimates by calling the operator's function on the most common values, before any check at execution.
fn operators_evaluated_on_statistics(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        "INSERT INTO tenant_victim.notes (body) SELECT 'common secret' FROM generate_series(1, 500);
         ANALYZE tenant_victim.notes; SELECT 1",
    );
    let mut client = scene.thief();
    run(
        &mut client,
        "CREATE FUNCTION lair.leak(text, text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
         $$ BEGIN PERFORM set_config('lair.leaked', $1, false); RETURN true; END $$;
         CREATE OPERATOR lair.<<< (LEFTARG = text, RIGHTARG = text, FUNCTION = lair.leak, RESTRICT = scalarltsel);
         CREATE OPERATOR lair.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = lair.leak, RESTRICT = eqsel);
         CREATE OPERATOR lair.~~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = lair.leak, RESTRICT = matchingsel)",
    );
    for operator in ["<<<", "===", "~~~"] {
        run(&mut client, "SET lair.leaked = ''");
        let query = format!("SELECT * FROM tenant_victim.notes WHERE body OPERATOR(lair.{operator}) 'x'");
        for statement in [
            query.clone(),
            format!("EXPLAIN {query}"),
            format!("CREATE OR REPLACE TEMP VIEW v AS {query}; SELECT * FROM v"),
        ] {
            expect_error(client.batch_execute(&statement), "42501");
            assert_eq!(one::<String>(&mut client, "SELECT current_setting('lair.leaked')", &[]), "", "{statement}");
        }
        run(&mut client, &format!("SELECT * FROM tenant_thief.notes WHERE body OPERATOR(lair.{operator}) 'x'"));
        assert_eq!(one::<String>(&mut client, "SELECT current_setting('lair.leaked')", &[]), "tenant_thief secret");
    }
    // A plan made while the user was a member is not used for the former member.
    let explain = "SET lair.leaked = ''; EXPLAIN SELECT * FROM tenant_victim.notes WHERE body OPERATOR(lair.===) 'x'";
    let leaked = "SELECT current_setting('lair.leaked')";
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{}', '{}')", scene.victim, scene.crook));
    run(&mut client, explain);
    assert_eq!(one::<String>(&mut client, leaked, &[]), "common secret", "a member may see it");
    run(&mut db.admin(), &format!("SELECT tenant_remove_member('{}', '{}')", scene.victim, scene.crook));
    run(&mut client, "SET lair.leaked = ''");
    expect_error(client.batch_execute(explain.split_once("; ").unwrap().1), "42501");
    assert_eq!(one::<String>(&mut client, leaked, &[]), "");
}

fn statistics_views(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        "CREATE STATISTICS tenant_victim.both ON body, email FROM tenant_victim.notes; ANALYZE tenant_victim.notes",
    );
    let mut client = scene.thief();
    for view in ["pg_stats WHERE", "pg_stats_ext WHERE", "pg_sequences WHERE last_value IS NOT NULL AND"] {
        let count = format!("SELECT count(*) FROM {view} schemaname = 'tenant_victim'");
        assert_eq!(one::<i64>(&mut client, &count, &[]), 0, "{view}");
        assert!(one::<i64>(&mut db.superuser(), &count, &[]) > 0, "{view}: statistics exist");
    }
    expect_error(client.batch_execute("SELECT * FROM pg_statistic"), "42501");
    expect_error(
        client.batch_execute("ANALYZE VERBOSE tenant_victim.notes; SELECT count(*) FROM pg_statistic"),
        "42501",
    );
}

fn errors_do_not_reveal_whether_a_tenant_exists(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    let unknown = Uuid::new_v4();
    for call in [
        "tenant_get($1)",
        "tenant_set_current($1::uuid)",
        "tenant_list_members($1)",
        "tenant_update($1, 'x')",
        "tenant_add_member($1, $1)",
        "tenant_soft_delete($1)",
        "tenant_delete($1)",
        "tenant_restore($1)",
        "tenant_migrate($1)",
        "tenant_leave($1)",
    ] {
        let sql = format!("SELECT * FROM {call}");
        let existing = expect_refusal(client.query(&sql, &[&scene.victim]), "not_found").words();
        let absent = expect_refusal(client.query(&sql, &[&unknown]), "not_found").words();
        assert_eq!(existing, absent, "{call}");
    }
    let by_slug = "SELECT * FROM tenant_get_by_slug($1)";
    let existing = expect_refusal(client.query(by_slug, &[&"victim"]), "not_found").words();
    let absent = expect_refusal(client.query(by_slug, &[&"nobody"]), "not_found").words();
    assert_eq!(existing, absent);
    assert!(!one::<bool>(&mut client, "SELECT tenant_has_access($1)", &[&scene.victim]));
    assert!(!one::<bool>(&mut client, "SELECT tenant_has_access($1)", &[&unknown]));
    assert_eq!(one::<Uuid>(&mut client, "SELECT id FROM tenant_get_by_slug('thief')", &[]), scene.thief);
}

/// Outsiders do not wait for the victim's locks, and the victim does not wait for theirs.
fn outsiders_are_not_blocked_by_locks(db: &Db) {
    let scene = Scene::set(db);
    let mut owner = scene.owner();
    run(
        &mut owner,
        &format!(
            "BEGIN; SELECT * FROM tenant_update('{}', 'busy'); UPDATE tenant_victim.notes SET body = 'x'",
            scene.victim
        ),
    );
    let mut client = scene.thief();
    run(&mut client, "SET lock_timeout = '200ms'");
    let started = Instant::now();
    let update = format!("SELECT * FROM tenant_update('{}', 'mine')", scene.victim);
    expect_refusal(client.query(&update, &[]), "not_found");
    expect_error(client.batch_execute("UPDATE tenant_victim.notes SET body = 'mine'"), "42501");
    assert!(started.elapsed() < Duration::from_millis(200));
    run(&mut owner, "ROLLBACK");
    // A member waits, as expected.
    let mut second = scene.owner();
    run(&mut owner, &format!("BEGIN; SELECT * FROM tenant_update('{}', 'busy')", scene.victim));
    run(&mut second, "SET lock_timeout = '100ms'");
    expect_error(second.query(&update, &[]), "55P03");
    run(&mut owner, "ROLLBACK");
    // A refused statement of the thief's releases its locks.
    run(&mut client, "BEGIN; SAVEPOINT s");
    expect_error(client.batch_execute("DELETE FROM tenant_victim.notes"), "42501");
    run(&mut client, "ROLLBACK TO s");
    run(&mut owner, "BEGIN; LOCK TABLE tenant_victim.notes IN ACCESS EXCLUSIVE MODE NOWAIT; ROLLBACK");
}

/// Every command and every key is limited to rows of the caller's tenants.
fn rows_of_shared_tables(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        "CREATE TABLE jobs (n int, body text); GRANT ALL ON jobs TO fluxbase_tenant_user; SELECT tenant_protect('jobs')",
    );
    for (mut client, body) in [(scene.owner(), "victim's"), (scene.thief(), "thief's")] {
        run(&mut client, &format!("INSERT INTO jobs VALUES (1, $$ {body} $$)"));
        assert_eq!(reached(&mut client, "jobs"), 1);
    }
    let mut client = scene.thief();
    let victim = scene.victim;
    for statement in [
        format!("INSERT INTO jobs VALUES (2, 'x', '{victim}')"),
        format!("INSERT INTO jobs VALUES (2, 'x', '{}')", Uuid::new_v4()),
        format!("UPDATE jobs SET tenant_id = '{victim}'"),
        format!(
            "MERGE INTO jobs USING (VALUES (7)) v (n) ON jobs.n = v.n WHEN NOT MATCHED THEN INSERT VALUES (7, 'x', '{victim}')"
        ),
    ] {
        expect_error(client.batch_execute(&statement), "42501");
    }
    assert_eq!(client.execute(&format!("UPDATE jobs SET body = 'x' WHERE tenant_id = '{victim}'"), &[]).unwrap(), 0);
    assert_eq!(client.execute(&format!("DELETE FROM jobs WHERE tenant_id = '{victim}'"), &[]).unwrap(), 0);
    assert_eq!(client.execute("UPDATE jobs SET body = 'changed'", &[]).unwrap(), 1);
    assert_eq!(one::<String>(&mut scene.owner(), "SELECT body FROM jobs", &[]), " victim's ");
}

/// A known limit, which tenant_check() reports: a unique key without the tenant column reveals that some tenant has the
/// value.
fn unique_keys_of_shared_tables(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        "CREATE TABLE accounts (email text UNIQUE); CREATE TABLE seats (email text);
         GRANT ALL ON accounts, seats TO fluxbase_tenant_user;
         SELECT tenant_protect('accounts'), tenant_protect('seats'); CREATE UNIQUE INDEX ON seats (tenant_id, email)",
    );
    let mut client = scene.thief();
    for table in ["accounts", "seats"] {
        run(&mut scene.owner(), &format!("INSERT INTO {table} VALUES ('her@example.com')"));
        let mine = client.batch_execute(&format!("INSERT INTO {table} VALUES ('her@example.com')"));
        if table == "seats" {
            mine.unwrap();
        } else {
            expect_error(mine, "23505");
        }
    }
    let warned =
        "SELECT count(*) FROM tenant_check() WHERE problem LIKE 'is unique across tenants%' AND object LIKE $1";
    assert_eq!(one::<i64>(&mut db.superuser(), warned, &[&"%accounts%"]), 1);
    assert_eq!(one::<i64>(&mut db.superuser(), warned, &[&"%seats%"]), 0);
}

/// Only the role that runs a statement can see its text or cancel it.
fn statement_texts_of_other_sessions(db: &Db) {
    let scene = Scene::set(db);
    let mut owner = scene.owner();
    run(&mut owner, "SELECT 'her secret', count(*) FROM tenant_victim.notes");
    let pid: i32 = one(&mut owner, "SELECT pg_backend_pid()", &[]);
    let mut client = scene.thief();
    let text = "SELECT query FROM pg_stat_activity WHERE pid = $1";
    assert_eq!(one::<String>(&mut client, text, &[&pid]), "<insufficient privilege>");
    expect_error(client.query("SELECT pg_terminate_backend($1)", &[&pid]), "42501");
    expect_error(client.query("SELECT pg_cancel_backend($1)", &[&pid]), "42501");
    let own: i32 = one(&mut client, "SELECT pg_backend_pid()", &[]);
    assert_eq!(one::<String>(&mut client, text, &[&own]), text);
}
