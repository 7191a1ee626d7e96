//! The current tenant of a session: who can choose it, its schema first in search_path, and when the choice ends.

use postgres::Client;
use postgres::types::Type;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    set_current_by_slug_id_and_text,
    set_current_puts_the_schema_first,
    set_current_requires_membership,
    set_current_refuses_nulls,
    choosing_again_replaces_the_schema,
    local_choice_ends_with_its_transaction,
    choice_ends_with_rollback_and_savepoint,
    reset_all_and_discard_all_end_the_choice,
    reset_current_restores_tenant_and_path,
    reset_current_keeps_a_path_set_since,
    reset_current_restores_the_path_after_any_schema_name,
    temporary_objects_come_last,
    a_choice_does_not_apply_to_the_next_user,
    untrusted_role_with_a_user_can_choose,
    current_returns_one_row_or_none,
    current_comes_from_setting_then_oldest_membership,
    no_user_acts_for_a_tenant_they_did_not_choose,
    has_access_and_has_role_answer_for_each_caller,
    access_functions_work_in_the_applications_policies,
];

const ID: &str = "SELECT tenant_current_id()";
const PATH: &str = "SELECT current_setting('search_path')";

fn set_current_by_slug_id_and_text(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let mut client = db.as_user(user);
    assert_eq!(one::<Uuid>(&mut client, "SELECT id FROM tenant_set_current($1)", &[&"acme"]), id);
    assert_eq!(one::<Uuid>(&mut client, "SELECT id FROM tenant_set_current($1)", &[&id.to_string()]), id);
    let by_id = client.prepare_typed("SELECT id FROM tenant_set_current($1)", &[Type::UUID]).unwrap();
    assert_eq!(client.query_one(&by_id, &[&id]).unwrap().get::<_, Uuid>(0), id);
    let named = "SELECT id FROM tenant_set_current(tenant => $1, is_local => $2)";
    assert_eq!(one::<Uuid>(&mut client, named, &[&"acme", &false]), id);
    let bare = id.simple().to_string().to_uppercase();
    assert_eq!(one::<Uuid>(&mut client, "SELECT id FROM tenant_set_current($1)", &[&bare]), id);
}

fn set_current_puts_the_schema_first(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('mine')");
    let user = new_user();
    db.new_tenant("acme", user);
    let mut client = db.as_user(user);
    let before: String = one(&mut client, PATH, &[]);
    run(&mut client, "SELECT tenant_set_current('acme')");
    assert_eq!(one::<String>(&mut client, PATH, &[]), format!("tenant_acme, {before}, pg_temp"));
    assert_eq!(one::<String>(&mut client, "SELECT body FROM notes", &[]), "mine");

    let mut client = db.as_user(user);
    run(&mut client, "SET search_path = ''; SELECT public.tenant_set_current('acme')");
    assert_eq!(one::<String>(&mut client, "SELECT current_schema()::text", &[]), "tenant_acme");
    run(&mut client, "SELECT public.tenant_reset_current()");
    assert_eq!(one::<Option<String>>(&mut client, "SELECT current_schema()::text", &[]), None);
}

fn set_current_requires_membership(db: &Db) {
    let (me, other) = (new_user(), new_user());
    let (mine, theirs) = (db.new_tenant("mine", me), db.new_tenant("theirs", other));
    let set = "SELECT id FROM tenant_set_current($1)";
    let mut client = db.as_user(me);
    run(&mut client, "SELECT tenant_set_current('mine')");
    expect_refusal(client.query(set, &[&"theirs"]), "not_found");
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), mine, "a refused choice changes nothing");
    assert!(one::<String>(&mut client, PATH, &[]).starts_with("tenant_mine, "));
    for mut client in [db.admin(), db.superuser(), db.as_service(theirs)] {
        assert_eq!(one::<Uuid>(&mut client, set, &[&"theirs"]), theirs);
        assert_eq!(one::<Uuid>(&mut client, ID, &[]), theirs);
    }
    expect_refusal(db.as_service(theirs).query(set, &[&"mine"]), "not_found");
    expect_refusal(db.server().query(set, &[&"mine"]), "unauthenticated");
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{theirs}')"));
    expect_refusal(db.admin().query("SELECT * FROM tenant_set_current($1)", &[&theirs.to_string()]), "conflict")
        .message("tenant is deleted");
}

