//! The cache of answers about access. A session sees another session's change from the first statement after that
//! session's commit and not before, and its own changes at once.

use std::fs;

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{new_user, one, reached, run};
use crate::support::tables::act_as;
use crate::support::{Db, expect_error};

cases![
    simple_queries_see_changes,
    prepared_statements_see_changes,
    open_read_committed_transactions_see_changes,
    open_repeatable_read_transactions_see_changes,
    users_without_a_cached_answer_see_changes,
    permanent_deletion_is_seen,
    direct_changes_of_the_catalog_are_seen,
    change_of_role_is_seen,
    membership_in_database_roles_is_seen,
    databases_of_a_cluster_are_independent,
    extension_recreated_in_the_session,
    twenty_thousand_users_do_not_grow_the_cache,
];

struct World {
    acme: Uuid,
    user: Uuid,
    instance_admin: Uuid,
}

/// `user` is a plain member of acme, `instance_admin` an instance admin.
fn world(db: &Db) -> World {
    db.add_migration("1", "CREATE TABLE notes AS SELECT n FROM generate_series(1, 5) n");
    let acme = db.new_tenant("acme", new_user());
    let instance_admin = new_user();
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{instance_admin}')"));
    World { acme, user: db.new_member(acme), instance_admin }
}

impl World {
    /// Returns for each change: the user who loses access, the call that revokes it, and the call that restores it.
    fn changes(&self) -> Vec<(Uuid, String, String)> {
        let World { acme, user, instance_admin } = self;
        vec![
            (
                *user,
                format!("tenant_remove_member('{acme}', '{user}')"),
                format!("tenant_add_member('{acme}', '{user}')"),
            ),
            (*user, format!("tenant_suspend('{acme}')"), format!("tenant_resume('{acme}')")),
            (*user, format!("tenant_soft_delete('{acme}')"), format!("tenant_restore('{acme}')")),
            (
                *instance_admin,
                format!("tenant_revoke_instance_admin('{instance_admin}')"),
                format!("tenant_grant_instance_admin('{instance_admin}')"),
            ),
        ]
    }
}

/// Makes and undoes every change, and checks after each step what the watching session sees. `open` can begin a
/// transaction in that session.
#[track_caller]
fn seen_in_time(db: &Db, open: &str, ask: impl Fn(&mut Client) -> i64) {
    let world = world(db);
    let mut changing = db.admin();
    for (user, lose, regain) in world.changes() {
        let mut watching = db.as_user(user);
        run(&mut watching, open);
        assert_eq!(ask(&mut watching), 5, "before {lose}");
        for (change, expected) in [(&lose, 0), (&regain, 5), (&lose, 0), (&regain, 5)] {
            run(&mut changing, &format!("BEGIN; SELECT {change}"));
            assert_eq!(ask(&mut watching), 5 - expected, "{change} is not committed");
            run(&mut changing, "ROLLBACK");
            assert_eq!(ask(&mut watching), 5 - expected, "{change} was rolled back");
            run(&mut changing, &format!("SELECT {change}"));
            assert_eq!(ask(&mut watching), expected, "{change} is committed");
            assert_eq!(ask(&mut watching), expected, "{change} is still committed");
        }
    }
}

fn refused(error: postgres::Error) -> i64 {
    expect_error(Err::<(), _>(error), "42501");
    0
}

fn simple_queries_see_changes(db: &Db) {
    seen_in_time(db, "", |client| match client.simple_query("SELECT n FROM tenant_acme.notes") {
        Ok(messages) => messages.iter().filter(|m| matches!(m, postgres::SimpleQueryMessage::Row(_))).count() as i64,
        Err(error) => refused(error),
    });
}

fn prepared_statements_see_changes(db: &Db) {
    seen_in_time(
        db,
        "SET plan_cache_mode = force_generic_plan; PREPARE q AS SELECT n FROM tenant_acme.notes",
        |client| match client.query("EXECUTE q", &[]) {
            Ok(rows) => rows.len() as i64,
            Err(error) => refused(error),
        },
    );
}

