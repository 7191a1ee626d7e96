//! A role keeps the identity that it was assigned. Nothing that it runs makes it another user or another role.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error, expect_refusal};

cases![
    other_roles_cannot_be_assumed,
    resets_restore_the_callers_identity,
    settings_cannot_be_forged_from_functions,
    savepoints_restore_the_identity,
    chosen_tenant_is_no_service_context,
    internal_functions_cannot_be_called,
    errors_preserve_role_path_and_identity,
    timeouts_preserve_role_and_path,
    catalog_cannot_be_written,
    management_requires_authorization,
];

#[track_caller]
fn is_still_the_thief(scene: &Scene, client: &mut Client) {
    assert_eq!(one::<String>(client, "SELECT current_user::text", &[]), scene.role);
    assert_eq!(one::<Uuid>(client, "SELECT public.tenant_current_user_id()", &[]), scene.crook);
    assert_eq!(reached(client, "tenant_victim.notes"), 0);
    assert_eq!(reached(client, "tenant_thief.notes"), 3);
}

fn other_roles_cannot_be_assumed(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    let owner = Db::owner_role(scene.victim);
    for role in [owner.as_str(), "fluxbase_tenant_owner", "fluxbase_tenant_admin", "fluxbase_tenant_server", "postgres"]
    {
        expect_error(client.batch_execute(&format!("SET ROLE {role}")), "42501");
        expect_error(client.batch_execute(&format!("SET SESSION AUTHORIZATION {role}")), "42501");
        expect_error(client.batch_execute(&format!("GRANT {role} TO {}", scene.role)), "42501");
        expect_error(client.batch_execute(&format!("ALTER TABLE lair.none OWNER TO {role}")), "42P01");
    }
    // The role can assume roles that it is a member of. The identity stays the same.
    run(&mut client, "SET ROLE fluxbase_tenant_user");
    assert_eq!(one::<Uuid>(&mut client, "SELECT tenant_current_user_id()", &[]), scene.crook);
    assert_eq!(reached(&mut client, "tenant_victim.notes"), 0);
    assert_eq!(reached(&mut client, "tenant_thief.notes"), 3);
    run(&mut client, "RESET ROLE");
    is_still_the_thief(&scene, &mut client);
}

fn resets_restore_the_callers_identity(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    for statement in [
        "RESET ALL",
        "DISCARD ALL",
        "RESET SESSION AUTHORIZATION",
        "BEGIN; RESET ALL; ROLLBACK",
        "SELECT tenant_set_current('thief'); SELECT tenant_reset_current()",
        "BEGIN; SELECT tenant_set_current('thief', true); COMMIT",
    ] {
        run(&mut client, statement);
        is_still_the_thief(&scene, &mut client);
    }
    expect_error(client.batch_execute("RESET fluxbase_tenant.user_id"), "42501");
    is_still_the_thief(&scene, &mut client);
}

fn settings_cannot_be_forged_from_functions(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    for (setting, value) in [("user_id", scene.owner), ("tenant_id", scene.victim), ("choice", scene.victim)] {
        let name = format!("fluxbase_tenant.{setting}");
        for statement in [
            format!("DO $$ BEGIN PERFORM set_config('{name}', '{value}', true); END $$"),
            format!("DO $$ BEGIN EXECUTE 'SET LOCAL {name} = ''{value}'''; END $$"),
            format!("CREATE FUNCTION lair.f() RETURNS int LANGUAGE sql SET {name} = '{value}' AS 'SELECT 1'"),
            format!(
                "CREATE FUNCTION lair.f() RETURNS int LANGUAGE sql SET {name} FROM CURRENT AS 'SELECT 1'; SELECT lair.f()"
            ),
            format!("ALTER ROLE {} SET {name} = '{value}'", scene.role),
            format!("ALTER ROLE ALL SET {name} = '{value}'"),
            format!("ALTER DATABASE {} SET {name} = '{value}'", db.name()),
        ] {
            expect_error(client.batch_execute(&statement), "42501");
        }
    }
    is_still_the_thief(&scene, &mut scene.thief());
    // A role with SET privilege can use the same statements.
    let mut server = db.server();
    run(
        &mut server,
        &format!("DO $$ BEGIN PERFORM set_config('fluxbase_tenant.user_id', '{}', false); END $$", scene.owner),
    );
    assert_eq!(reached(&mut server, "tenant_victim.notes"), 3);
}