fn set_current_refuses_nulls(db: &Db) {
    let mut client = db.as_user(new_user());
    for call in ["tenant_set_current(NULL::text)", "tenant_set_current(NULL::uuid)"] {
        expect_refusal(client.query(&format!("SELECT {call}"), &[]), "invalid_argument").message_has("tenant");
    }
    expect_refusal(client.query("SELECT tenant_set_current('acme', NULL)", &[]), "invalid_argument")
        .message_has("is_local");
}

fn choosing_again_replaces_the_schema(db: &Db) {
    let user = new_user();
    db.new_tenant("a", user);
    db.new_tenant("b", user);
    let mut client = db.as_user(user);
    let before: String = one(&mut client, PATH, &[]);
    for slug in ["a", "b", "a", "a", "b"] {
        run(&mut client, &format!("SELECT tenant_set_current('{slug}')"));
        assert_eq!(one::<String>(&mut client, PATH, &[]), format!("tenant_{slug}, {before}, pg_temp"));
    }
    run(&mut client, "SELECT tenant_reset_current()");
    assert_eq!(one::<String>(&mut client, PATH, &[]), before);
}

fn local_choice_ends_with_its_transaction(db: &Db) {
    let user = new_user();
    let (a, b) = (db.new_tenant("a", user), db.new_tenant("b", user));
    let mut client = db.as_user(user);
    let before: String = one(&mut client, PATH, &[]);
    run(&mut client, "BEGIN; SELECT tenant_set_current('b', is_local => true)");
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), b);
    run(&mut client, "COMMIT");
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), a, "the oldest membership applies again");
    assert_eq!(one::<String>(&mut client, PATH, &[]), before);

    // A local choice over one for the session: the latter applies again after the transaction.
    run(&mut client, "SELECT tenant_set_current('b'); BEGIN; SELECT tenant_set_current('a', true); COMMIT");
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), b);
    assert_eq!(one::<String>(&mut client, PATH, &[]), format!("tenant_b, {before}, pg_temp"));
}

fn choice_ends_with_rollback_and_savepoint(db: &Db) {
    let user = new_user();
    let (a, b) = (db.new_tenant("a", user), db.new_tenant("b", user));
    let mut client = db.as_user(user);
    let before: String = one(&mut client, PATH, &[]);
    run(&mut client, "BEGIN; SELECT tenant_set_current('b'); ROLLBACK");
    assert_eq!((one::<Uuid>(&mut client, ID, &[]), one::<String>(&mut client, PATH, &[])), (a, before.clone()));
    for local in ["false", "true"] {
        run(&mut client, "BEGIN; SELECT tenant_set_current('a', true); SAVEPOINT s");
        run(&mut client, &format!("SELECT tenant_set_current('b', {local})"));
        assert_eq!(one::<Uuid>(&mut client, ID, &[]), b);
        run(&mut client, "ROLLBACK TO s");
        assert_eq!(one::<Uuid>(&mut client, ID, &[]), a);
        assert_eq!(one::<String>(&mut client, PATH, &[]), format!("tenant_a, {before}, pg_temp"));
        run(&mut client, "COMMIT");
        assert_eq!(one::<String>(&mut client, PATH, &[]), before);
    }
}

fn reset_all_and_discard_all_end_the_choice(db: &Db) {
    let user = new_user();
    db.new_tenant("a", user);
    db.new_tenant("b", user);
    for reset in ["RESET ALL", "DISCARD ALL"] {
        let mut client = db.as_user(user);
        let before: String = one(&mut client, PATH, &[]);
        run(&mut client, "SELECT tenant_set_current('b')");
        run(&mut client, reset);
        assert_eq!(one::<Option<Uuid>>(&mut client, "SELECT tenant_current_user_id()", &[]), None, "{reset}");
        assert_eq!(one::<Option<Uuid>>(&mut client, ID, &[]), None);
        assert_eq!(one::<String>(&mut client, PATH, &[]), before);
        expect_refusal(client.query("SELECT * FROM tenant_get()", &[]), "unauthenticated");
        // The next user of a pooled connection finds no choice.
        let other = new_user();
        db.act_as(&mut client, Some(other));
        assert_eq!(one::<Option<Uuid>>(&mut client, ID, &[]), None);
    }
}

