//! Every statement that names another tenant's table is refused. The same statement works on the thief's own table.

use crate::cases;
use crate::support::people::{one, reached, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    reads_by_qualified_name,
    writes_by_qualified_name,
    merge,
    copy_out,
    copy_in,
    truncate,
    lock_table,
    lock_through_views,
    sequences,
    explain,
    views_over_views,
    definer_functions,
    rules_and_triggers,
    queries_passed_as_text,
    inheritance_and_partitions,
    structure_without_rows,
    policies_of_the_thiefs_tables,
    row_security_off,
    parallel_plans,
    moved_tables_and_renamed_schemas_expose_nothing,
    tables_joined_to_a_superusers_view,
];

fn reads_by_qualified_name(db: &Db) {
    let scene = Scene::set(db);
    for statement in [
        "SELECT * FROM {}.notes",
        "TABLE {}.notes",
        "SELECT FROM {}.notes WHERE false",
        "SELECT * FROM ONLY {}.notes n WHERE n.ctid = '(0,1)'",
        "WITH n AS MATERIALIZED (SELECT * FROM {}.notes) SELECT count(*) FROM n",
        "SELECT EXISTS (SELECT FROM {}.notes), (SELECT count(*) FROM tenant_thief.notes)",
        "SELECT n FROM tenant_thief.notes t LEFT JOIN LATERAL (SELECT * FROM {}.notes WHERE id = t.id) n ON true",
        "SELECT * FROM {}.notes TABLESAMPLE SYSTEM (100)",
        "SELECT * FROM {}.notes FOR SHARE",
        "CREATE TEMP TABLE loot AS SELECT * FROM {}.notes",
        "SELECT * INTO TEMP loot2 FROM {}.notes",
        "DO $$ BEGIN PERFORM * FROM {}.notes; END $$",
    ] {
        scene.assert_refused_on_victim_only(statement);
    }
}

fn writes_by_qualified_name(db: &Db) {
    let scene = Scene::set(db);
    for statement in [
        "BEGIN; INSERT INTO {}.notes (body) VALUES ('planted')",
        "BEGIN; INSERT INTO {}.notes (email) VALUES ('1@{}') ON CONFLICT (email) DO UPDATE SET body = 'x' RETURNING body",
        "BEGIN; INSERT INTO {}.notes (email) VALUES ('1@{}') ON CONFLICT DO NOTHING",
        "BEGIN; UPDATE {}.notes SET body = 'x' RETURNING *",
        "BEGIN; UPDATE tenant_thief.notes t SET body = n.body FROM {}.notes n WHERE n.id = t.id",
        "BEGIN; DELETE FROM {}.notes RETURNING *",
        "BEGIN; WITH gone AS (DELETE FROM {}.notes RETURNING *) INSERT INTO tenant_thief.notes (body) SELECT body FROM gone",
    ] {
        scene.assert_refused_on_victim_only(statement);
    }
}

fn merge(db: &Db) {
    let scene = Scene::set(db);
    scene.assert_refused_on_victim_only(
        "BEGIN; MERGE INTO {}.notes n USING (VALUES (1)) v (id) ON n.id = v.id WHEN MATCHED THEN DELETE
         WHEN NOT MATCHED THEN INSERT (body) VALUES ('x')",
    );
    scene.assert_refused_on_victim_only(
        "BEGIN; MERGE INTO tenant_thief.notes t USING {}.notes n ON n.id = t.id WHEN MATCHED THEN UPDATE SET body = n.body",
    );
}

fn copy_out(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    for from in ["tenant_victim.notes", "(SELECT * FROM tenant_victim.notes)", "tenant_victim.notes (body)"] {
        expect_error(client.copy_out(&format!("COPY {from} TO STDOUT")).map(drop), "42501");
        let home = from.replace("victim", "thief");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut client.copy_out(&format!("COPY {home} TO STDOUT")).unwrap(), &mut text)
            .unwrap();
        assert!(text.contains("tenant_thief secret"), "{home}: {text}");
    }
}

