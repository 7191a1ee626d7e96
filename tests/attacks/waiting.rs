//! No call about one tenant waits for an open transaction that made a call about another. Every function is run against
//! every other.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{new_user, one, run};
use crate::support::{Db, expect_refusal};

cases![
    no_call_waits_for_another_tenants_transaction,
    tenants_from_spares_do_not_wait,
    two_sessions_create_at_once,
    slugs_held_by_open_transactions,
    schemas_created_by_open_transactions,
    limit_of_tenants,
    changed_repeatable_migration,
    migration_removed_while_applied,
    owner_role_added_to_its_group_by_repair,
];

/// One side of a pair: a tenant in each state that a call needs, and users of the first tenant.
struct Side {
    name: &'static str,
    active: Uuid,
    suspended: Uuid,
    deleted: Uuid,
    admin: Uuid,
    member: Uuid,
    outsider: Uuid,
}

fn side(db: &Db, name: &'static str) -> Side {
    let admin = new_user();
    let [active, suspended, deleted] =
        ["", "-suspended", "-deleted"].map(|state| db.new_tenant(&format!("{name}{state}"), admin));
    let member = db.new_member(active);
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{active}', '{}', 'tenant_admin')", new_user()));
    run(&mut db.superuser(), &format!("SELECT tenant_suspend('{suspended}'), tenant_soft_delete('{deleted}')"));
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE shared_{name} (n int); SELECT tenant_protect('shared_{name}'); CREATE TABLE plain_{name} (n int)"
        ),
    );
    run(&mut db.superuser(), &format!("INSERT INTO shared_{name} VALUES (1, '{active}'), (2, '{deleted}')"));
    Side { name, active, suspended, deleted, admin, member, outsider: new_user() }
}

/// Returns a statement for every function, to run in a transaction about this side. Calls of a user set the user first.
fn calls(side: &Side) -> Vec<(&'static str, String)> {
    let Side { name, active, suspended, deleted, admin, member, outsider } = side;
    let as_user =
        |user: &Uuid, call: &str| format!("SET LOCAL fluxbase_tenant.user_id = '{user}'; SELECT * FROM {call}");
    let plain = |call: String| format!("SELECT * FROM {call}");
    vec![
        ("create", plain(format!("tenant_create('new-{name}', 'New')"))),
        ("create by id", plain(format!("tenant_create('new-{name}', 'New', id => gen_random_uuid())"))),
        ("clone", plain(format!("tenant_clone('{active}', 'clone-{name}')"))),
        ("clone with data", plain(format!("tenant_clone('{active}', 'clone-{name}', with_data => true)"))),
        ("get", plain(format!("tenant_get('{active}')"))),
        ("get_by_slug", plain(format!("tenant_get_by_slug('{name}')"))),
        ("list", plain("tenant_list()".into())),
        ("list_mine", as_user(admin, "tenant_list_mine()")),
        ("update", plain(format!("tenant_update('{active}', 'Other name')"))),
        ("set_default", plain(format!("tenant_set_default('{active}')"))),
        ("delete", plain(format!("tenant_delete('{active}')"))),
        ("soft_delete", plain(format!("tenant_soft_delete('{active}')"))),
        ("restore", plain(format!("tenant_restore('{deleted}')"))),
        ("list_deleted", plain("tenant_list_deleted()".into())),
        ("suspend", plain(format!("tenant_suspend('{active}')"))),
        ("resume", plain(format!("tenant_resume('{suspended}')"))),
        ("purge", plain("tenant_purge('1 hour')".into())),
        ("repair", plain(format!("tenant_repair('{active}')"))),
        ("assign_admin", plain(format!("tenant_assign_admin('{active}', '{member}')"))),
        ("remove_admin", plain(format!("tenant_remove_admin('{active}', '{admin}')"))),
        ("list_admins", plain(format!("tenant_list_admins('{active}')"))),
        ("add_member", plain(format!("tenant_add_member('{active}', '{outsider}')"))),
        ("remove_member", plain(format!("tenant_remove_member('{active}', '{member}')"))),
        ("list_members", plain(format!("tenant_list_members('{active}')"))),
        ("leave", as_user(member, &format!("tenant_leave('{active}')"))),
        ("set_current", as_user(member, &format!("tenant_set_current('{active}', true)"))),
        ("current", as_user(member, "tenant_current()")),
        ("current_id", as_user(member, "tenant_current_id()")),
        ("current_user_id", as_user(member, "tenant_current_user_id()")),
        ("has_access", as_user(member, &format!("tenant_has_access('{active}')"))),
        ("has_role", as_user(member, &format!("tenant_has_role('{active}', 'tenant_admin')"))),
        ("is_instance_admin", as_user(member, "tenant_is_instance_admin()")),
        ("grant_instance_admin", plain(format!("tenant_grant_instance_admin('{outsider}')"))),
        ("list_instance_admins", plain("tenant_list_instance_admins()".into())),
        ("migration_add", plain(format!("tenant_migration_add('new-{name}', 'n', 'SELECT 1')"))),
        ("migration_list", plain("tenant_migration_list()".into())),
        ("migration_remove", plain(format!("tenant_migration_remove('9{}')", name.len()))),
        ("migrate", plain(format!("tenant_migrate('{active}')"))),
        ("rollback", plain(format!("tenant_rollback('{active}', '0')"))),
        ("migration_status", plain("tenant_migration_status()".into())),
        ("migration_progress", plain("tenant_migration_progress()".into())),
        ("drift", plain(format!("tenant_drift('{active}')"))),
        ("drift of all", plain("tenant_drift()".into())),
        ("protect", plain(format!("tenant_protect('plain_{name}')"))),
        ("unprotect", plain(format!("tenant_unprotect('shared_{name}')"))),
        ("check", plain("tenant_check()".into())),
        ("read", as_user(member, &format!("tenant_{name}.notes"))),
        (
            "write",
            format!("SET LOCAL fluxbase_tenant.user_id = '{member}'; INSERT INTO tenant_{name}.notes VALUES (2)"),
        ),
        ("read shared", as_user(member, &format!("shared_{name}"))),
    ]
}

