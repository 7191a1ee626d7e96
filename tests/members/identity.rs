//! Who is calling: a user, a service context, an instance admin, or an anonymous caller.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    a_user_is_a_user_whatever_the_database_role,
    an_admin_role_without_a_user_is_instance_admin,
    a_granted_user_is_instance_admin_everywhere,
    granting_is_for_instance_admins,
    revoked_instance_admin_is_a_user_again,
    service_context_is_limited_to_its_tenant,
    anonymous_caller_is_unauthenticated,
    a_choice_left_by_its_user_is_no_service_context,
    set_local_user_ends_with_the_transaction,
    identity_follows_savepoints_and_resets,
    set_role_decides_who_is_instance_admin,
    roles_without_a_grant_have_no_access,
];

const AM_I: &str = "SELECT tenant_is_instance_admin()";
const WHO: &str = "SELECT tenant_current_user_id()";

fn a_user_is_a_user_whatever_the_database_role(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    // app_admin is not allowed to set the user, so the superuser sets it and then switches to app_admin.
    let mut as_admin_role = db.superuser();
    db.act_as(&mut as_admin_role, Some(new_user()));
    run(&mut as_admin_role, "SET ROLE app_admin");
    let mut as_superuser = db.superuser();
    db.act_as(&mut as_superuser, Some(new_user()));
    for mut client in [as_admin_role, as_superuser] {
        assert!(!one::<bool>(&mut client, AM_I, &[]));
        expect_refusal(client.query("SELECT * FROM tenant_list()", &[]), "forbidden");
        expect_refusal(client.query("SELECT * FROM tenant_get($1)", &[&id]), "not_found");
        expect_refusal(client.query("SELECT * FROM tenant_create('b', 'B')", &[]), "forbidden");
        expect_refusal(client.query("SELECT * FROM tenant_grant_instance_admin(gen_random_uuid())", &[]), "forbidden");
    }
}

fn an_admin_role_without_a_user_is_instance_admin(db: &Db) {
    for mut client in [db.admin(), db.superuser()] {
        assert!(one::<bool>(&mut client, AM_I, &[]));
        assert_eq!(one::<Option<Uuid>>(&mut client, WHO, &[]), None);
        client.query("SELECT * FROM tenant_list()", &[]).unwrap();
    }
    // With a current tenant set, the role is still an instance admin, and not just the tenant's service context.
    let id = db.new_tenant("acme", new_user());
    let mut client = db.admin();
    run(&mut client, "SELECT tenant_set_current('acme')");
    assert!(one::<bool>(&mut client, AM_I, &[]));
    assert_eq!(one::<Uuid>(&mut client, "SELECT id FROM tenant_list()", &[]), id);
    // The empty string is the same as no user.
    let mut client = db.superuser();
    run(&mut client, "SET fluxbase_tenant.user_id = ''");
    assert!(one::<bool>(&mut client, AM_I, &[]));
}

fn a_granted_user_is_instance_admin_everywhere(db: &Db) {
    let (instance_admin, other) = (new_user(), new_user());
    let id = db.new_tenant("acme", other);
    let grant = "SELECT user_id, granted_by, created_at::text FROM tenant_grant_instance_admin($1)";
    let row = db.admin().query_one(grant, &[&instance_admin]).unwrap();
    assert_eq!((row.get(0), row.get::<_, Option<Uuid>>(1)), (instance_admin, None));
    let mut client = db.as_user(instance_admin);
    assert!(one::<bool>(&mut client, AM_I, &[]));
    let again = client.query_one(grant, &[&instance_admin]).unwrap();
    assert_eq!((again.get::<_, Option<Uuid>>(1), again.get::<_, &str>(2)), (None, row.get(2)), "the same row");

    assert_eq!(column::<Uuid>(&mut client, "SELECT id FROM tenant_list()", &[]), [id]);
    run(&mut client, &format!("SELECT tenant_update('{id}', 'By the instance admin')"));
    let made: Uuid = one(&mut client, "SELECT id FROM tenant_create('b', 'B')", &[]);
    assert_eq!(column::<Uuid>(&mut client, "SELECT user_id FROM tenant_list_admins($1)", &[&made]), [instance_admin]);
    let row = client.query_one(grant, &[&other]).unwrap();
    assert_eq!(row.get::<_, Option<Uuid>>(1), Some(instance_admin));
    let admins: Vec<Uuid> = column(&mut client, "SELECT user_id FROM tenant_list_instance_admins()", &[]);
    assert_eq!(admins, [instance_admin, other]);
}