fn reset_current_restores_tenant_and_path(db: &Db) {
    let user = new_user();
    let (a, b) = (db.new_tenant("a", user), db.new_tenant("b", user));
    let mut client = db.as_user(user);
    run(&mut client, "SET search_path = pg_catalog, public; SELECT tenant_set_current('b')");
    run(&mut client, "SELECT tenant_set_current('a'); SELECT tenant_set_current('b')");
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), b);
    for _ in 0..2 {
        run(&mut client, "SELECT tenant_reset_current()");
        assert_eq!(one::<String>(&mut client, PATH, &[]), "pg_catalog, public");
        assert_eq!(one::<Uuid>(&mut client, ID, &[]), a);
    }
    run(&mut db.server(), "SELECT tenant_reset_current()");
}

fn reset_current_keeps_a_path_set_since(db: &Db) {
    let user = new_user();
    db.new_tenant("a", user);
    let mut client = db.as_user(user);
    run(&mut client, "SELECT tenant_set_current('a'); SET search_path = public, pg_catalog");
    run(&mut client, "SELECT tenant_reset_current()");
    assert_eq!(one::<String>(&mut client, PATH, &[]), "public, pg_catalog");
}

fn reset_current_restores_the_path_after_any_schema_name(db: &Db) {
    let user = new_user();
    let prefixes = ["A, \"b\", c ", "\"", ", ", "x\", \"y"];
    for (n, prefix) in prefixes.iter().enumerate() {
        db.configure("fluxbase_tenant.schema_prefix", prefix);
        db.new_tenant(&format!("t{n}"), user);
    }
    for path in ["public", "\"a, b\", public, \"c\"\"d\"", "\"\"", ""] {
        let mut client = db.as_user(user);
        client.query("SELECT set_config('search_path', $1, false)", &[&path]).unwrap();
        for n in (0..prefixes.len()).chain([0]) {
            run(&mut client, &format!("SELECT public.tenant_set_current('t{n}')"));
            let schema: String = one(&mut client, "SELECT schema_name::text FROM public.tenant_current()", &[]);
            assert_eq!(one::<String>(&mut client, "SELECT current_schema()::text", &[]), schema);
        }
        run(&mut client, "SELECT public.tenant_reset_current()");
        assert_eq!(one::<String>(&mut client, PATH, &[]), path);
    }
}

fn temporary_objects_come_last(db: &Db) {
    let user = new_user();
    db.new_tenant("a", user);
    let mut client = db.as_user(user);
    run(&mut client, "CREATE TEMP TABLE t (n int)");
    let own: String = one(&mut client, "SELECT pg_my_temp_schema()::regnamespace::text", &[]);
    for path in ["pg_temp, public", "public, pg_temp", "public", &format!("{own}, public")] {
        run(&mut client, &format!("SET search_path = {path}"));
        for _ in 0..2 {
            run(&mut client, "SELECT public.tenant_set_current('a')");
            assert_eq!(one::<String>(&mut client, PATH, &[]), "tenant_a, public, pg_temp", "{path}");
        }
        run(&mut client, "SELECT public.tenant_reset_current()");
        assert_eq!(one::<String>(&mut client, PATH, &[]), path);
    }
}