/// Reports whether the second call has to wait for the first by design. The comments say why.
fn must_wait(first: &str, second: &str) -> bool {
    match (first, second) {
        // There is only one default tenant.
        ("set_default", "set_default") => true,
        // All tenants share one list of versions. Creating or migrating a tenant applies a version that is about to be
        // removed, or the reverse.
        ("migration_remove", "create" | "create by id" | "migrate") => true,
        ("create" | "create by id" | "migrate", "migration_remove") => true,
        // DDL on a table waits for its writers, and tenant_delete() writes to every shared table.
        ("delete" | "purge", "unprotect") => true,
        _ => false,
    }
}

fn no_call_waits_for_another_tenants_transaction(db: &Db) {
    run(
        &mut db.superuser(),
        "SELECT tenant_migration_add('1', 'notes', 'CREATE TABLE notes (n int); INSERT INTO notes VALUES (1)', 'DROP TABLE notes')",
    );
    let (a, b) = (side(db, "aa"), side(db, "bbb"));
    for side in [&a, &b] {
        let add = format!("SELECT tenant_migration_add('9{}', 'later', 'SELECT 1', 'SELECT 1')", side.name.len());
        run(&mut db.superuser(), &add);
    }
    // Makes tenant_purge() find one of a's tenants.
    run(
        &mut db.superuser(),
        &format!("UPDATE fluxbase_tenant.tenants SET deleted_at = now() - interval '1 day' WHERE id = '{}'", a.deleted),
    );
    let mut unexpected = Vec::new();
    let mut second = db.superuser();
    for (name_a, call_a) in calls(&a) {
        let mut first = db.superuser();
        run(&mut first, "BEGIN");
        run(&mut first, &call_a);
        for (name_b, call_b) in calls(&b) {
            run(&mut second, "BEGIN; SET LOCAL lock_timeout = '400ms'");
            let waited = match second.batch_execute(&call_b) {
                Ok(()) => false,
                Err(error) if error.code().is_some_and(|code| code.code() == "55P03") => true,
                Err(error) => panic!("{name_b} during {name_a}: {error:?}"),
            };
            run(&mut second, "ROLLBACK");
            if waited != must_wait(name_a, name_b) {
                unexpected
                    .push(format!("{name_b} {} {name_a}", if waited { "waits for" } else { "does not wait for" }));
            }
        }
        run(&mut first, "ROLLBACK");
    }
    assert!(unexpected.is_empty(), "{} pairs: {unexpected:#?}", unexpected.len());
}

fn tenants_from_spares_do_not_wait(db: &Db) {
    run(&mut db.superuser(), "SELECT tenant_spares_fill(2)");
    let (mut first, mut second) = (db.superuser(), db.superuser());
    run(&mut first, "BEGIN; SELECT tenant_create('first', 'First')");
    run(
        &mut second,
        "SET lock_timeout = '400ms'; SELECT tenant_create('second', 'Second'); SELECT tenant_create('third', 'Third')",
    );
    run(&mut first, "COMMIT");
    assert_eq!(one::<i64>(&mut second, "SELECT count(*) FROM tenant_list()", &[]), 3);
}