fn granting_is_for_instance_admins(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    for (call, action) in [
        ("SELECT * FROM tenant_grant_instance_admin(gen_random_uuid())", "grant instance admin"),
        ("SELECT * FROM tenant_revoke_instance_admin(gen_random_uuid())", "revoke instance admin"),
        ("SELECT * FROM tenant_list_instance_admins()", "list instance admins"),
    ] {
        for mut client in [db.as_user(user), db.as_service(id)] {
            expect_refusal(client.query(call, &[]), "forbidden")
                .message(&format!("permission denied to {action}"))
                .hint_has("instance admin");
        }
        for mut client in [db.server(), db.user_role()] {
            expect_refusal(client.query(call, &[]), "unauthenticated");
        }
    }
}

fn revoked_instance_admin_is_a_user_again(db: &Db) {
    let instance_admin = new_user();
    let mut admin = db.admin();
    run(&mut admin, &format!("SELECT tenant_grant_instance_admin('{instance_admin}')"));
    let mut client = db.as_user(instance_admin);
    client.query("SELECT * FROM tenant_list()", &[]).unwrap();
    let revoke = "SELECT user_id FROM tenant_revoke_instance_admin($1)";
    assert_eq!(one::<Uuid>(&mut admin, revoke, &[&instance_admin]), instance_admin);
    assert!(!one::<bool>(&mut client, AM_I, &[]));
    expect_refusal(client.query("SELECT * FROM tenant_list()", &[]), "forbidden");
    expect_refusal(admin.query(revoke, &[&instance_admin]), "not_found").message("instance admin not found");
    for call in ["tenant_grant_instance_admin(NULL)", "tenant_revoke_instance_admin(NULL)"] {
        expect_refusal(admin.query(&format!("SELECT {call}"), &[]), "invalid_argument").message_has("user_id");
    }
}

fn service_context_is_limited_to_its_tenant(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('x')");
    let (mine, other) = (db.new_tenant("mine", new_user()), db.new_tenant("other", new_user()));
    let mut client = db.as_service(mine);
    assert!(!one::<bool>(&mut client, AM_I, &[]));
    run(&mut client, "SELECT tenant_update(name => 'Renamed')");
    run(&mut client, &format!("SELECT tenant_add_member('{mine}', gen_random_uuid())"));
    run(&mut client, "INSERT INTO tenant_mine.notes VALUES ('y')");
    assert_eq!(reached(&mut client, "tenant_mine.notes"), 2);
    assert_eq!(reached(&mut client, "tenant_other.notes"), 0);
    expect_refusal(client.query("SELECT * FROM tenant_get($1)", &[&other]), "not_found");
    for call in ["tenant_delete($1)", "tenant_suspend($1)", "tenant_repair($1)", "tenant_migrate($1)"] {
        expect_refusal(client.query(&format!("SELECT * FROM {call}"), &[&mine]), "forbidden");
    }
}

fn anonymous_caller_is_unauthenticated(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('x')");
    db.new_tenant("acme", new_user());
    for mut client in [db.server(), db.user_role()] {
        for call in [
            "tenant_get()",
            "tenant_get_by_slug('acme')",
            "tenant_list()",
            "tenant_list_mine()",
            "tenant_create('b', 'B')",
            "tenant_update(name => 'N')",
            "tenant_purge('1 day')",
            "tenant_migration_list()",
            "tenant_migration_status()",
            "tenant_migration_add('1', 'one', 'SELECT 1')",
            "tenant_set_current('acme')",
        ] {
            let refusal = expect_refusal(client.query(&format!("SELECT * FROM {call}"), &[]), "unauthenticated");
            refusal.message("no current user").hint_has("user_id");
        }
        assert_eq!(reached(&mut client, "tenant_acme.notes"), 0);
        assert!(!one::<bool>(&mut client, AM_I, &[]));
    }
}

#[track_caller]
fn is_anonymous(client: &mut Client, tenant: Uuid) {
    assert_eq!(one::<Option<Uuid>>(client, WHO, &[]), None);
    assert_eq!(one::<Option<Uuid>>(client, "SELECT tenant_current_id()", &[]), None);
    assert!(client.query("SELECT * FROM tenant_current()", &[]).unwrap().is_empty());
    expect_refusal(client.query("SELECT * FROM tenant_get($1)", &[&tenant]), "unauthenticated");
    expect_refusal(client.query("SELECT * FROM tenant_add_member($1, $1)", &[&tenant]), "unauthenticated");
    assert!(!one::<bool>(client, "SELECT tenant_has_access($1)", &[&tenant]));
    assert_eq!(reached(client, "tenant_acme.notes"), 0);
}