fn savepoints_restore_the_identity(db: &Db) {
    let scene = Scene::set(db);
    let mut server = db.server();
    run(
        &mut server,
        &format!(
            "BEGIN; SET LOCAL fluxbase_tenant.user_id = '{}'; SAVEPOINT s; SET LOCAL fluxbase_tenant.user_id = '{}'",
            scene.crook, scene.owner
        ),
    );
    assert_eq!(one::<i64>(&mut server, "SELECT count(*) FROM tenant_victim.notes", &[]), 3);
    run(&mut server, "ROLLBACK TO s");
    run(&mut server, "SELECT FROM tenant_thief.notes");
    expect_error(server.batch_execute("SELECT FROM tenant_victim.notes"), "42501");
    run(&mut server, "ROLLBACK");
    assert_eq!(reached(&mut server, "tenant_thief.notes"), 0);
}

/// A service context has no user, so a tenant that a user chose must not become one when the user is reset.
fn chosen_tenant_is_no_service_context(db: &Db) {
    let scene = Scene::set(db);
    let mut server = db.server();
    run(
        &mut server,
        &format!(
            "BEGIN; SET LOCAL fluxbase_tenant.user_id = '{}'; SELECT tenant_set_current('thief'); COMMIT",
            scene.crook
        ),
    );
    assert_eq!(reached(&mut server, "tenant_thief.notes"), 0);
    assert_eq!(reached(&mut server, "tenant_victim.notes"), 0);
    expect_refusal(server.query("SELECT * FROM tenant_list_members()", &[]), "unauthenticated");
    // A back end that sets the tenant itself gets a service context.
    assert_eq!(reached(&mut db.as_service(scene.thief), "tenant_thief.notes"), 3);
}

fn internal_functions_cannot_be_called(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    for call in ["after_command()", "after_drop()", "catalog_changed()"] {
        expect_error(client.batch_execute(&format!("SELECT fluxbase_tenant.{call}")), "42501");
        let creation = format!(
            "CREATE TABLE lair.t (n int); CREATE TRIGGER t AFTER INSERT ON lair.t EXECUTE FUNCTION fluxbase_tenant.{call}"
        );
        assert!(client.batch_execute(&creation).is_err());
    }
    let mut superuser = db.superuser();
    assert!(!one::<bool>(
        &mut superuser,
        "SELECT has_function_privilege($1, 'fluxbase_tenant.accessible_support(internal)', 'EXECUTE')",
        &[&scene.role]
    ));
    // Superusers get an error, not a crash.
    for call in ["after_command()", "after_drop()", "catalog_changed()", "nextval(0)", "nextval('pg_class')"] {
        assert!(superuser.batch_execute(&format!("SELECT fluxbase_tenant.{call}")).is_err(), "{call}");
    }
    assert_eq!(one::<i32>(&mut superuser, "SELECT 1", &[]), 1);
    // The functions that policies call return only information about the caller.
    let mine: Vec<Uuid> = column(&mut client, "SELECT unnest(fluxbase_tenant.visible_tenant_ids())", &[]);
    assert_eq!(mine, [scene.thief]);
    let mine: Vec<Uuid> = column(&mut client, "SELECT unnest(fluxbase_tenant.accessible_tenant_ids())", &[]);
    assert_eq!(mine, [scene.thief]);
    let accessible = "SELECT fluxbase_tenant.accessible($1)";
    assert!(one::<bool>(&mut client, accessible, &[&scene.thief]));
    assert!(!one::<bool>(&mut client, accessible, &[&scene.victim]));
}

/// Calls every function of the extension inside blocks that catch the error. Most functions refuse these arguments.
fn errors_preserve_role_path_and_identity(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    run(&mut client, "SET search_path = lair, public");
    let calls: Vec<String> = column(
        &mut client,
        "SELECT format('SELECT * FROM %s.%I(%s)', p.pronamespace::regnamespace, p.proname, (
             SELECT string_agg(coalesce(quote_literal(CASE t WHEN 'text' THEN 'x' WHEN 'name' THEN 'x' WHEN 'uuid' THEN $1
                 WHEN 'boolean' THEN 'true' WHEN 'jsonb' THEN '{}' WHEN 'interval' THEN '1 day' WHEN 'integer' THEN '1'
                 WHEN 'regclass' THEN 'pg_class' END), 'NULL') || '::' || t, ', ' ORDER BY o)
             FROM unnest(p.proargtypes::regtype[]::text[]) WITH ORDINALITY AS a (t, o)))
         FROM pg_proc p WHERE p.probin LIKE '%fluxbase_tenant%' AND p.prorettype NOT IN ('trigger'::regtype,
             'event_trigger'::regtype, 'internal'::regtype) ORDER BY 1",
        &[&scene.victim.to_string()],
    );
    assert!(calls.len() > 40, "{calls:?}");
    let (mut done, mut refused) = (0, 0);
    for call in calls {
        let block = format!(
            "DO $do$ BEGIN EXECUTE $call${call}$call$; EXCEPTION WHEN insufficient_privilege OR no_data_found
            OR invalid_parameter_value OR invalid_authorization_specification OR object_not_in_prerequisite_state
            OR wrong_object_type OR active_sql_transaction OR unique_violation
            THEN PERFORM set_config('lair.refused', 'yes', false); END $do$"
        );
        run(&mut client, "SET lair.refused = ''");
        run(&mut client, &block);
        match one::<String>(&mut client, "SELECT current_setting('lair.refused')", &[]).as_str() {
            "yes" => refused += 1,
            _ => done += 1,
        }
        assert_eq!(one::<String>(&mut client, "SELECT current_setting('search_path')", &[]), "lair, public", "{call}");
        is_still_the_thief(&scene, &mut client);
        expect_error(client.batch_execute("CREATE ROLE mine SUPERUSER"), "42501");
    }
    assert!(done > 3 && refused > 20, "{done} done, {refused} refused");
}

