//! Creating, reading and changing tenants, and who is allowed to.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_refusal};

cases![
    create_adds_row_schema_owner_role_and_admin,
    create_under_instance_admin_policy_is_refused_to_users,
    create_under_authenticated_policy_is_self_service,
    create_derives_an_unused_slug_from_the_name,
    create_accepts_an_id_and_refuses_one_in_use,
    ids_sort_by_time_of_creation,
    create_refuses_a_slug_in_use,
    max_tenants_is_a_limit,
    schema_names_follow_slugs_and_avoid_conflicts,
    schema_names_can_be_derived_from_ids,
    get_and_get_by_slug_return_the_row,
    functions_default_to_the_current_tenant,
    list_is_for_instance_admins,
    list_mine_lists_own_tenants_by_age_of_membership,
    update_changes_only_what_is_passed,
    update_is_for_tenant_admins,
    default_tenant_can_change_and_cannot_be_deleted,
];

const SLUG: &str = "SELECT slug FROM tenant_create(name => $1)";

fn create_adds_row_schema_owner_role_and_admin(db: &Db) {
    let user = new_user();
    let row = db
        .admin()
        .query_one(
            "SELECT * FROM tenant_create('acme-corp', 'Acme Corp.', '{\"plan\": \"pro\"}', admin_user_id => $1)",
            &[&user],
        )
        .unwrap();
    let id: Uuid = row.get("id");
    assert_eq!(id.get_version_num(), 7);
    assert_eq!(row.get::<_, &str>("slug"), "acme-corp");
    assert_eq!(row.get::<_, &str>("name"), "Acme Corp.");
    assert_eq!(row.get::<_, &str>("schema_name"), "tenant_acme_corp");
    assert_eq!(row.get::<_, &str>("status"), "active");
    assert!(!row.get::<_, bool>("is_default"));
    assert_eq!(row.get::<_, Value>("metadata"), json!({"plan": "pro"}));
    assert_eq!(row.get::<_, Option<&str>>("schema_version"), None);
    let columns: Vec<&str> = row.columns().iter().map(|c| c.name()).collect();
    let all = "id slug name schema_name status is_default metadata schema_version created_at updated_at deleted_at";
    assert_eq!(columns, all.split(' ').collect::<Vec<_>>());

    let mut superuser = db.superuser();
    let owner: String =
        one(&mut superuser, "SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'tenant_acme_corp'", &[]);
    assert_eq!(owner, Db::owner_role(id));
    let sound = "SELECT rolcanlogin OR rolsuper OR rolbypassrls OR rolcreatedb OR rolcreaterole OR rolreplication
                 FROM pg_roles WHERE rolname = $1";
    assert!(!one::<bool>(&mut superuser, sound, &[&owner]));
    let members: i64 = one(
        &mut superuser,
        "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE r.rolname = $1",
        &[&owner],
    );
    assert_eq!(members, 0, "an owner role has no members");

    let admins: Vec<Uuid> = column(&mut db.admin(), "SELECT user_id FROM tenant_list_admins($1)", &[&id]);
    assert_eq!(admins, [user]);
}

fn create_under_instance_admin_policy_is_refused_to_users(db: &Db) {
    let create = "SELECT * FROM tenant_create('acme', 'Acme')";
    expect_refusal(db.server().query(create, &[]), "unauthenticated").message("no current user");
    expect_refusal(db.as_user(new_user()).query(create, &[]), "forbidden")
        .message("permission denied to create a tenant")
        .hint_has("create_policy");
    let tenant = db.new_tenant("other", new_user());
    expect_refusal(db.as_service(tenant).query(create, &[]), "forbidden");
    expect_refusal(db.user_role().query(create, &[]), "unauthenticated");
}

