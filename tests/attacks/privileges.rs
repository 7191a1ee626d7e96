//! What privileges would expose without further checks: materialized views and foreign tables of tenants, and views of
//! admin roles.

use crate::cases;
use crate::support::people::{one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    statistics_of_materialized_views_and_foreign_tables,
    members_read_materialized_views_by_every_path,
    bypassrls_roles_without_the_extension,
    views_and_functions_of_an_admin_role,
    code_that_runs_for_an_admin,
    members_only_read_foreign_tables,
];

const SUMMARY: &str = "CREATE TABLE people AS SELECT i AS id, (ARRAY['alice@', 'bob@'])[1 + i % 2] AS email FROM generate_series(1, 100) i;
     CREATE MATERIALIZED VIEW emails AS SELECT email FROM people";

fn world(db: &Db) -> Scene<'_> {
    let scene = Scene::set(db);
    db.add_migration("2", SUMMARY);
    let mut admin = db.connect_as("app_admin", "");
    for tenant in [scene.victim, scene.thief] {
        run(&mut admin, &format!("SELECT tenant_migrate('{tenant}')"));
    }
    run(
        &mut db.superuser(),
        &format!(
            "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
             CREATE TABLE seed (email text); INSERT INTO seed VALUES ('alice@'), ('bob@'); COPY seed TO '{0}/far.csv' CSV;
             CREATE FOREIGN TABLE tenant_victim.far (email text) SERVER files OPTIONS (filename '{0}/far.csv', format 'csv');
             CREATE FOREIGN TABLE tenant_thief.far (email text) SERVER files OPTIONS (filename '{0}/far.csv', format 'csv');
             ANALYZE tenant_victim.emails, tenant_thief.emails, tenant_victim.far, tenant_thief.far",
            db.cluster.folder().display()
        ),
    );
    scene
}

fn statistics_of_materialized_views_and_foreign_tables(db: &Db) {
    let scene = world(db);
    for relation in ["emails", "far"] {
        scene.assert_refused_on_victim_only(&format!("SELECT count(*) FROM {{}}.{relation}"));
    }
    let seen = "SELECT count(*) FROM pg_stats WHERE schemaname = 'tenant_victim' OR tablename IN ('emails', 'far')";
    assert_eq!(one::<i64>(&mut scene.thief(), seen, &[]), 0);
    // The views were created while their owner was a member, so no name is refused.
    run(
        &mut scene.thief(),
        "CREATE FUNCTION lair.look(a text, b text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE COST 1 AS
         $$ BEGIN RAISE EXCEPTION 'seen %', a USING ERRCODE = 'P0003'; END $$;
         CREATE OPERATOR lair.=== (FUNCTION = lair.look, LEFTARG = text, RIGHTARG = text, RESTRICT = scalarltsel)",
    );
    let made = "CREATE VIEW lair.emails AS TABLE tenant_victim.emails; CREATE VIEW lair.far AS TABLE tenant_victim.far";
    run(
        &mut db.superuser(),
        &format!("SET fluxbase_tenant.user_id = '{}'; SET SESSION AUTHORIZATION {}; {made}", scene.owner, scene.role),
    );
    for view in ["lair.emails", "lair.far"] {
        for statement in ["SELECT count(*)", "EXPLAIN SELECT 1"] {
            let query = format!("{statement} FROM {view} WHERE email OPERATOR(lair.===) 'zzz'");
            expect_error(scene.thief().batch_execute(&query), "42501");
        }
    }
    let home = "SELECT count(*) FROM tenant_thief.emails WHERE email OPERATOR(lair.===) 'zzz'";
    expect_error(scene.thief().batch_execute(home), "P0003");
}

