//! Deleting, restoring, suspending and purging tenants: who is allowed to, and what remains.

use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::{Db, expect_refusal};

cases![
    soft_delete_keeps_the_data_and_hides_the_tenant,
    soft_delete_can_be_repeated_by_admins_only,
    soft_delete_without_an_id_requires_a_chosen_tenant,
    soft_delete_frees_the_slug,
    restore_restores_data_and_members,
    restore_refuses_a_reused_slug,
    restore_is_by_instance_admins_and_of_deleted_tenants,
    suspended_tenant_is_accessible_to_instance_admins_only,
    restore_keeps_the_suspension,
    delete_leaves_nothing,
    delete_is_for_instance_admins,
    delete_keeps_a_role_that_owns_elsewhere,
    purge_deletes_only_tenants_past_the_age,
    purge_never_deletes_an_active_tenant,
];

const TABLE: &str = "CREATE TABLE notes (id int PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'kept')";

fn with_notes(db: &Db, user: Uuid) -> Uuid {
    db.add_migration("1", TABLE);
    db.new_tenant("acme", user)
}

fn soft_delete_keeps_the_data_and_hides_the_tenant(db: &Db) {
    let user = new_user();
    let id = with_notes(db, user);
    let mut client = db.as_user(user);
    let row = client.query_one("SELECT status, deleted_at IS NOT NULL FROM tenant_soft_delete($1)", &[&id]).unwrap();
    assert_eq!((row.get(0), row.get(1)), ("deleted", true));

    expect_refusal(client.query("SELECT * FROM tenant_get($1)", &[&id]), "not_found");
    assert!(!one::<bool>(&mut client, "SELECT tenant_has_access($1)", &[&id]));
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 0, "only instance admins can access its data");
    assert_eq!(reached(&mut db.superuser(), "tenant_acme.notes"), 1);
    assert_eq!(one::<String>(&mut db.admin(), "SELECT status FROM tenant_get($1)", &[&id]), "deleted");
}

fn soft_delete_can_be_repeated_by_admins_only(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let member = db.new_member(id);
    let delete = "SELECT deleted_at::text FROM tenant_soft_delete($1)";
    expect_refusal(db.as_user(member).query(delete, &[&id]), "forbidden").hint_has("tenant_admin");
    let first: String = one(&mut db.as_user(user), delete, &[&id]);
    for mut client in [db.as_user(user), db.as_service(id), db.admin()] {
        assert_eq!(one::<String>(&mut client, delete, &[&id]), first);
    }
    expect_refusal(db.as_user(member).query(delete, &[&id]), "not_found");
    expect_refusal(db.server().query(delete, &[&id]), "unauthenticated");
}

/// The default tenant, which comes from the oldest membership, is good enough for reading and not for deleting.
fn soft_delete_without_an_id_requires_a_chosen_tenant(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let mut client = db.as_user(user);
    expect_refusal(client.query("SELECT * FROM tenant_soft_delete()", &[]), "not_found")
        .message("current tenant not found");
    run(&mut client, "SELECT tenant_set_current('acme')");
    assert_eq!(one::<Uuid>(&mut client, "SELECT id FROM tenant_soft_delete()", &[]), id);
    for function in ["tenant_delete()", "tenant_restore()", "tenant_suspend()", "tenant_purge()", "tenant_repair()"] {
        let result = db.admin().query(&format!("SELECT * FROM {function}"), &[]);
        crate::support::expect_error(result, "42883");
    }
}

fn soft_delete_frees_the_slug(db: &Db) {
    let old = db.new_tenant("acme", new_user());
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{old}')"));
    expect_refusal(db.admin().query("SELECT * FROM tenant_get_by_slug('acme')", &[]), "not_found");
    let new = db.new_tenant("acme", new_user());
    assert_eq!(one::<Uuid>(&mut db.admin(), "SELECT id FROM tenant_get_by_slug('acme')", &[]), new);
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{new}')"));
    db.new_tenant("acme", new_user());
    assert_eq!(column::<Uuid>(&mut db.admin(), "SELECT id FROM tenant_list_deleted()", &[]), [old, new]);
}