fn create_under_authenticated_policy_is_self_service(db: &Db) {
    db.configure("fluxbase_tenant.create_policy", "authenticated");
    let user = new_user();
    let mut client = db.as_user(user);
    let id: Uuid = one(&mut client, "SELECT id FROM tenant_create('acme', 'Acme')", &[]);
    let admin = client.query_one("SELECT * FROM tenant_list_admins($1)", &[&id]).unwrap();
    assert_eq!(admin.get::<_, Uuid>("user_id"), user);
    assert_eq!(admin.get::<_, Option<Uuid>>("assigned_by"), Some(user));

    let with_id = client.query("SELECT * FROM tenant_create('b', 'B', id => $1)", &[&Uuid::new_v4()]);
    expect_refusal(with_id, "forbidden").hint_has("Omit id");
    let taken = client.query("SELECT * FROM tenant_create('b', 'B', id => $1)", &[&id]);
    expect_refusal(taken, "forbidden").hint_has("Omit id");
    let for_other = client.query("SELECT * FROM tenant_create('b', 'B', admin_user_id => $1)", &[&new_user()]);
    expect_refusal(for_other, "forbidden").hint_has("tenant_assign_admin()");
    run(&mut client, &format!("SELECT tenant_create('b', 'B', admin_user_id => '{user}')"));
    expect_refusal(db.server().query("SELECT * FROM tenant_create('c', 'C')", &[]), "unauthenticated");
    expect_refusal(db.as_service(id).query("SELECT * FROM tenant_create('c', 'C')", &[]), "forbidden");
}

fn create_derives_an_unused_slug_from_the_name(db: &Db) {
    let mut admin = db.admin();
    for (name, slug) in [
        ("Acme Corp.", "acme-corp"),
        ("Acme Corp", "acme-corp-2"),
        ("ACME, Corp!", "acme-corp-3"),
        ("Ångström & Söhne", "angstrom-sohne"),
        ("3 Amigos", "t-3-amigos"),
        ("!!!", "tenant"),
        ("???", "tenant-2"),
    ] {
        assert_eq!(one::<String>(&mut admin, SLUG, &[&name]), slug, "{name}");
    }
    let long: String = one(&mut admin, SLUG, &[&"long ".repeat(50)]);
    assert!(long.len() <= 63 && long.starts_with("long-long-") && !long.ends_with('-'), "{long}");
    let second: String = one(&mut admin, SLUG, &[&"long ".repeat(50)]);
    assert!(second.len() <= 63 && second.ends_with("-2"), "{second}");
    // After the numbered suffixes are used up, a suffix from the id makes the slug unique.
    let many: Vec<String> =
        column(&mut admin, "SELECT (tenant_create(name => 'Same')).slug FROM generate_series(1, 25)", &[]);
    let distinct: std::collections::HashSet<_> = many.iter().collect();
    assert_eq!(distinct.len(), 25);
}

fn create_accepts_an_id_and_refuses_one_in_use(db: &Db) {
    let id = Uuid::new_v4();
    let create = "SELECT id FROM tenant_create(name => 'Acme', id => $1)";
    assert_eq!(one::<Uuid>(&mut db.admin(), create, &[&id]), id);
    expect_refusal(db.admin().query(create, &[&id]), "conflict").message_has("already exists").hint_has("another id");
    let nil = Uuid::nil();
    assert_eq!(one::<Uuid>(&mut db.admin(), create, &[&nil]), nil);

    // A role of that name might have members, who would then own the tenant's tables.
    let planted = Uuid::new_v4();
    run(&mut db.superuser(), &format!("CREATE ROLE {}", Db::owner_role(planted)));
    expect_refusal(db.admin().query(create, &[&planted]), "conflict").message_has("already exists");
}

fn ids_sort_by_time_of_creation(db: &Db) {
    let mut admin = db.admin();
    let ids: Vec<Uuid> =
        column(&mut admin, "SELECT (tenant_create(name => 'Same')).id FROM generate_series(1, 5)", &[]);
    assert!(ids.is_sorted(), "{ids:?}");
}

fn create_refuses_a_slug_in_use(db: &Db) {
    db.new_tenant("acme", new_user());
    let refusal = expect_refusal(db.admin().query("SELECT * FROM tenant_create('acme', 'Other')", &[]), "conflict")
        .message("slug \"acme\" is taken");
    assert_eq!(refusal.words().sqlstate, "23505");
    // Names need not be unique.
    one::<String>(&mut db.admin(), "SELECT slug FROM tenant_create('acme-2', 'acme')", &[]);
}

fn max_tenants_is_a_limit(db: &Db) {
    db.configure("fluxbase_tenant.max_tenants", "2");
    let first = db.new_tenant("one", new_user());
    db.new_tenant("two", new_user());
    let mut admin = db.admin();
    let third = "SELECT id FROM tenant_create('three', 'Three')";
    let refusal = expect_refusal(admin.query(third, &[]), "conflict");
    assert_eq!(refusal.message("tenant limit of 2 reached").words().sqlstate, "55000");
    run(&mut admin, &format!("SELECT tenant_soft_delete('{first}')"));
    one::<Uuid>(&mut admin, third, &[]);
    // A restored tenant counts as well.
    expect_refusal(admin.query("SELECT * FROM tenant_restore($1)", &[&first]), "conflict").message_has("limit");
}