/// Counts the rows inside a savepoint, because a refusal would abort the transaction.
fn rows_in_savepoint(client: &mut Client) -> i64 {
    run(client, "SAVEPOINT asking");
    let rows = reached(client, "tenant_acme.notes");
    run(client, "ROLLBACK TO asking");
    rows
}

fn open_read_committed_transactions_see_changes(db: &Db) {
    seen_in_time(db, "BEGIN", rows_in_savepoint);
}

fn open_repeatable_read_transactions_see_changes(db: &Db) {
    seen_in_time(
        db,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tenant_acme.notes",
        rows_in_savepoint,
    );
    let mut serializable = db.as_user(plain_member(db));
    run(&mut serializable, "BEGIN ISOLATION LEVEL SERIALIZABLE");
    assert_eq!(rows_in_savepoint(&mut serializable), 5);
    run(&mut db.admin(), "SELECT tenant_suspend(id) FROM tenant_list()");
    assert_eq!(rows_in_savepoint(&mut serializable), 0);
}

fn plain_member(db: &Db) -> Uuid {
    one(&mut db.superuser(), "SELECT user_id FROM fluxbase_tenant.members WHERE role = 'tenant_member'", &[])
}

fn users_without_a_cached_answer_see_changes(db: &Db) {
    let world = world(db);
    let late = new_user();
    let mut client = db.as_user(late);
    run(&mut client, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class");
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{}', '{late}')", world.acme));
    assert_eq!(rows_in_savepoint(&mut client), 5, "access granted after the snapshot is seen, as with GRANT");
}

fn permanent_deletion_is_seen(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.user);
    run(&mut client, &format!("PREPARE q AS SELECT tenant_has_access('{}')", world.acme));
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 5);
    run(&mut db.admin(), &format!("SELECT tenant_delete('{}')", world.acme));
    assert!(!one::<bool>(&mut client, "EXECUTE q", &[]));
    expect_error(client.query("SELECT * FROM tenant_acme.notes", &[]), "42P01");
    // The new schema of the same name belongs to another tenant.
    db.new_tenant("acme", new_user());
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 0);
    assert!(!one::<bool>(&mut client, "EXECUTE q", &[]));
}

fn direct_changes_of_the_catalog_are_seen(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.user);
    let mut superuser = db.superuser();
    for (change, undo) in [
        (
            "DELETE FROM fluxbase_tenant.members",
            format!(
                "INSERT INTO fluxbase_tenant.members (id, tenant_id, user_id, role)
             VALUES (gen_random_uuid(), '{}', '{}', 'tenant_member')",
                world.acme, world.user
            ),
        ),
        (
            "UPDATE fluxbase_tenant.tenants SET suspended_at = now()",
            "UPDATE fluxbase_tenant.tenants SET suspended_at = NULL".into(),
        ),
        ("TRUNCATE fluxbase_tenant.members", String::new()),
    ] {
        assert_eq!(reached(&mut client, "tenant_acme.notes"), 5);
        run(&mut superuser, change);
        assert_eq!(reached(&mut client, "tenant_acme.notes"), 0, "{change}");
        run(&mut superuser, &undo);
    }
}

fn change_of_role_is_seen(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.user);
    let is_admin = "SELECT tenant_has_role($1, 'tenant_admin')";
    for (change, expected) in [("tenant_admin", true), ("tenant_member", false), ("tenant_admin", true)] {
        run(&mut db.admin(), &format!("SELECT tenant_add_member('{}', '{}', '{change}')", world.acme, world.user));
        assert_eq!(one::<bool>(&mut client, is_admin, &[&world.acme]), expected);
    }
}

fn membership_in_database_roles_is_seen(db: &Db) {
    world(db);
    let role = format!("operator_{}", db.name());
    let mut superuser = db.superuser();
    run(&mut superuser, &format!("CREATE ROLE {role} LOGIN IN ROLE fluxbase_tenant_user"));
    let mut client = db.connect_as(&role, "");
    for (change, expected) in [("GRANT fluxbase_tenant_admin TO", 5), ("REVOKE fluxbase_tenant_admin FROM", 0)] {
        assert_eq!(reached(&mut client, "tenant_acme.notes"), 5 - expected);
        run(&mut superuser, &format!("{change} {role}"));
        assert_eq!(reached(&mut client, "tenant_acme.notes"), expected);
    }
    drop(client);
    run(&mut superuser, &format!("DROP ROLE {role}"));
}

