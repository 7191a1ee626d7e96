//! Tenant admins add and remove members, and a tenant always keeps an admin.

use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    assign_admin_returns_the_row_and_repeats_it,
    assign_admin_promotes_a_member,
    add_member_repeats_and_changes_roles,
    remove_admin_removes_admins_only,
    remove_member_removes_any_role,
    last_admin_cannot_be_removed,
    leave_ends_the_callers_membership,
    lists_are_for_members,
    plain_members_cannot_manage,
    admin_of_one_tenant_has_no_rights_in_another,
    service_and_instance_admins_manage,
    removed_member_loses_access_at_once,
];

const ASSIGN: &str = "SELECT id FROM tenant_assign_admin($1, $2)";
const ADD: &str = "SELECT role FROM tenant_add_member($1, $2)";
const REMOVE: &str = "SELECT user_id FROM tenant_remove_member($1, $2)";
const REMOVE_ADMIN: &str = "SELECT user_id FROM tenant_remove_admin($1, $2)";
const ADMINS: &str = "SELECT user_id FROM tenant_list_admins($1)";
const MEMBERS: &str = "SELECT user_id FROM tenant_list_members($1)";

fn assign_admin_returns_the_row_and_repeats_it(db: &Db) {
    let (me, other) = (new_user(), new_user());
    let id = db.new_tenant("acme", me);
    let mut client = db.as_user(me);
    let row = client.query_one("SELECT * FROM tenant_assign_admin($1, $2)", &[&id, &other]).unwrap();
    let columns: Vec<&str> = row.columns().iter().map(|c| c.name()).collect();
    assert_eq!(columns, ["id", "tenant_id", "user_id", "email", "role", "assigned_by", "created_at"]);
    assert_eq!(row.get::<_, Uuid>("tenant_id"), id);
    assert_eq!(row.get::<_, Uuid>("user_id"), other);
    assert_eq!(row.get::<_, Option<String>>("email"), None);
    assert_eq!(row.get::<_, &str>("role"), "tenant_admin");
    assert_eq!(row.get::<_, Option<Uuid>>("assigned_by"), Some(me));
    let membership: Uuid = row.get("id");

    // Assigned again by another admin, the row stays the same and names the first one in assigned_by.
    let again = db.as_user(other).query_one("SELECT * FROM tenant_assign_admin($1, $2)", &[&id, &other]).unwrap();
    assert_eq!((again.get::<_, Uuid>("id"), again.get("assigned_by")), (membership, Some(me)));
    assert_eq!(column::<Uuid>(&mut client, ADMINS, &[&id]), [me, other]);
}

fn assign_admin_promotes_a_member(db: &Db) {
    let me = new_user();
    let id = db.new_tenant("acme", me);
    let member = db.new_member(id);
    let before: Uuid =
        one(&mut db.admin(), "SELECT id FROM tenant_list_members($1) WHERE user_id = $2", &[&id, &member]);
    assert_eq!(one::<Uuid>(&mut db.as_user(me), ASSIGN, &[&id, &member]), before);
    assert_eq!(column::<Uuid>(&mut db.as_user(member), ADMINS, &[&id]), [me, member]);
}

fn add_member_repeats_and_changes_roles(db: &Db) {
    let (me, other) = (new_user(), new_user());
    let id = db.new_tenant("acme", me);
    let mut client = db.as_user(me);
    for _ in 0..2 {
        assert_eq!(one::<String>(&mut client, ADD, &[&id, &other]), "tenant_member");
    }
    let add_as = "SELECT role FROM tenant_add_member(tenant_id => $1, user_id => $2, role => $3)";
    assert_eq!(one::<String>(&mut client, add_as, &[&id, &other, &"tenant_admin"]), "tenant_admin");
    assert_eq!(one::<String>(&mut client, add_as, &[&id, &other, &"tenant_member"]), "tenant_member");
    assert_eq!(column::<Uuid>(&mut client, MEMBERS, &[&id]), [me, other]);
    for role in ["", "admin", "TENANT_ADMIN", "instance_admin", "tenant_admin "] {
        expect_refusal(client.query(add_as, &[&id, &other, &role]), "invalid_argument").hint_has("tenant_member");
    }
    expect_refusal(client.query(add_as, &[&id, &me, &"tenant_member"]), "conflict")
        .message("cannot remove the last admin of a tenant");
}