fn schema_names_follow_slugs_and_avoid_conflicts(db: &Db) {
    run(&mut db.superuser(), "CREATE SCHEMA tenant_taken");
    let schema = "SELECT id, schema_name FROM tenant_create($1, 'Name')";
    let mut admin = db.admin();
    for slug in ["taken", "a-b", "a-b-c", &"x".repeat(63)] {
        let row = admin.query_one(schema, &[&slug]).unwrap();
        let (id, name): (Uuid, String) = (row.get(0), row.get(1));
        let plain = format!("tenant_{}", slug.replace('-', "_"));
        if slug != "taken" && plain.len() <= 63 {
            assert_eq!(name, plain);
        } else {
            let digits = &id.simple().to_string()[24..];
            assert!(name.len() <= 63 && name.ends_with(&format!("_{digits}")), "{name}");
        }
    }
    // The schema of a soft-deleted tenant keeps its name.
    let old = db.new_tenant("again", new_user());
    run(&mut admin, &format!("SELECT tenant_soft_delete('{old}')"));
    let new = db.new_tenant("again", new_user());
    assert_eq!(db.schema_of(old), "tenant_again");
    assert_ne!(db.schema_of(new), "tenant_again");
}

fn schema_names_can_be_derived_from_ids(db: &Db) {
    db.configure("fluxbase_tenant.schema_naming", "id");
    db.configure("fluxbase_tenant.schema_prefix", "customer_");
    let id = db.new_tenant("acme", new_user());
    assert_eq!(db.schema_of(id), format!("customer_{}", id.simple()));
}

fn get_and_get_by_slug_return_the_row(db: &Db) {
    let admin = new_user();
    let id = db.new_tenant("acme", admin);
    let member = db.new_member(id);
    for client in &mut [db.as_user(admin), db.as_user(member), db.as_service(id), db.admin()] {
        assert_eq!(one::<String>(client, "SELECT slug FROM tenant_get($1)", &[&id]), "acme");
        assert_eq!(one::<Uuid>(client, "SELECT id FROM tenant_get_by_slug($1)", &[&"acme"]), id);
        expect_refusal(client.query("SELECT * FROM tenant_get_by_slug('none')", &[]), "not_found");
        expect_refusal(client.query("SELECT * FROM tenant_get($1)", &[&Uuid::new_v4()]), "not_found")
            .message("tenant not found");
    }
}

fn functions_default_to_the_current_tenant(db: &Db) {
    let user = new_user();
    let (first, second) = (db.new_tenant("first", user), db.new_tenant("second", user));
    let mut client = db.as_user(user);
    let current = "SELECT id FROM tenant_get()";
    assert_eq!(one::<Uuid>(&mut client, current, &[]), first, "the oldest membership");
    run(&mut client, &format!("SET fluxbase_tenant.tenant_id = '{second}'"));
    assert_eq!(one::<Uuid>(&mut client, current, &[]), second);
    assert_eq!(one::<Uuid>(&mut client, "SELECT id FROM tenant_update(name => 'New')", &[]), second);
    assert_eq!(one::<Uuid>(&mut client, "SELECT tenant_id FROM tenant_list_members()", &[]), second);
    assert_eq!(one::<Uuid>(&mut client, "SELECT tenant_id FROM tenant_list_admins()", &[]), second);
    assert_eq!(one::<Uuid>(&mut client, "SELECT id FROM tenant_soft_delete()", &[]), second);
    expect_refusal(client.query(current, &[]), "not_found").message("tenant not found");
    let mut nowhere = db.as_user(new_user());
    expect_refusal(nowhere.query(current, &[]), "not_found").message("current tenant not found");
}

fn list_is_for_instance_admins(db: &Db) {
    let admin = new_user();
    let ids = [db.new_tenant("b", admin), db.new_tenant("a", admin), db.new_tenant("gone", admin)];
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{}')", ids[2]));
    assert_eq!(column::<Uuid>(&mut db.admin(), "SELECT id FROM tenant_list()", &[]), ids[..2]);
    assert_eq!(column::<Uuid>(&mut db.superuser(), "SELECT id FROM tenant_list_deleted()", &[]), ids[2..]);
    for list in ["SELECT * FROM tenant_list()", "SELECT * FROM tenant_list_deleted()"] {
        expect_refusal(db.as_user(admin).query(list, &[]), "forbidden").hint_has("instance admin");
        expect_refusal(db.as_service(ids[0]).query(list, &[]), "forbidden");
        expect_refusal(db.server().query(list, &[]), "unauthenticated").hint_has("fluxbase_tenant.user_id");
    }
}