fn databases_of_a_cluster_are_independent(db: &Db) {
    let first = world(db);
    let second = Db::new(&db.cluster);
    let other = world(&second);
    for (user, database, expected) in
        [(first.user, db, 5), (first.user, &second, 0), (other.user, db, 0), (other.user, &second, 5)]
    {
        assert_eq!(reached(&mut database.as_user(user), "tenant_acme.notes"), expected);
    }
    let mut watching = second.as_user(other.user);
    assert_eq!(reached(&mut watching, "tenant_acme.notes"), 5);
    run(&mut db.admin(), &format!("SELECT tenant_suspend('{}')", first.acme));
    assert_eq!(reached(&mut watching, "tenant_acme.notes"), 5);
    run(&mut second.admin(), &format!("SELECT tenant_delete('{}')", other.acme));
}

fn extension_recreated_in_the_session(db: &Db) {
    let world = world(db);
    let mut superuser = db.superuser();
    let mut bystander = db.as_user(world.user);
    assert_eq!(reached(&mut bystander, "tenant_acme.notes"), 5);
    run(
        &mut superuser,
        &format!(
            "SET ROLE app_server; SET fluxbase_tenant.user_id = '{}'; SELECT * FROM tenant_acme.notes",
            world.user
        ),
    );
    run(&mut superuser, "RESET ROLE; RESET fluxbase_tenant.user_id; DROP SCHEMA tenant_acme CASCADE");
    run(&mut superuser, "DROP EXTENSION fluxbase_tenant CASCADE; SELECT 1; CREATE EXTENSION fluxbase_tenant");
    let next = new_user();
    db.add_migration("1", "CREATE TABLE notes AS SELECT 1 AS n");
    db.new_tenant("acme", next);
    assert_eq!(reached(&mut bystander, "tenant_acme.notes"), 0);
    act_as(&mut bystander, next);
    assert_eq!(reached(&mut bystander, "tenant_acme.notes"), 1);
    run(&mut superuser, &format!("SET ROLE app_server; SET fluxbase_tenant.user_id = '{next}'"));
    assert_eq!(reached(&mut superuser, "tenant_acme.notes"), 1);
    act_as(&mut superuser, world.user);
    assert_eq!(reached(&mut superuser, "tenant_acme.notes"), 0);
}

/// Returns the private memory of a backend, in kB.
fn memory(pid: i32) -> i64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the backend is alive");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("Linux reports RssAnon");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

fn twenty_thousand_users_do_not_grow_the_cache(db: &Db) {
    let world = world(db);
    run(
        &mut db.superuser(),
        "CREATE TABLE shared (n int); GRANT ALL ON shared TO PUBLIC; SELECT tenant_protect('shared')",
    );
    let mut client = db.server();
    let pid: i32 = one(&mut client, "SELECT pg_backend_pid()", &[]);
    let thousand = format!(
        "DO $$ BEGIN FOR i IN 1..1000 LOOP
             PERFORM set_config('fluxbase_tenant.user_id', gen_random_uuid()::text, false);
             PERFORM tenant_has_access('{}'), tenant_is_instance_admin(), tenant_current_id();
             PERFORM FROM shared;
             BEGIN PERFORM FROM tenant_acme.notes; EXCEPTION WHEN insufficient_privilege THEN NULL; END;
         END LOOP; END $$",
        world.acme
    );
    let mut after = Vec::new();
    for _ in 0..20 {
        run(&mut client, &thousand);
        after.push(memory(pid));
    }
    // The first few thousand users fill the cache. After that, even a single byte per user would add up and be seen.
    let grown = after[19] - after[4];
    assert!(grown < 512, "15,000 more users cost {grown} kB: {after:?}");
    act_as(&mut client, world.user);
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 5);
}
