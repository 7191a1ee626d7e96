//! A role without SET privilege on the identity settings cannot set the user or tenant by any method. Before the
//! library is loaded such a value is only a placeholder, which loading must discard.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{new_user, one, reached, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    set_before_the_library_is_loaded_is_discarded,
    set_after_the_library_is_loaded_is_refused,
    connection_options_are_discarded,
    alter_role_by_itself_has_no_effect,
    function_with_a_set_clause_has_no_effect,
    internal_settings_cannot_be_set,
    instance_settings_are_for_superusers,
    trusted_role_sets_the_user_in_every_way,
    lesser_role_gains_nothing_by_reset,
];

/// Returns the admin of a tenant with one row of data, and the tenant.
fn victim(db: &Db) -> (Uuid, Uuid) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('secret')");
    let user = new_user();
    (user, db.new_tenant("acme", user))
}

#[track_caller]
fn is_anonymous(client: &mut Client, tenant: Uuid) {
    assert_eq!(reached(client, "tenant_acme.notes"), 0);
    assert_eq!(one::<i64>(client, "SELECT count(*) FROM fluxbase_tenant.tenants", &[]), 0);
    assert_eq!(one::<Option<Uuid>>(client, "SELECT tenant_current_user_id()", &[]), None);
    assert!(!one::<bool>(client, "SELECT tenant_has_access($1)", &[&tenant]));
    expect_refusal(client.query("SELECT * FROM tenant_get($1)", &[&tenant]), "unauthenticated");
    expect_refusal(client.query("SELECT * FROM tenant_list_mine()", &[]), "unauthenticated");
    expect_refusal(client.query("SELECT * FROM tenant_set_current('acme')", &[]), "unauthenticated");
}