fn a_choice_does_not_apply_to_the_next_user(db: &Db) {
    let (first, next, both) = (new_user(), new_user(), new_user());
    let (a, b) = (db.new_tenant("a", first), db.new_tenant("b", next));
    run(
        &mut db.admin(),
        &format!("SELECT tenant_add_member('{a}', '{both}'), tenant_grant_instance_admin('{}')", new_user()),
    );
    let mut client = db.as_user(first);
    run(&mut client, "SELECT tenant_set_current('a')");
    db.act_as(&mut client, Some(next));
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), b, "as if no tenant had been chosen");
    run(&mut client, "SELECT * FROM tenant_get_by_slug('b')");
    assert!(one::<bool>(&mut client, "SELECT tenant_has_access($1)", &[&b]));
    // The choice still applies to the user who made it, and to other users who can access the tenant.
    for user in [both, first] {
        db.act_as(&mut client, Some(user));
        assert_eq!(one::<Uuid>(&mut client, ID, &[]), a);
    }
    let output = db.psql(
        "app_server",
        &[],
        &format!(
            "SET fluxbase_tenant.user_id = '{first}'; SELECT 1 FROM tenant_set_current('a');
             SET fluxbase_tenant.user_id = '{next}'; SELECT tenant_current_id(); SELECT tenant_current_id();"
        ),
    );
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(stderr.matches("WARNING:  the current tenant was chosen for another user").count(), 1, "{stderr}");
    // A tenant that is set, rather than chosen, applies to every user.
    db.act_as(&mut client, Some(next));
    run(&mut client, &format!("SET fluxbase_tenant.tenant_id = '{b}'"));
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), b);
}

/// A role that is not allowed to change the setting can still choose among the tenants of the current user, which a
/// trusted role has set.
fn untrusted_role_with_a_user_can_choose(db: &Db) {
    let user = new_user();
    let (a, b) = (db.new_tenant("a", user), db.new_tenant("b", user));
    let mut client = db.superuser();
    db.act_as(&mut client, Some(user));
    run(&mut client, "SET ROLE app_user");
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), a);
    run(&mut client, "SELECT tenant_set_current('b')");
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), b);
    run(&mut client, "SELECT tenant_reset_current()");
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), a);
}

fn current_returns_one_row_or_none(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let mut client = db.as_user(user);
    let row = client.query_one("SELECT * FROM tenant_current()", &[]).unwrap();
    assert_eq!((row.get::<_, Uuid>("id"), row.get("slug")), (id, "acme"));
    assert_eq!(one::<Option<Uuid>>(&mut client, "SELECT tenant_current_user_id()", &[]), Some(user));
    for mut none in [db.as_user(new_user()), db.server(), db.admin(), db.user_role()] {
        assert!(column::<Uuid>(&mut none, "SELECT id FROM tenant_current()", &[]).is_empty());
        assert_eq!(one::<Option<Uuid>>(&mut none, ID, &[]), None);
    }
    let mut service = db.as_service(id);
    assert_eq!(one::<Uuid>(&mut service, "SELECT id FROM tenant_current()", &[]), id);
    assert_eq!(one::<Option<Uuid>>(&mut service, "SELECT tenant_current_user_id()", &[]), None);
    let mut missing = db.as_service(Uuid::new_v4());
    expect_refusal(missing.query("SELECT * FROM tenant_current()", &[]), "not_found");
}

fn current_comes_from_setting_then_oldest_membership(db: &Db) {
    let user = new_user();
    let (a, b) = (db.new_tenant("a", user), db.new_tenant("b", user));
    let mut client = db.as_user(user);
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), a);
    run(&mut client, &format!("BEGIN; SET LOCAL fluxbase_tenant.tenant_id = '{b}'"));
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), b);
    run(&mut client, "COMMIT");
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), a);
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{a}')"));
    assert_eq!(one::<Uuid>(&mut client, ID, &[]), b);
}