/// PostgreSQL refuses COPY FROM on tables with policies. The workaround with a temporary table works only for the
/// session's own tenant.
fn copy_in(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    let refused = client.batch_execute("COPY tenant_victim.notes FROM STDIN");
    assert!(refused.is_err());
    run(&mut client, "CREATE TEMP TABLE batch (body text); INSERT INTO batch VALUES ('planted')");
    expect_error(client.batch_execute("INSERT INTO tenant_victim.notes (body) SELECT body FROM batch"), "42501");
    run(&mut client, "INSERT INTO tenant_thief.notes (body) SELECT body FROM batch");
    assert_eq!(reached(&mut client, "tenant_thief.notes"), 4);
    scene.victim_is_unharmed();
}

/// TRUNCATE is granted to no role. If it is granted anyway, the check refuses it for another tenant's table.
fn truncate(db: &Db) {
    let scene = Scene::set(db);
    expect_error(scene.thief().batch_execute("TRUNCATE tenant_victim.notes"), "42501");
    run(&mut db.superuser(), "GRANT TRUNCATE ON tenant_victim.notes, tenant_thief.notes TO fluxbase_tenant_user");
    scene.assert_refused_on_victim_only("BEGIN; TRUNCATE {}.notes");
    expect_error(scene.thief().batch_execute("TRUNCATE tenant_thief.notes, tenant_victim.notes CASCADE"), "42501");
    scene.victim_is_unharmed();
}

fn lock_table(db: &Db) {
    let scene = Scene::set(db);
    for mode in ["ACCESS SHARE", "ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"] {
        scene.assert_refused_on_victim_only(&format!("BEGIN; LOCK TABLE {{}}.notes IN {mode} MODE NOWAIT"));
    }
    scene.assert_refused_on_victim_only("BEGIN; SELECT * FROM {}.notes FOR UPDATE");
}

/// LOCK TABLE on a view also locks the tables that the view reads.
fn lock_through_views(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    let views = |schema: &str| {
        format!(
            "CREATE VIEW lair.{schema} AS SELECT * FROM tenant_{schema}.notes;
             CREATE VIEW lair.{schema}_again AS SELECT * FROM (SELECT 1) one, lair.{schema}"
        )
    };
    run(&mut client, &views("thief"));
    expect_error(client.batch_execute(&views("victim")), "42501");
    // Creates the views while the role acts for a member.
    let role = &scene.role;
    let as_thief = format!("SET SESSION AUTHORIZATION {role}; {}", views("victim"));
    run(&mut db.superuser(), &format!("SET fluxbase_tenant.user_id = '{}'; {as_thief}", scene.owner));
    for view in ["victim", "victim_again"] {
        run(&mut client, "BEGIN");
        expect_error(client.batch_execute(&format!("LOCK TABLE lair.{view} IN ACCESS EXCLUSIVE MODE")), "42501");
        run(&mut client, "ROLLBACK");
    }
    run(&mut client, "BEGIN; LOCK TABLE lair.thief_again IN ACCESS EXCLUSIVE MODE");
    scene.victim_is_unharmed();
}

fn sequences(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    let oid: u32 = one(&mut db.superuser(), "SELECT 'tenant_victim.notes_id_seq'::regclass::oid", &[]);
    for call in [
        "nextval('tenant_victim.notes_id_seq')".to_string(),
        format!("nextval({oid}::regclass)"),
        format!("fluxbase_tenant.nextval({oid}::regclass)"),
        "setval('tenant_victim.notes_id_seq', 1)".to_string(),
        "currval('tenant_victim.notes_id_seq')".to_string(),
        "(TABLE tenant_victim.notes_id_seq)::text".replace("TABLE", "SELECT last_value FROM"),
    ] {
        let refused = client.query(&format!("SELECT {call}"), &[]);
        expect_error(refused, "42501");
    }
    let hidden = "SELECT last_value FROM pg_sequences WHERE schemaname = 'tenant_victim'";
    assert_eq!(one::<Option<i64>>(&mut client, hidden, &[]), None);
    // Serial columns work for members, and the thief's calls did not advance the sequence.
    let insert = |schema: &str| format!("INSERT INTO tenant_{schema}.notes (body) VALUES ('new') RETURNING id");
    assert_eq!(one::<i32>(&mut client, &insert("thief"), &[]), 4);
    assert_eq!(one::<i32>(&mut scene.owner(), &insert("victim"), &[]), 4);
    assert_eq!(one::<i64>(&mut client, "SELECT fluxbase_tenant.nextval('tenant_thief.notes_id_seq')", &[]), 5);
}