fn restore_restores_data_and_members(db: &Db) {
    let user = new_user();
    let id = with_notes(db, user);
    let member = db.new_member(id);
    let mut admin = db.admin();
    run(&mut admin, &format!("SELECT tenant_soft_delete('{id}')"));
    let row = admin.query_one("SELECT status, deleted_at IS NULL FROM tenant_restore($1)", &[&id]).unwrap();
    assert_eq!((row.get(0), row.get(1)), ("active", true));
    for user in [user, member] {
        let body: String = one(&mut db.as_user(user), "SELECT body FROM tenant_acme.notes", &[]);
        assert_eq!(body, "kept");
    }
    assert!(column::<Uuid>(&mut admin, "SELECT id FROM tenant_list_deleted()", &[]).is_empty());
}

fn restore_refuses_a_reused_slug(db: &Db) {
    let old = db.new_tenant("acme", new_user());
    let mut admin = db.admin();
    run(&mut admin, &format!("SELECT tenant_soft_delete('{old}')"));
    let new = db.new_tenant("acme", new_user());
    let refusal = expect_refusal(admin.query("SELECT * FROM tenant_restore($1)", &[&old]), "conflict");
    assert_eq!(refusal.message("slug \"acme\" is taken").words().sqlstate, "23505");
    run(&mut admin, &format!("SELECT tenant_delete('{new}')"));
    assert_eq!(one::<Uuid>(&mut admin, "SELECT id FROM tenant_restore($1)", &[&old]), old);
}

fn restore_is_by_instance_admins_and_of_deleted_tenants(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let restore = "SELECT * FROM tenant_restore($1)";
    expect_refusal(db.admin().query(restore, &[&id]), "conflict").hint_has("tenant_list_deleted()");
    expect_refusal(db.as_user(user).query(restore, &[&id]), "forbidden");
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{id}')"));
    expect_refusal(db.as_user(user).query(restore, &[&id]), "not_found");
    expect_refusal(db.as_service(id).query(restore, &[&id]), "not_found");
    expect_refusal(db.server().query(restore, &[&id]), "unauthenticated");
    expect_refusal(db.admin().query(restore, &[&Uuid::new_v4()]), "not_found");
}

fn suspended_tenant_is_accessible_to_instance_admins_only(db: &Db) {
    let user = new_user();
    let id = with_notes(db, user);
    let suspend = "SELECT status FROM tenant_suspend($1)";
    expect_refusal(db.as_user(user).query(suspend, &[&id]), "forbidden").message_has("suspend a tenant");
    expect_refusal(db.as_service(id).query(suspend, &[&id]), "forbidden");
    expect_refusal(db.server().query(suspend, &[&id]), "unauthenticated");
    let mut admin = db.admin();
    for _ in 0..2 {
        assert_eq!(one::<String>(&mut admin, suspend, &[&id]), "suspended");
    }

    let mut client = db.as_user(user);
    assert_eq!(one::<String>(&mut client, "SELECT status FROM tenant_get($1)", &[&id]), "suspended");
    for closed in [
        "SELECT tenant_set_current($1::uuid)",
        "SELECT tenant_update($1, 'New')",
        "SELECT tenant_add_member($1, gen_random_uuid())",
    ] {
        expect_refusal(client.query(closed, &[&id]), "conflict").hint_has("tenant_resume()");
        expect_refusal(db.as_service(id).query(closed, &[&id]), "conflict");
        db.admin().query(closed, &[&id]).unwrap();
    }
    for mut client in [db.as_user(user), db.as_service(id)] {
        assert!(!one::<bool>(&mut client, "SELECT tenant_has_access($1)", &[&id]));
        assert!(!one::<bool>(&mut client, "SELECT tenant_has_role($1, 'tenant_member')", &[&id]));
        assert_eq!(reached(&mut client, "tenant_acme.notes"), 0);
    }
    assert_eq!(reached(&mut admin, "tenant_acme.notes"), 1);

    expect_refusal(client.query("SELECT tenant_resume($1)", &[&id]), "forbidden");
    expect_refusal(db.as_service(id).query("SELECT tenant_resume($1)", &[&id]), "forbidden");
    for _ in 0..2 {
        assert_eq!(one::<String>(&mut admin, "SELECT status FROM tenant_resume($1)", &[&id]), "active");
    }
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 1);
}