/// Each owner role is a member of one group role. Concurrent creations lose no membership.
fn two_sessions_create_at_once(db: &Db) {
    let (mut first, mut second) = (db.superuser(), db.superuser());
    run(&mut first, "BEGIN; SELECT tenant_create('a-1', 'A'), tenant_create('a-2', 'A')");
    run(&mut second, "SET lock_timeout = '400ms'; BEGIN; SELECT tenant_create('b-1', 'B')");
    run(&mut first, "SELECT tenant_create('a-3', 'A'); COMMIT");
    run(&mut second, "SELECT tenant_create('b-2', 'B'); COMMIT");
    let mut gone: Client = db.superuser();
    run(&mut gone, "BEGIN; SELECT tenant_create('c', 'C'); ROLLBACK");
    let members = "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
                   JOIN fluxbase_tenant.tenants t ON r.rolname = 'fluxbase_tenant_' || replace(t.id::text, '-', '')
                   WHERE m.roleid = 'fluxbase_tenant_owner'::regrole";
    assert_eq!(one::<i64>(&mut gone, members, &[]), 5);
    let stale =
        "SELECT count(*) FROM pg_auth_members m WHERE NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = m.member)";
    assert_eq!(one::<i64>(&mut gone, stale, &[]), 0);
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND pid = pg_backend_pid()";
    assert_eq!(one::<i64>(&mut gone, held, &[]), 0);
}

/// A client that does not wait for locks.
fn without_waiting(db: &Db) -> Client {
    let mut client = db.superuser();
    run(&mut client, "SET lock_timeout = '400ms'");
    client
}

fn slugs_held_by_open_transactions(db: &Db) {
    let tenant = db.new_tenant("test", new_user());
    run(&mut db.superuser(), "SELECT tenant_spares_fill(1)");
    let mut client = without_waiting(db);
    // The open transaction has changed the tenant with the slug, is about to release the slug, or is about to take it.
    for (number, open) in [
        format!("tenant_update('{tenant}', 'Test')"),
        format!("tenant_soft_delete('{tenant}')"),
        "tenant_create('next', 'Next')".into(),
    ]
    .into_iter()
    .enumerate()
    {
        let (name, slug, free) = if number < 2 { ("Test", "test", "test-2") } else { ("Next", "next", "next-2") };
        let mut holder = db.superuser();
        run(&mut holder, &format!("BEGIN; SELECT {open}"));
        for from_spare in [false, true] {
            run(&mut client, &format!("BEGIN; SELECT tenant_spares_fill({})", i32::from(from_spare)));
            let made = format!("SELECT slug FROM tenant_create(name => '{name}')");
            assert_eq!(one::<String>(&mut client, &made, &[]), free, "{open}");
            let taken = client.batch_execute(&format!("SELECT tenant_create('{slug}', 'X')"));
            expect_refusal(taken, "conflict").message_has("is taken");
            run(&mut client, "ROLLBACK");
        }
        run(&mut holder, "ROLLBACK");
    }
    run(&mut client, "SELECT tenant_create('next', 'Next')");
}

fn schemas_created_by_open_transactions(db: &Db) {
    let mut holder = db.superuser();
    run(&mut holder, "BEGIN; CREATE SCHEMA cust_acme");
    let mut client = without_waiting(db);
    run(&mut client, "SET fluxbase_tenant.schema_prefix = 'cust_'");
    let id: Uuid = one(&mut client, "SELECT id FROM tenant_create('acme', 'Acme')", &[]);
    assert!(db.schema_of(id).starts_with("cust_acme_"));
    run(&mut holder, "ROLLBACK");
}