/// With `default_tenant = none`. Any tenant admin can add any user to the tenant, and can leave a choice behind on a
/// pooled connection.
fn no_user_acts_for_a_tenant_they_did_not_choose(db: &Db) {
    let (victim, crook) = (new_user(), new_user());
    let (own, evil) = (db.new_tenant("own", victim), db.new_tenant("evil", crook));
    run(
        &mut db.superuser(),
        "CREATE TABLE events (happened text); GRANT SELECT, INSERT ON events TO fluxbase_tenant_user; SELECT tenant_protect('events')",
    );
    let adopt = format!("SELECT tenant_add_member('{evil}', '{victim}')");
    run(&mut db.as_user(crook), &adopt);
    run(
        &mut db.superuser(),
        &format!("UPDATE fluxbase_tenant.members SET created_at = '2000-01-01' WHERE tenant_id = '{evil}'"),
    );
    let current = "SELECT tenant_current_id()";
    let current = |client: &mut Client| one::<Option<Uuid>>(client, current, &[]);
    assert_eq!(current(&mut db.as_user(victim)), Some(evil));
    db.configure("fluxbase_tenant.default_tenant", "none");
    let mut client = db.server();
    run(
        &mut client,
        &format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{crook}'; SELECT tenant_set_current('evil'); COMMIT"),
    );
    db.act_as(&mut client, Some(victim));
    assert_eq!(current(&mut client), None);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_list_mine()", &[]), 2);
    expect_error(client.batch_execute("INSERT INTO events VALUES ('secret')"), "42501");
    run(&mut client, "SELECT tenant_set_current('own'); INSERT INTO events VALUES ('secret')");
    assert_eq!(current(&mut client), Some(own));
    assert_eq!(one::<i64>(&mut db.as_user(crook), "SELECT count(*) FROM events", &[]), 0);
    expect_error(client.batch_execute("SET fluxbase_tenant.default_tenant = 'oldest_membership'"), "42501");
}

fn has_access_and_has_role_answer_for_each_caller(db: &Db) {
    let admin = new_user();
    let id = db.new_tenant("acme", admin);
    let member = db.new_member(id);
    let ask = "SELECT tenant_has_access($1), tenant_has_role($1, 'tenant_member'), tenant_has_role($1, 'tenant_admin'),
               tenant_is_instance_admin()";
    for (mut client, expected) in [
        (db.as_user(admin), [true, true, true, false]),
        (db.as_user(member), [true, true, false, false]),
        (db.as_user(new_user()), [false, false, false, false]),
        (db.as_service(id), [true, true, true, false]),
        (db.server(), [false, false, false, false]),
        (db.user_role(), [false, false, false, false]),
        (db.admin(), [true, true, true, true]),
        (db.superuser(), [true, true, true, true]),
    ] {
        let row = client.query_one(ask, &[&id]).unwrap();
        assert_eq!([0, 1, 2, 3].map(|column| row.get::<_, bool>(column)), expected);
    }
    let mut client = db.as_user(admin);
    expect_refusal(client.query("SELECT tenant_has_role($1, 'owner')", &[&id]), "invalid_argument");
    for null in ["tenant_has_access(NULL)", "tenant_has_role(NULL, 'tenant_admin')"] {
        assert_eq!(one::<Option<bool>>(&mut client, &format!("SELECT {null}"), &[]), None, "{null}");
    }
    let declared: Vec<String> = column(
        &mut db.superuser(),
        "SELECT DISTINCT provolatile::text || proparallel::text FROM pg_proc
         WHERE proname IN ('tenant_has_access', 'tenant_has_role', 'tenant_is_instance_admin')",
        &[],
    );
    assert_eq!(declared, ["ss"], "STABLE and PARALLEL SAFE");
}

fn access_functions_work_in_the_applications_policies(db: &Db) {
    let user = new_user();
    let (mine, other) = (db.new_tenant("mine", user), db.new_tenant("other", new_user()));
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE invoices (tenant_id uuid DEFAULT tenant_current_id(), total int);
             ALTER TABLE invoices ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON invoices USING (tenant_has_access(tenant_id));
             GRANT SELECT, INSERT ON invoices TO fluxbase_tenant_user;
             INSERT INTO invoices VALUES ('{mine}', 1), ('{other}', 2)"
        ),
    );
    let total = "SELECT coalesce(sum(total), 0) FROM invoices";
    let mut client = db.as_user(user);
    run(&mut client, "INSERT INTO invoices (total) VALUES (4)");
    assert_eq!(one::<i64>(&mut client, total, &[]), 5);
    assert_eq!(one::<i64>(&mut db.as_service(other), total, &[]), 2);
    assert_eq!(one::<i64>(&mut db.admin(), total, &[]), 7);
    assert_eq!(one::<i64>(&mut db.user_role(), total, &[]), 0);
}