fn list_mine_lists_own_tenants_by_age_of_membership(db: &Db) {
    let (me, other) = (new_user(), new_user());
    let (a, b, c) = (db.new_tenant("a", other), db.new_tenant("b", me), db.new_tenant("c", other));
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{c}', '{me}')"));
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{a}', '{me}')"));
    let mut client = db.as_user(me);
    let rows = client.query("SELECT id, my_role FROM tenant_list_mine()", &[]).unwrap();
    let mine: Vec<(Uuid, String)> = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    let roles = [(b, "tenant_admin"), (c, "tenant_member"), (a, "tenant_member")];
    assert_eq!(mine, roles.map(|(id, role)| (id, role.to_owned())));

    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{c}')"));
    assert_eq!(column::<Uuid>(&mut client, "SELECT id FROM tenant_list_mine()", &[]), [b, a]);
    assert!(column::<Uuid>(&mut db.as_user(new_user()), "SELECT id FROM tenant_list_mine()", &[]).is_empty());
    for mut caller in [db.server(), db.admin(), db.as_service(a), db.user_role()] {
        expect_refusal(caller.query("SELECT * FROM tenant_list_mine()", &[]), "unauthenticated");
    }
}

fn update_changes_only_what_is_passed(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let mut client = db.as_user(user);
    let update = "SELECT name, metadata, slug, updated_at > created_at FROM tenant_update($1, $2, $3)";
    let row = client.query_one(update, &[&id, &"New", &json!({"a": 1})]).unwrap();
    assert_eq!((row.get(0), row.get(2), row.get(3)), ("New", "acme", true));
    let row = client.query_one(update, &[&id, &None::<String>, &json!({"b": 2})]).unwrap();
    assert_eq!((row.get(0), row.get::<_, Value>(1)), ("New", json!({"b": 2})), "metadata is replaced, not merged");
    let row = client.query_one(update, &[&id, &"Newer", &None::<Value>]).unwrap();
    assert_eq!((row.get(0), row.get::<_, Value>(1)), ("Newer", json!({"b": 2})));
    let row = client.query_one("SELECT name, metadata FROM tenant_update()", &[]).unwrap();
    assert_eq!((row.get(0), row.get::<_, Value>(1)), ("Newer", json!({"b": 2})));
}

fn update_is_for_tenant_admins(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    let update = "SELECT name FROM tenant_update($1, 'New')";
    expect_refusal(db.as_user(db.new_member(id)).query(update, &[&id]), "forbidden")
        .message("permission denied to update this tenant")
        .hint_has("tenant_admin");
    expect_refusal(db.server().query(update, &[&id]), "unauthenticated");
    for mut client in [db.as_service(id), db.admin(), db.superuser()] {
        assert_eq!(one::<String>(&mut client, update, &[&id]), "New");
    }
}

fn default_tenant_can_change_and_cannot_be_deleted(db: &Db) {
    let user = new_user();
    let (a, b) = (db.new_tenant("a", user), db.new_tenant("b", user));
    let mut admin = db.admin();
    let set = "SELECT is_default FROM tenant_set_default($1)";
    for id in [a, b, b] {
        assert!(one::<bool>(&mut admin, set, &[&id]));
    }
    let defaults: Vec<Uuid> = column(&mut admin, "SELECT id FROM tenant_list() WHERE is_default", &[]);
    assert_eq!(defaults, [b]);
    for delete in ["SELECT * FROM tenant_delete($1)", "SELECT * FROM tenant_soft_delete($1)"] {
        expect_refusal(admin.query(delete, &[&b]), "conflict")
            .message("cannot delete the default tenant")
            .hint_has("tenant_set_default()");
    }
    run(&mut admin, &format!("SELECT tenant_soft_delete('{a}')"));
    expect_refusal(admin.query(set, &[&a]), "conflict").hint_has("tenant_restore()");
    expect_refusal(db.as_user(user).query(set, &[&b]), "forbidden").hint_has("instance admin");
    expect_refusal(db.as_service(b).query(set, &[&b]), "forbidden");
}