fn members_read_materialized_views_by_every_path(db: &Db) {
    let scene = world(db);
    for mut client in [scene.owner(), db.as_service(scene.victim), db.admin()] {
        run(
            &mut client,
            "CREATE TEMP VIEW v AS TABLE tenant_victim.emails;
             CREATE FUNCTION pg_temp.inlined() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT email FROM tenant_victim.emails';
             CREATE FUNCTION pg_temp.own() RETURNS bigint LANGUAGE plpgsql AS
             'DECLARE n bigint; BEGIN SELECT count(*) INTO n FROM tenant_victim.emails; RETURN n; END'",
        );
        for query in [
            "SELECT count(*) FROM tenant_victim.emails",
            "SELECT count(*) FROM v",
            "SELECT count(*) FROM pg_temp.inlined()",
            "SELECT pg_temp.own()",
            "WITH e AS MATERIALIZED (TABLE tenant_victim.emails) SELECT count(*) FROM e",
            "SELECT count(*) FROM tenant_victim.people p WHERE EXISTS (SELECT FROM tenant_victim.emails e WHERE e.email = p.email)",
        ] {
            assert_eq!(one::<i64>(&mut client, query, &[]), 100, "{query}");
        }
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_victim.far", &[]), 2);
    }
    // A plan that was made for one user is checked for the next, and works again for the first.
    let mut client = db.server();
    run(&mut client, "SET plan_cache_mode = force_generic_plan");
    db.act_as(&mut client, Some(scene.owner));
    run(&mut client, "PREPARE q AS SELECT count(*) FROM tenant_victim.emails");
    db.act_as(&mut client, Some(scene.crook));
    expect_error(client.query("EXECUTE q", &[]), "42501");
    db.act_as(&mut client, Some(scene.owner));
    assert_eq!(one::<i64>(&mut client, "EXECUTE q", &[]), 100);
    db.act_as(&mut client, Some(scene.crook));
    expect_error(client.query("EXECUTE q", &[]), "42501");
}

/// PostgreSQL is told to check no privilege on these relations, so the extension does.
fn bypassrls_roles_without_the_extension(db: &Db) {
    let scene = world(db);
    let (seer, oid) = (format!("seer_of_{}", db.name()), "SELECT 'tenant_victim'::regnamespace::oid");
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE {seer} LOGIN BYPASSRLS; GRANT USAGE ON SCHEMA tenant_victim TO {seer};
             CREATE VIEW public.e AS TABLE tenant_victim.emails; ALTER VIEW e OWNER TO {seer}; GRANT SELECT ON e TO PUBLIC"
        ),
    );
    assert!(one::<u32>(&mut db.superuser(), oid, &[]) > 0);
    let mut client = db.connect_as(&seer, "");
    for query in [
        "SELECT count(*) FROM tenant_victim.emails",
        "SELECT count(*) FROM tenant_victim.far",
        "SELECT count(*) FROM e",
    ] {
        expect_error(client.query(query, &[]), "42501");
    }
    run(&mut db.superuser(), &format!("GRANT fluxbase_tenant_user TO {seer}"));
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_victim.emails", &[]), 100);
    drop(client);
    run(
        &mut db.superuser(),
        &format!("DROP VIEW e; DROP OWNED BY {seer}; REVOKE fluxbase_tenant_user FROM {seer}; DROP ROLE {seer}"),
    );
    drop(scene);
}