fn explain(db: &Db) {
    let scene = Scene::set(db);
    for options in ["", "ANALYZE", "(COSTS, VERBOSE)", "(ANALYZE, BUFFERS, FORMAT JSON)"] {
        scene.assert_refused_on_victim_only(&format!("EXPLAIN {options} SELECT * FROM {{}}.notes WHERE id < 10"));
    }
    scene.assert_refused_on_victim_only("DEALLOCATE ALL; PREPARE p AS SELECT * FROM {}.notes; EXPLAIN EXECUTE p");
}

fn views_over_views(db: &Db) {
    let scene = Scene::set(db);
    for options in ["", "WITH (security_invoker)", "WITH (security_barrier)"] {
        scene.assert_refused_on_victim_only(&format!(
            "CREATE OR REPLACE TEMP VIEW v {options} AS SELECT * FROM {{}}.notes;
             CREATE OR REPLACE TEMP VIEW w AS SELECT body FROM v; SELECT * FROM w; DROP VIEW v CASCADE"
        ));
    }
    scene.assert_refused_on_victim_only(
        "CREATE OR REPLACE TEMP VIEW v AS SELECT * FROM {}.notes; BEGIN; UPDATE v SET body = 'x'",
    );
}

/// The privileges of a function's owner are not an identity.
fn definer_functions(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        "CREATE FUNCTION lair.deep(schema text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS
         $$ DECLARE n bigint; BEGIN EXECUTE format('SELECT count(*) FROM %I.notes', schema) INTO n; RETURN n; END $$;
         ALTER FUNCTION lair.deep(text) OWNER TO app_server",
    );
    scene.assert_refused_on_victim_only("SELECT lair.deep('{}')");
    run(&mut db.superuser(), &format!("ALTER FUNCTION lair.deep(text) OWNER TO {}", Db::owner_role(scene.victim)));
    expect_error(scene.thief().batch_execute("SELECT lair.deep('tenant_victim')"), "42501");
    assert_eq!(one::<i64>(&mut scene.owner(), "SELECT lair.deep('tenant_victim')", &[]), 3);
}

fn rules_and_triggers(db: &Db) {
    let scene = Scene::set(db);
    scene.assert_refused_on_victim_only(
        "DROP TABLE IF EXISTS lair.bait; CREATE TABLE lair.bait (n int);
         CREATE RULE reach AS ON INSERT TO lair.bait DO ALSO DELETE FROM {}.notes WHERE false; INSERT INTO lair.bait VALUES (1)",
    );
    scene.assert_refused_on_victim_only(
        "DROP TABLE IF EXISTS lair.bait; CREATE TABLE lair.bait (n int);
         CREATE OR REPLACE FUNCTION lair.reach() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN UPDATE {}.notes SET body = body; RETURN NEW; END $$;
         CREATE TRIGGER reach BEFORE INSERT ON lair.bait FOR EACH ROW EXECUTE FUNCTION lair.reach();
         INSERT INTO lair.bait VALUES (1)",
    );
    // The thief cannot attach code to the victim's table either.
    for code in [
        "CREATE TRIGGER spy BEFORE INSERT ON tenant_victim.notes FOR EACH ROW EXECUTE FUNCTION lair.reach()",
        "CREATE RULE spy AS ON INSERT TO tenant_victim.notes DO ALSO SELECT 1",
        "CREATE POLICY spy ON tenant_victim.notes USING (true)",
        "CREATE INDEX ON tenant_victim.notes (body)",
        "CREATE FUNCTION tenant_victim.lower(text) RETURNS text LANGUAGE sql AS 'SELECT 1'",
    ] {
        expect_error(scene.thief().batch_execute(code), "42501");
    }
}