/// As through a transaction pooler, with SET LOCAL for the user but a tenant chosen for the session. After COMMIT the
/// caller is anonymous.
fn a_choice_left_by_its_user_is_no_service_context(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('x')");
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let mut client = db.server();
    run(&mut client, &format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{user}'"));
    run(&mut client, "SELECT tenant_set_current('acme', is_local => false)");
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 1);
    run(&mut client, "COMMIT");
    is_anonymous(&mut client, id);

    // The next user of the connection has no access either, and the caller after that user is anonymous too.
    run(&mut client, &format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{}'", new_user()));
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 0);
    run(&mut client, "COMMIT; SET fluxbase_tenant.user_id = ''");
    is_anonymous(&mut client, id);
    run(&mut client, "RESET fluxbase_tenant.user_id");
    is_anonymous(&mut client, id);

    // A tenant that the back end sets itself is a service context.
    run(&mut client, &format!("SELECT tenant_reset_current(); SET fluxbase_tenant.tenant_id = '{id}'"));
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 1);
}

fn set_local_user_ends_with_the_transaction(db: &Db) {
    let user = new_user();
    db.new_tenant("acme", user);
    for end in ["COMMIT", "ROLLBACK"] {
        let mut client = db.server();
        run(&mut client, &format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{user}'"));
        assert_eq!(one::<Uuid>(&mut client, WHO, &[]), user);
        run(&mut client, end);
        assert_eq!(one::<Option<Uuid>>(&mut client, WHO, &[]), None);
        let set = "SELECT set_config('fluxbase_tenant.user_id', $1, true)";
        one::<String>(&mut client, set, &[&user.to_string()]);
        assert_eq!(one::<Option<Uuid>>(&mut client, WHO, &[]), None, "a local setting ends with its statement");
    }
}

fn identity_follows_savepoints_and_resets(db: &Db) {
    let (a, b) = (new_user(), new_user());
    let mut client = db.as_user(a);
    run(&mut client, &format!("BEGIN; SAVEPOINT s; SET fluxbase_tenant.user_id = '{b}'"));
    assert_eq!(one::<Uuid>(&mut client, WHO, &[]), b);
    run(&mut client, "ROLLBACK TO s");
    assert_eq!(one::<Uuid>(&mut client, WHO, &[]), a);
    run(&mut client, &format!("SET fluxbase_tenant.user_id = '{b}'; RELEASE s; COMMIT"));
    assert_eq!(one::<Uuid>(&mut client, WHO, &[]), b);
    for reset in ["RESET ALL", "DISCARD ALL", "RESET fluxbase_tenant.user_id", "SET fluxbase_tenant.user_id = ''"] {
        db.act_as(&mut client, Some(a));
        assert_eq!(one::<Uuid>(&mut client, WHO, &[]), a);
        run(&mut client, reset);
        assert_eq!(one::<Option<Uuid>>(&mut client, WHO, &[]), None, "{reset}");
    }
}

fn set_role_decides_who_is_instance_admin(db: &Db) {
    let mut client = db.superuser();
    run(&mut client, "SET ROLE app_server");
    assert!(!one::<bool>(&mut client, AM_I, &[]));
    run(&mut client, "SET ROLE app_admin");
    assert!(one::<bool>(&mut client, AM_I, &[]));
}

fn roles_without_a_grant_have_no_access(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text)");
    db.new_tenant("acme", new_user());
    let mut outsider = db.outsider();
    for sql in [
        "SELECT * FROM tenant_get()",
        "SELECT tenant_is_instance_admin()",
        "SELECT * FROM tenant_create('b', 'B')",
        "SELECT fluxbase_tenant.visible_tenant_ids()",
        "SELECT * FROM fluxbase_tenant.tenants",
        "SELECT * FROM tenant_acme.notes",
    ] {
        expect_error(outsider.query(sql, &[]), "42501");
    }
    let public: Vec<String> = column(
        &mut db.superuser(),
        "SELECT p.oid::regprocedure::text FROM pg_proc p
         JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
         JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'fluxbase_tenant'
         WHERE has_function_privilege('app_outsider', p.oid, 'EXECUTE')",
        &[],
    );
    assert!(public.is_empty(), "granted to PUBLIC: {public:?}");
}