/// The limit is enforced by counting tenants that may still be committed, not by locking out other sessions.
fn limit_of_tenants(db: &Db) {
    db.configure("fluxbase_tenant.max_tenants", "3");
    let tenant = db.new_tenant("one", new_user());
    let mut holder = db.superuser();
    run(
        &mut holder,
        &format!("BEGIN; SELECT tenant_create('two', 'Two'); SELECT tenant_update('{tenant}', 'Other name')"),
    );
    let mut client = without_waiting(db);
    run(&mut client, "SELECT tenant_create('three', 'Three')");
    let refused = |client: &mut Client| {
        expect_refusal(client.batch_execute("SELECT tenant_create('more', 'More')"), "conflict")
            .message_has("limit of 3")
    };
    refused(&mut client);
    // Neither a spare nor one that is being created counts as a tenant.
    let mut filling = db.superuser();
    run(&mut holder, "ROLLBACK");
    run(&mut filling, "BEGIN; SELECT tenant_spares_fill(1)");
    run(&mut client, "SELECT tenant_create('four', 'Four')");
    run(&mut filling, "COMMIT");
    refused(&mut client);
    let deleted: Uuid =
        one(&mut client, "SELECT id FROM tenant_delete((SELECT id FROM tenant_get_by_slug('four')))", &[]);
    assert_ne!(deleted, tenant);
    run(&mut client, "SELECT tenant_create('five', 'Five')");
}

/// Registering such a migration waits for no tenant that another transaction has changed, and does not block changes to
/// tenants.
fn changed_repeatable_migration(db: &Db) {
    let add =
        |n: i32| format!("SELECT tenant_migration_add('R__v', 'v', 'CREATE OR REPLACE VIEW v AS SELECT {n} AS n')");
    run(&mut db.superuser(), &add(1));
    let (first, second) = (db.new_tenant("first", new_user()), db.new_tenant("second", new_user()));
    let member = db.new_member(second);
    let mut holder = db.as_user(member);
    run(&mut holder, &format!("BEGIN; SELECT tenant_leave('{second}')"));
    let mut deploying = without_waiting(db);
    run(&mut deploying, &format!("BEGIN; {}", add(2)));
    run(&mut without_waiting(db), &format!("SELECT tenant_add_member('{first}', '{}')", new_user()));
    run(&mut deploying, "COMMIT");
    run(&mut holder, "COMMIT");
    let pending = "SELECT sum(pending)::bigint FROM tenant_migration_status()";
    assert_eq!(one::<i64>(&mut db.superuser(), pending, &[]), 2);
    run(&mut db.superuser(), "SELECT tenant_migrate_all()");
    assert_eq!(one::<i64>(&mut db.superuser(), pending, &[]), 0);
    assert_eq!(one::<i32>(&mut db.superuser(), "SELECT n FROM tenant_second.v", &[]), 2);
}

/// If the version is known to be applied, the error is immediate. Otherwise it follows after some seconds.
fn migration_removed_while_applied(db: &Db) {
    let add = |version: &str| format!("SELECT tenant_migration_add('{version}', 'n', 'SELECT 1')");
    run(&mut db.superuser(), &add("1"));
    db.new_tenant("first", new_user());
    let mut client = db.superuser();
    let refused = |client: &mut Client, version: &str, message: &str| {
        let removed = client.batch_execute(&format!("SELECT tenant_migration_remove('{version}')"));
        expect_refusal(removed, "conflict").message_has(message);
    };
    for spares in [0, 1] {
        run(&mut db.superuser(), &format!("SELECT tenant_spares_fill({spares})"));
        run(&mut db.superuser(), &add("2"));
        let mut holder = db.superuser();
        run(&mut holder, "BEGIN; SELECT tenant_create('held', 'Held')");
        run(&mut client, "SET lock_timeout = '400ms'");
        refused(&mut client, "1", "is applied to 1 tenants");
        run(&mut client, "RESET lock_timeout");
        refused(&mut client, "2", "is being applied by transactions that have not ended");
        run(&mut holder, "ROLLBACK");
        run(&mut client, "SELECT tenant_migration_remove('2')");
    }
}

/// From PostgreSQL 16 on, GRANT of a role locks it until the transaction ends, and every tenant_create() grants the
/// group.
fn owner_role_added_to_its_group_by_repair(db: &Db) {
    let tenant = db.new_tenant("acme", new_user());
    run(&mut db.superuser(), &format!("REVOKE fluxbase_tenant_owner FROM {}", Db::owner_role(tenant)));
    let mut repairing = db.superuser();
    run(&mut repairing, "BEGIN");
    let problem: String = one(&mut repairing, "SELECT problem FROM tenant_repair($1)", &[&tenant]);
    assert_eq!(problem, "is not a member of fluxbase_tenant_owner");
    run(&mut without_waiting(db), "SELECT tenant_create('other', 'Other')");
    run(&mut repairing, "COMMIT");
    assert_eq!(repairing.query("SELECT * FROM tenant_repair($1)", &[&tenant]).unwrap().len(), 0);
}