/// Functions of PostgreSQL that run a query passed as text.
fn queries_passed_as_text(db: &Db) {
    let scene = Scene::set(db);
    for statement in [
        "SELECT * FROM ts_stat('SELECT to_tsvector(body) FROM {}.notes')",
        "SELECT ts_rewrite('a & b'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery FROM {}.notes')",
    ] {
        scene.assert_refused_on_victim_only(statement);
    }
    // If PostgreSQL was built without libxml, these functions fail for every caller.
    let has_xml = db.superuser().query("SELECT query_to_xml('SELECT 1', true, true, '')", &[]).is_ok();
    for statement in [
        "SELECT query_to_xml('SELECT * FROM {}.notes', true, true, '')",
        "SELECT table_to_xml('{}.notes', true, true, '')",
    ] {
        if has_xml {
            scene.assert_refused_on_victim_only(statement);
        }
    }
}

fn inheritance_and_partitions(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    run(&mut client, "CREATE TABLE lair.parent (id int, body text, email text)");
    for statement in [
        "CREATE TABLE lair.child () INHERITS (tenant_victim.notes)",
        "ALTER TABLE tenant_victim.notes INHERIT lair.parent",
        "CREATE TABLE lair.part PARTITION OF tenant_victim.notes DEFAULT",
    ] {
        expect_error(client.batch_execute(statement), "42501");
    }
    run(&mut client, "CREATE TABLE lair.child () INHERITS (lair.parent); SELECT * FROM lair.parent");
    // If an administrator attaches tenants' tables to a common parent, each user can read only their own tenant's table
    // through it.
    run(
        &mut db.superuser(),
        "CREATE TABLE common (id int, body text, email text); GRANT SELECT ON common TO PUBLIC;
         ALTER TABLE tenant_thief.notes INHERIT common",
    );
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM common", &[]), 3);
    run(&mut db.superuser(), "ALTER TABLE tenant_victim.notes INHERIT common");
    expect_error(client.batch_execute("SELECT * FROM common"), "42501");
    expect_error(client.batch_execute("SELECT * FROM common WHERE id = 1"), "42501");
}

/// Every role can read names and types of columns in pg_catalog, but no rows.
fn structure_without_rows(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    expect_error(client.batch_execute("CREATE TABLE lair.copy (LIKE tenant_victim.notes)"), "42501");
    run(&mut client, "CREATE TABLE lair.copy (LIKE tenant_thief.notes)");
    expect_error(client.batch_execute("INSERT INTO lair.copy SELECT * FROM tenant_victim.notes"), "42501");
    run(&mut client, "INSERT INTO lair.copy SELECT * FROM tenant_thief.notes");
    assert_eq!(reached(&mut client, "lair.copy"), 3);
    expect_error(client.batch_execute("CREATE TABLE tenant_victim.mine (n int)"), "42501");
}

fn policies_of_the_thiefs_tables(db: &Db) {
    let scene = Scene::set(db);
    scene.assert_refused_on_victim_only(
        "DROP TABLE IF EXISTS lair.own; CREATE TABLE lair.own (n int); INSERT INTO lair.own VALUES (1);
         ALTER TABLE lair.own ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
         CREATE POLICY reach ON lair.own USING (EXISTS (SELECT FROM {}.notes)); SELECT * FROM lair.own",
    );
}