fn remove_admin_removes_admins_only(db: &Db) {
    let (me, other) = (new_user(), new_user());
    let id = db.new_tenant("acme", me);
    let member = db.new_member(id);
    let mut client = db.as_user(me);
    one::<Uuid>(&mut client, ASSIGN, &[&id, &other]);
    assert_eq!(one::<Uuid>(&mut client, REMOVE_ADMIN, &[&id, &other]), other);
    for none in [other, member, new_user()] {
        expect_refusal(client.query(REMOVE_ADMIN, &[&id, &none]), "not_found").message("admin not found");
    }
    assert_eq!(column::<Uuid>(&mut client, MEMBERS, &[&id]), [me, member]);
}

fn remove_member_removes_any_role(db: &Db) {
    let (me, other) = (new_user(), new_user());
    let id = db.new_tenant("acme", me);
    let member = db.new_member(id);
    let mut client = db.as_user(me);
    one::<Uuid>(&mut client, ASSIGN, &[&id, &other]);
    for user in [other, member] {
        assert_eq!(one::<Uuid>(&mut client, REMOVE, &[&id, &user]), user);
        expect_refusal(client.query(REMOVE, &[&id, &user]), "not_found").message("member not found");
    }
    assert_eq!(column::<Uuid>(&mut client, MEMBERS, &[&id]), [me]);
}

fn last_admin_cannot_be_removed(db: &Db) {
    let me = new_user();
    let id = db.new_tenant("acme", me);
    let member = db.new_member(id);
    for mut client in [db.as_user(me), db.admin(), db.as_service(id)] {
        for remove in [REMOVE, REMOVE_ADMIN] {
            let refusal = expect_refusal(client.query(remove, &[&id, &me]), "conflict");
            let words = refusal.hint_has("tenant_assign_admin()").words();
            assert_eq!(
                (words.sqlstate.as_str(), words.message.as_str()),
                ("55000", "cannot remove the last admin of a tenant")
            );
        }
    }
    let mut client = db.as_user(me);
    expect_refusal(client.query("SELECT * FROM tenant_leave($1)", &[&id]), "conflict");
    one::<Uuid>(&mut client, ASSIGN, &[&id, &member]);
    assert_eq!(one::<Uuid>(&mut client, "SELECT user_id FROM tenant_leave($1)", &[&id]), me);
    expect_refusal(db.as_user(member).query("SELECT * FROM tenant_leave($1)", &[&id]), "conflict");
}

fn leave_ends_the_callers_membership(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    let member = db.new_member(id);
    let mut client = db.as_user(member);
    expect_refusal(client.query("SELECT * FROM tenant_leave()", &[]), "not_found").message("current tenant not found");
    run(&mut client, "SELECT tenant_set_current('acme')");
    assert_eq!(one::<Uuid>(&mut client, "SELECT user_id FROM tenant_leave()", &[]), member);
    expect_refusal(client.query("SELECT * FROM tenant_leave($1)", &[&id]), "not_found").message("tenant not found");
    // Without a current user there is no membership to leave, whatever else the session is allowed to do.
    for mut caller in [db.server(), db.admin(), db.as_service(id), db.superuser()] {
        expect_refusal(caller.query("SELECT * FROM tenant_leave($1)", &[&id]), "unauthenticated");
    }
    // A member can leave a suspended tenant too.
    let other = db.new_member(id);
    run(&mut db.admin(), &format!("SELECT tenant_suspend('{id}')"));
    assert_eq!(one::<Uuid>(&mut db.as_user(other), "SELECT user_id FROM tenant_leave($1)", &[&id]), other);
}