fn restore_keeps_the_suspension(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    let mut admin = db.admin();
    run(&mut admin, &format!("SELECT tenant_suspend('{id}'); SELECT tenant_soft_delete('{id}')"));
    for change in ["SELECT tenant_suspend($1)", "SELECT tenant_resume($1)"] {
        expect_refusal(admin.query(change, &[&id]), "conflict").hint_has("tenant_restore()");
    }
    assert_eq!(one::<String>(&mut admin, "SELECT status FROM tenant_restore($1)", &[&id]), "suspended");
}

fn delete_leaves_nothing(db: &Db) {
    let id = with_notes(db, new_user());
    db.new_member(id);
    assert_eq!(db.traces(id, "tenant_acme"), 3);
    let deleted: Uuid = one(&mut db.admin(), "SELECT id FROM tenant_delete($1)", &[&id]);
    assert_eq!(deleted, id);
    assert_eq!(db.traces(id, "tenant_acme"), 0);
    for table in ["members", "applied_migrations"] {
        let sql = format!("SELECT count(*) FROM fluxbase_tenant.{table}");
        assert_eq!(one::<i64>(&mut db.superuser(), &sql, &[]), 0, "{table}");
    }
    expect_refusal(db.admin().query("SELECT * FROM tenant_delete($1)", &[&id]), "not_found");
    let again = db.new_tenant("acme", new_user());
    assert_eq!(db.schema_of(again), "tenant_acme");
}

fn delete_is_for_instance_admins(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let delete = "SELECT * FROM tenant_delete($1)";
    expect_refusal(db.as_user(user).query(delete, &[&id]), "forbidden").hint_has("instance admin");
    expect_refusal(db.as_service(id).query(delete, &[&id]), "forbidden");
    expect_refusal(db.server().query(delete, &[&id]), "unauthenticated");
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{id}')"));
    expect_refusal(db.as_user(user).query(delete, &[&id]), "not_found");
    // A soft-deleted tenant can be deleted as well.
    db.admin().query_one(delete, &[&id]).unwrap();
}

fn delete_keeps_a_role_that_owns_elsewhere(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    let other = Db::empty(&db.cluster);
    let owner = Db::owner_role(id);
    run(&mut other.superuser(), &format!("CREATE SCHEMA stray AUTHORIZATION {owner}"));
    db.admin().query_one("SELECT * FROM tenant_delete($1)", &[&id]).unwrap();
    assert_eq!(db.traces(id, "tenant_acme"), 1, "only the role remains");
    run(&mut other.superuser(), &format!("DROP OWNED BY {owner}; DROP ROLE {owner}"));
}

fn purge_deletes_only_tenants_past_the_age(db: &Db) {
    let (old, young) = (db.new_tenant("old", new_user()), db.new_tenant("young", new_user()));
    let mut admin = db.admin();
    run(&mut admin, &format!("SELECT tenant_soft_delete('{old}')"));
    run(&mut admin, &format!("SELECT tenant_soft_delete('{young}')"));
    let backdate = "UPDATE fluxbase_tenant.tenants SET deleted_at = now() - interval '31 days' WHERE slug = 'old'";
    run(&mut db.superuser(), backdate);
    let purge = "SELECT id FROM tenant_purge('30 days')";
    expect_refusal(db.as_user(new_user()).query(purge, &[]), "forbidden");
    expect_refusal(db.as_service(old).query(purge, &[]), "forbidden");
    expect_refusal(db.server().query(purge, &[]), "unauthenticated");
    assert_eq!(column::<Uuid>(&mut admin, purge, &[]), [old]);
    assert!(column::<Uuid>(&mut admin, purge, &[]).is_empty());
    assert_eq!((db.traces(old, "tenant_old"), db.traces(young, "tenant_young")), (0, 3));
    assert_eq!(column::<Uuid>(&mut admin, "SELECT id FROM tenant_purge('0')", &[]), [young]);
}

fn purge_never_deletes_an_active_tenant(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    for age in ["0", "-1 year", "-1000 years"] {
        let purge = format!("SELECT id FROM tenant_purge('{age}')");
        assert!(column::<Uuid>(&mut db.admin(), &purge, &[]).is_empty());
    }
    expect_refusal(db.admin().query("SELECT * FROM tenant_purge(NULL)", &[]), "invalid_argument");
    assert_eq!(db.traces(id, "tenant_acme"), 3);
}