/// PostgreSQL raises an error wherever a policy would apply, for members too. The policy is never skipped.
fn row_security_off(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    run(&mut client, "SET row_security = off");
    expect_error(client.batch_execute("SELECT * FROM tenant_victim.notes"), "42501");
    expect_error(client.batch_execute("SELECT * FROM tenant_thief.notes"), "42501");
    run(&mut client, "RESET row_security; SELECT * FROM tenant_thief.notes");
}

fn parallel_plans(db: &Db) {
    let scene = Scene::set(db);
    let force = if db.major() < 16 { "force_parallel_mode" } else { "debug_parallel_query" };
    scene.assert_refused_on_victim_only(&format!(
        "SET {force} = regress; SET parallel_setup_cost = 0; SET min_parallel_table_scan_size = 0;
         SELECT count(*) FROM {{}}.notes"
    ));
}

/// The policy's function call is simplified to true only where the executor-start check covers the table.
fn moved_tables_and_renamed_schemas_expose_nothing(db: &Db) {
    let scene = Scene::set(db);
    run(&mut db.superuser(), "ALTER SCHEMA tenant_victim RENAME TO elsewhere");
    assert_eq!(reached(&mut scene.thief(), "elsewhere.notes"), 0);
    assert_eq!(reached(&mut scene.owner(), "elsewhere.notes"), 3);
    run(
        &mut db.superuser(),
        "ALTER SCHEMA elsewhere RENAME TO tenant_victim; ALTER TABLE tenant_victim.notes SET SCHEMA public",
    );
    let mut client = scene.thief();
    assert_eq!(reached(&mut client, "public.notes"), 0);
    expect_error(client.batch_execute("INSERT INTO public.notes (id, body) VALUES (99, 'x')"), "42501");
    let joined = "SELECT count(p.id) FROM tenant_thief.notes t LEFT JOIN public.notes p ON p.id = t.id";
    assert_eq!(one::<i64>(&mut client, joined, &[]), 0);
    assert_eq!(reached(&mut scene.owner(), "public.notes"), 3);
}

/// Relations that a superuser's view reads are exempt, but nothing else in the query is: neither a table that was moved
/// out of the schema nor a partition that a superuser attached elsewhere.
fn tables_joined_to_a_superusers_view(db: &Db) {
    let scene = Scene::set(db);
    db.migrate(scene.victim, "CREATE TABLE archive AS SELECT 'secret' AS body; CREATE TABLE part (k int, body text); INSERT INTO part VALUES (1, 'secret')");
    run(
        &mut db.superuser(),
        "ALTER TABLE tenant_victim.archive SET SCHEMA public; GRANT SELECT, UPDATE ON archive TO fluxbase_tenant_user;
         CREATE TABLE parts (k int, body text) PARTITION BY LIST (k); ALTER TABLE parts ATTACH PARTITION tenant_victim.part FOR VALUES IN (1);
         CREATE VIEW figures AS SELECT id FROM tenant_victim.notes; CREATE VIEW total AS SELECT count(*) FROM tenant_victim.notes;
         GRANT SELECT ON parts, figures, total TO fluxbase_tenant_user",
    );
    for query in [
        "SELECT count(a.body) FROM archive a LEFT JOIN figures f ON f.id = 0",
        "WITH u AS (UPDATE archive a SET body = 'x' FROM (SELECT count(*) FROM figures) f RETURNING 1) SELECT count(*) FROM u",
        "SELECT count(p.body) FROM parts p LEFT JOIN figures f ON f.id = 0",
        "SELECT count(q.body) FROM total t, (SELECT body FROM parts OFFSET 0) q",
    ] {
        let seen = scene.thief().query_one(query, &[]).map_or(0, |row| row.get::<_, i64>(0));
        assert_eq!(seen, 0, "{query}");
        assert_eq!(one::<i64>(&mut scene.thief(), "SELECT count FROM total", &[]), 3);
    }
    let own = "SELECT count(a.body) FROM archive a LEFT JOIN figures f ON f.id = 0";
    assert_eq!(one::<i64>(&mut scene.owner(), own, &[]), 1);
}