/// The session must belong to an instance admin. The owner of a view or function does not suffice.
fn views_and_functions_of_an_admin_role(db: &Db) {
    let scene = Scene::set(db);
    let boss = format!("boss_of_{}", db.name());
    let both = "SELECT body FROM tenant_victim.notes UNION ALL SELECT body FROM tenant_thief.notes";
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE {boss} LOGIN; GRANT fluxbase_tenant_admin TO {boss}; CREATE SCHEMA reports AUTHORIZATION {boss};
             GRANT USAGE ON SCHEMA reports TO PUBLIC; ALTER ROLE {} IN DATABASE {} RESET fluxbase_tenant.user_id",
            scene.role,
            db.name()
        ),
    );
    let mut admin = db.connect_as(&boss, "");
    run(
        &mut admin,
        &format!(
            "CREATE VIEW reports.everything AS {both}; GRANT SELECT ON reports.everything TO PUBLIC;
             CREATE FUNCTION reports.counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER
                 BEGIN ATOMIC SELECT count(*) FROM ({both}) x; END;
             CREATE FUNCTION reports.listed() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS
                 'BEGIN RETURN (SELECT count(*) FROM tenant_list()); END';
             CREATE FUNCTION reports.made() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS
                 $$ BEGIN RETURN (SELECT slug FROM tenant_create('made', 'Made')); END $$"
        ),
    );
    let queries = [
        "SELECT count(*) FROM reports.everything",
        "SELECT reports.counted()",
        "SELECT reports.listed()",
        "SELECT reports.made()",
    ];
    for mut client in [scene.thief(), db.user_role(), scene.owner()] {
        for query in queries {
            let refused = client.query(query, &[]);
            let code = refused.as_ref().err().and_then(|e| e.code()).map(|c| c.code().to_owned());
            assert!(matches!(code.as_deref(), Some("42501" | "28000")), "{query}: {refused:?}");
        }
    }
    for (query, expected) in queries.into_iter().zip([6, 6, 2]) {
        assert_eq!(one::<i64>(&mut admin, query, &[]), expected, "{query}");
    }
    assert_eq!(one::<String>(&mut admin, queries[3], &[]), "made");
    drop(admin);
    run(
        &mut db.superuser(),
        &format!(
            "SELECT tenant_delete(id) FROM tenant_list() WHERE slug = 'made'; DROP OWNED BY {boss} CASCADE; DROP ROLE {boss}"
        ),
    );
}

/// Untrusted code that an admin's command runs does not act as an instance admin.
fn code_that_runs_for_an_admin(db: &Db) {
    let scene = Scene::set(db);
    scene.plant_spies();
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.bait (n int); INSERT INTO lair.bait VALUES (1); CREATE INDEX ON lair.bait ((lair.quiet()::text))",
    );
    for command in ["ANALYZE lair.bait", "REINDEX TABLE lair.bait"] {
        scene.forget_spies();
        run(&mut db.superuser(), command);
        assert_eq!(scene.other_roles_of_spies(), [], "{command}");
    }
}

/// No role is granted any privilege on foreign tables. Members can read them, and write to them only if they are
/// granted that.
fn members_only_read_foreign_tables(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        &format!(
            "CREATE EXTENSION postgres_fdw; CREATE TABLE price_list (product text, price int); INSERT INTO price_list VALUES ('bread', 3);
             CREATE SERVER central FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{}', dbname '{}');
             CREATE USER MAPPING FOR PUBLIC SERVER central OPTIONS (user 'postgres', password_required 'false');
             GRANT USAGE ON FOREIGN SERVER central TO fluxbase_tenant_owner",
            db.socket_dir().display(),
            db.name()
        ),
    );
    db.configure("session_preload_libraries", "fluxbase_tenant");
    db.add_migration(
        "2",
        "CREATE FOREIGN TABLE prices (product text, price int) SERVER central OPTIONS (schema_name 'public', table_name 'price_list')",
    );
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.thief));
    let mut thief = scene.thief();
    for write in [
        "UPDATE tenant_thief.prices SET price = 0",
        "DELETE FROM tenant_thief.prices",
        "INSERT INTO tenant_thief.prices VALUES ('stone', 1)",
        "WITH w AS (UPDATE tenant_thief.prices SET price = 0 RETURNING 1) SELECT count(*) FROM w",
    ] {
        expect_error(thief.batch_execute(write), "42501");
    }
    assert_eq!(one::<i32>(&mut thief, "SELECT price FROM tenant_thief.prices", &[]), 3);
    run(&mut db.superuser(), "GRANT UPDATE ON tenant_thief.prices TO fluxbase_tenant_user");
    assert_eq!(thief.execute("UPDATE tenant_thief.prices SET price = 4", &[]).unwrap(), 1);
}