/// The function waits for a lock and is cancelled while it runs with the extension's privileges.
fn timeouts_preserve_role_and_path(db: &Db) {
    let scene = Scene::set(db);
    let mut holder = db.superuser();
    run(&mut holder, "BEGIN; LOCK TABLE fluxbase_tenant.tenants, fluxbase_tenant.members IN EXCLUSIVE MODE");
    let mut client = scene.thief();
    run(&mut client, "SET statement_timeout = '50ms'; SET search_path = lair, public");
    for call in
        ["tenant_update(name => 'x')", "tenant_add_member(public.tenant_current_id(), public.tenant_current_id())"]
    {
        expect_error(client.batch_execute(&format!("SELECT * FROM {call}")), "57014");
        is_still_the_thief(&scene, &mut client);
        assert_eq!(one::<String>(&mut client, "SELECT current_setting('search_path')", &[]), "lair, public");
    }
    run(&mut holder, "ROLLBACK");
    run(&mut client, "SELECT * FROM tenant_update(name => 'x')");
}

fn catalog_cannot_be_written(db: &Db) {
    let scene = Scene::set(db);
    let friend = new_user();
    for mut client in [scene.thief(), scene.owner(), db.admin()] {
        for statement in [
            format!(
                "INSERT INTO fluxbase_tenant.members (id, tenant_id, user_id, role) VALUES (gen_random_uuid(), '{}', '{}', 'tenant_admin')",
                scene.victim, scene.crook
            ),
            format!("INSERT INTO fluxbase_tenant.instance_admins (user_id) VALUES ('{}')", scene.crook),
            "UPDATE fluxbase_tenant.tenants SET schema_name = 'tenant_victim' WHERE slug = 'thief'".into(),
            "DELETE FROM fluxbase_tenant.tenants".into(),
            "TRUNCATE fluxbase_tenant.members CASCADE".into(),
            "BEGIN; LOCK TABLE fluxbase_tenant.tenants IN EXCLUSIVE MODE".into(),
            "ALTER TABLE fluxbase_tenant.tenants DISABLE ROW LEVEL SECURITY".into(),
            "CREATE TABLE fluxbase_tenant.mine (n int)".into(),
            "DROP EXTENSION fluxbase_tenant".into(),
        ] {
            expect_error(client.batch_execute(&statement), "42501");
            let _ = client.batch_execute("ROLLBACK");
        }
    }
    // An authorized caller changes the catalog with the functions.
    let add = "SELECT user_id FROM tenant_add_member($1, $2)";
    assert_eq!(one::<Uuid>(&mut scene.owner(), add, &[&scene.victim, &friend]), friend);
}

fn management_requires_authorization(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    let (victim, crook) = (scene.victim, scene.crook);
    for call in [
        format!("tenant_add_member('{victim}', '{crook}')"),
        format!("tenant_assign_admin('{victim}', '{crook}')"),
        format!("tenant_update('{victim}', 'mine')"),
        format!("tenant_soft_delete('{victim}')"),
        format!("tenant_list_members('{victim}')"),
        format!("tenant_set_current('{victim}')"),
        "tenant_set_current('victim')".to_string(),
        format!("tenant_delete('{victim}')"),
        format!("tenant_suspend('{victim}')"),
        format!("tenant_repair('{victim}')"),
        format!("tenant_migrate('{victim}')"),
    ] {
        expect_refusal(client.query(&format!("SELECT * FROM {call}"), &[]), "not_found");
    }
    for call in [
        format!("tenant_grant_instance_admin('{crook}')"),
        "tenant_migration_add('9', 'x', 'SELECT 1')".to_string(),
        "tenant_list()".to_string(),
        "tenant_check()".to_string(),
        "tenant_create('x', 'x')".to_string(),
        "tenant_purge('0')".to_string(),
    ] {
        expect_refusal(client.query(&format!("SELECT * FROM {call}"), &[]), "forbidden");
    }
    let (friend, thief) = (new_user(), scene.thief);
    one::<Uuid>(&mut client, "SELECT user_id FROM tenant_add_member($1, $2)", &[&thief, &friend]);
    scene.victim_is_unharmed();
}