fn lists_are_for_members(db: &Db) {
    let me = new_user();
    let id = db.new_tenant("acme", me);
    let member = db.new_member(id);
    for mut client in [db.as_user(me), db.as_user(member), db.as_service(id), db.admin()] {
        assert_eq!(column::<Uuid>(&mut client, ADMINS, &[&id]), [me]);
        assert_eq!(column::<Uuid>(&mut client, MEMBERS, &[&id]), [me, member]);
    }
    for list in [ADMINS, MEMBERS] {
        expect_refusal(db.as_user(new_user()).query(list, &[&id]), "not_found");
        expect_refusal(db.server().query(list, &[&id]), "unauthenticated");
        expect_refusal(db.admin().query(list, &[&Uuid::new_v4()]), "not_found");
    }
}

fn plain_members_cannot_manage(db: &Db) {
    let me = new_user();
    let id = db.new_tenant("acme", me);
    let mut client = db.as_user(db.new_member(id));
    for (call, action) in [
        (ASSIGN, "assign an admin"),
        (REMOVE_ADMIN, "remove an admin"),
        (ADD, "add a member"),
        (REMOVE, "remove a member"),
        ("SELECT * FROM tenant_add_member($1, $2, 'tenant_admin')", "add a member"),
    ] {
        for user in [me, new_user()] {
            expect_refusal(client.query(call, &[&id, &user]), "forbidden")
                .message(&format!("permission denied to {action}"))
                .hint_has("tenant_admin");
        }
        expect_refusal(db.server().query(call, &[&id, &me]), "unauthenticated");
    }
}

fn admin_of_one_tenant_has_no_rights_in_another(db: &Db) {
    let (me, them) = (new_user(), new_user());
    db.new_tenant("mine", me);
    let theirs = db.new_tenant("theirs", them);
    let mut client = db.as_user(me);
    for call in [ASSIGN, REMOVE_ADMIN, ADD, REMOVE] {
        expect_refusal(client.query(call, &[&theirs, &me]), "not_found").message("tenant not found");
        expect_refusal(client.query(call, &[&theirs, &them]), "not_found").message("tenant not found");
    }
    assert!(!one::<bool>(&mut client, "SELECT tenant_has_role($1, 'tenant_member')", &[&theirs]));
    // The back end can set the current tenant, which does not make the user a member.
    run(&mut client, &format!("SET fluxbase_tenant.tenant_id = '{theirs}'"));
    expect_refusal(client.query("SELECT * FROM tenant_get()", &[]), "not_found").message("tenant not found");
    expect_refusal(client.query("SELECT * FROM tenant_update(name => 'Mine')", &[]), "not_found");
}

fn service_and_instance_admins_manage(db: &Db) {
    let me = new_user();
    let id = db.new_tenant("acme", me);
    for mut client in [db.as_service(id), db.admin(), db.superuser()] {
        let user = new_user();
        one::<Uuid>(&mut client, ASSIGN, &[&id, &user]);
        let by: Option<Uuid> =
            one(&mut client, "SELECT assigned_by FROM tenant_list_admins($1) WHERE user_id = $2", &[&id, &user]);
        assert_eq!(by, None, "no current user assigned it");
        one::<Uuid>(&mut client, REMOVE_ADMIN, &[&id, &user]);
        one::<String>(&mut client, ADD, &[&id, &user]);
        one::<Uuid>(&mut client, REMOVE, &[&id, &user]);
    }
    let other = db.new_tenant("other", me);
    expect_refusal(db.as_service(id).query(ADD, &[&other, &me]), "not_found");
}

fn removed_member_loses_access_at_once(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('here')");
    let id = db.new_tenant("acme", new_user());
    let member = db.new_member(id);
    let mut client = db.as_user(member);
    run(&mut client, "SELECT tenant_set_current('acme')");
    assert_eq!(reached(&mut client, "notes"), 1);
    run(&mut db.admin(), &format!("SELECT tenant_remove_member('{id}', '{member}')"));
    assert_eq!(reached(&mut client, "notes"), 0);
    expect_error(client.query("INSERT INTO notes VALUES ('back')", &[]), "42501");
}