/// The settings that an attacker would set, and their values.
fn forgeries(user: Uuid, tenant: Uuid) -> [(&'static str, String); 3] {
    [
        ("fluxbase_tenant.user_id", user.to_string()),
        ("fluxbase_tenant.tenant_id", tenant.to_string()),
        ("fluxbase_tenant.user_id_setting", "app.forged".into()),
    ]
}

fn set_before_the_library_is_loaded_is_discarded(db: &Db) {
    let (user, tenant) = victim(db);
    for local in ["", "LOCAL "] {
        for (setting, value) in forgeries(user, tenant) {
            let mut client = db.user_role();
            run(&mut client, &format!("SET app.forged = '{user}'; BEGIN"));
            // The statement is refused or has no effect.
            let set = client.batch_execute(&format!("SAVEPOINT s; SET {local}{setting} = '{value}'"));
            if set.is_err() {
                run(&mut client, "ROLLBACK TO s");
            }
            assert_eq!(one::<Option<Uuid>>(&mut client, "SELECT tenant_current_user_id()", &[]), None);
            run(&mut client, "COMMIT");
            is_anonymous(&mut client, tenant);
        }
    }
    // A query on a protected table loads the library as well.
    for (setting, value) in forgeries(user, tenant) {
        let mut client = db.user_role();
        let _ = client.batch_execute(&format!("SET {setting} = '{value}'"));
        assert_eq!(reached(&mut client, "tenant_acme.notes"), 0);
        is_anonymous(&mut client, tenant);
    }
}

fn set_after_the_library_is_loaded_is_refused(db: &Db) {
    let (user, tenant) = victim(db);
    let mut client = db.user_role();
    is_anonymous(&mut client, tenant);
    for (setting, value) in forgeries(user, tenant) {
        for sql in [
            format!("SET {setting} = '{value}'"),
            format!("SET SESSION {setting} = '{value}'"),
            format!("BEGIN; SET LOCAL {setting} = '{value}'"),
            format!("SELECT set_config('{setting}', '{value}', false)"),
            format!("SELECT set_config('{setting}', '{value}', true)"),
            format!("UPDATE pg_settings SET setting = '{value}' WHERE name = '{setting}'"),
        ] {
            expect_error(client.batch_execute(&sql), "42501");
            let _ = client.batch_execute("ROLLBACK");
            is_anonymous(&mut client, tenant);
        }
    }
}

fn connection_options_are_discarded(db: &Db) {
    let (user, tenant) = victim(db);
    for (setting, value) in forgeries(user, tenant) {
        // The connection may also be refused.
        let options = format!("-c {setting}={value} -c app.forged={user}");
        if let Ok(mut client) = db.try_connect_as("app_user", &options) {
            is_anonymous(&mut client, tenant);
        }
    }
    db.configure("session_preload_libraries", "fluxbase_tenant");
    for (setting, value) in forgeries(user, tenant) {
        if let Ok(mut client) = db.try_connect_as("app_user", &format!("-c {setting}={value}")) {
            let shown: String = one(&mut client, "SELECT current_setting($1)", &[&setting]);
            assert_ne!(shown, value, "with the library preloaded, current_setting() shows it");
            is_anonymous(&mut client, tenant);
        }
    }
}

fn alter_role_by_itself_has_no_effect(db: &Db) {
    let (user, tenant) = victim(db);
    let role = format!("{}_forger", db.name());
    run(&mut db.superuser(), &format!("CREATE ROLE {role} LOGIN IN ROLE fluxbase_tenant_user"));
    for (setting, value) in forgeries(user, tenant) {
        for load_first in [false, true] {
            let mut client = db.connect_as(&role, "");
            if load_first {
                run(&mut client, "SELECT tenant_is_instance_admin()");
            }
            let alter = format!("ALTER ROLE {role} IN DATABASE {} SET {setting} = '{value}'", db.name());
            let done = client.batch_execute(&alter);
            assert!(!(load_first && done.is_ok()), "{setting}: not refused by the library");
            is_anonymous(&mut db.connect_as(&role, ""), tenant);
        }
    }
    run(&mut db.superuser(), &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// A function may have a SET clause, and every role can create functions in pg_temp.
fn function_with_a_set_clause_has_no_effect(db: &Db) {
    let (user, tenant) = victim(db);
    let function = |name: &str| {
        format!(
            "CREATE FUNCTION pg_temp.{name}() RETURNS bigint LANGUAGE plpgsql SET fluxbase_tenant.user_id = '{user}' AS
             $$ BEGIN RETURN (SELECT count(*) FROM fluxbase_tenant.tenants); END $$"
        )
    };
    let mut client = db.user_role();
    if client.batch_execute(&function("early")).is_ok()
        && let Ok(row) = client.query_one("SELECT pg_temp.early()", &[])
    {
        assert_eq!(row.get::<_, i64>(0), 0);
    }
    is_anonymous(&mut client, tenant);
    let result = client.query("SELECT pg_temp.early()", &[]);
    assert!(result.is_err(), "after loading, the setting is refused at the call");
    expect_error(client.batch_execute(&function("late")), "42501");
    is_anonymous(&mut client, tenant);
}

fn internal_settings_cannot_be_set(db: &Db) {
    let (_, tenant) = victim(db);
    for mut client in [db.user_role(), db.server(), db.admin()] {
        run(&mut client, "SELECT tenant_is_instance_admin()");
        for setting in ["choice", "search_paths"] {
            let sql = format!("SET fluxbase_tenant.{setting} = '{tenant}'");
            expect_error(client.batch_execute(&sql), "42501");
            expect_error(client.batch_execute(&format!("RESET fluxbase_tenant.{setting}")), "42501");
        }
        // The prefix is reserved: a misspelt name is an error, not a setting without effect.
        expect_error(client.batch_execute("SET fluxbase_tenant.userid = 'x'"), "42602");
    }
}

fn instance_settings_are_for_superusers(db: &Db) {
    for mut client in [db.user_role(), db.server(), db.admin()] {
        run(&mut client, "SELECT tenant_is_instance_admin()");
        for setting in ["create_policy", "schema_naming", "schema_prefix", "max_tenants", "tenant_id_setting"] {
            expect_error(client.batch_execute(&format!("SET fluxbase_tenant.{setting} = DEFAULT")), "42501");
        }
    }
    let mut superuser = db.superuser();
    run(&mut superuser, "SELECT tenant_is_instance_admin(); SET fluxbase_tenant.create_policy = 'authenticated'");
    expect_error(superuser.batch_execute("SET fluxbase_tenant.create_policy = 'anyone'"), "22023");
    expect_error(superuser.batch_execute("SET fluxbase_tenant.max_tenants = -1"), "22023");
}

fn trusted_role_sets_the_user_in_every_way(db: &Db) {
    let (user, _) = victim(db);
    let role = format!("{}_trusted", db.name());
    run(&mut db.superuser(), &format!("CREATE ROLE {role} LOGIN IN ROLE fluxbase_tenant_server"));
    let who = "SELECT tenant_current_user_id()";
    for load_first in [false, true] {
        for set in [
            format!("SET fluxbase_tenant.user_id = '{user}'"),
            format!("SELECT set_config('fluxbase_tenant.user_id', '{user}', false)"),
            format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{user}'"),
        ] {
            let mut client = db.connect_as(&role, "");
            if load_first {
                one::<Option<Uuid>>(&mut client, who, &[]);
            }
            run(&mut client, &set);
            assert_eq!(one::<Uuid>(&mut client, who, &[]), user, "{set}, loaded before: {load_first}");
            assert_eq!(reached(&mut client, "tenant_acme.notes"), 1);
        }
    }
    let mut client = db.connect_as(&role, &format!("-c fluxbase_tenant.user_id={user}"));
    assert_eq!(one::<Uuid>(&mut client, who, &[]), user);
    let alter = format!("ALTER ROLE {role} IN DATABASE {} SET fluxbase_tenant.user_id = '{user}'", db.name());
    run(&mut client, &alter);
    assert_eq!(one::<Uuid>(&mut db.connect_as(&role, ""), who, &[]), user);
    run(&mut db.superuser(), &format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

/// A back end runs its users' SQL as a role with fewer privileges. RESET leaves that role without an identity.
fn lesser_role_gains_nothing_by_reset(db: &Db) {
    let (user, tenant) = victim(db);
    let mut client = db.superuser();
    db.act_as(&mut client, Some(user));
    run(&mut client, "SET SESSION AUTHORIZATION app_user");
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 1);
    expect_error(client.batch_execute("RESET fluxbase_tenant.user_id"), "42501");
    expect_error(client.batch_execute("SET fluxbase_tenant.user_id = DEFAULT"), "42501");
    run(&mut client, "RESET ALL");
    is_anonymous(&mut client, tenant);
}
