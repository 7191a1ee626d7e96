//! Creating and dropping the extension. Dropping it never drops tenant data.

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::{Db, expect_error};

cases![
    refused_while_tenant_tables_exist,
    defaults_of_serial_columns_stay,
    recreated_after_all_tenants_are_deleted,
    created_in_another_schema,
    created_in_two_databases_at_once,
    only_a_superuser_creates_it,
    every_function_has_a_comment,
];

fn refused_while_tenant_tables_exist(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('kept')");
    let id = db.new_tenant("acme", new_user());
    let refusal = expect_error(db.superuser().batch_execute("DROP EXTENSION fluxbase_tenant"), "2BP01");
    refusal.detail_has("tenant_acme.notes");
    expect_error(db.superuser().batch_execute("DROP SCHEMA fluxbase_tenant"), "2BP01");
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM tenant_acme.notes", &[]), 1);

    // CASCADE drops the policies, which depend on the extension. The data stays, and row-level security without a
    // policy denies access to all roles except superusers.
    run(&mut db.superuser(), "DROP EXTENSION fluxbase_tenant CASCADE");
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM tenant_acme.notes", &[]), 1);
    assert_eq!(reached(&mut db.user_role(), "tenant_acme.notes"), 0);
    assert_eq!(db.traces_without_catalog(id, "tenant_acme"), 2);
}

fn defaults_of_serial_columns_stay(db: &Db) {
    db.add_migration(
        "1",
        "CREATE TABLE notes (id bigserial PRIMARY KEY, body text);
         CREATE TABLE parts (n serial, d int DEFAULT 1 + nextval('parts_n_seq')) PARTITION BY LIST (n); CREATE TABLE part PARTITION OF parts DEFAULT",
    );
    db.new_tenant("acme", new_user());
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        "INSERT INTO tenant_acme.notes (body) VALUES ('before'); INSERT INTO tenant_acme.parts DEFAULT VALUES",
    );
    run(&mut superuser, "DROP EXTENSION fluxbase_tenant CASCADE");
    let next = "INSERT INTO tenant_acme.notes (body) VALUES ('after') RETURNING id";
    assert_eq!(one::<i64>(&mut superuser, next, &[]), 2);
    assert_eq!(one::<i32>(&mut superuser, "INSERT INTO tenant_acme.parts DEFAULT VALUES RETURNING d - n", &[]), 2);
    assert_eq!(one::<i32>(&mut superuser, "INSERT INTO tenant_acme.part DEFAULT VALUES RETURNING d - n", &[]), 2);
}

fn recreated_after_all_tenants_are_deleted(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    run(&mut db.admin(), &format!("SELECT tenant_delete('{id}')"));
    run(&mut db.superuser(), "DROP EXTENSION fluxbase_tenant");
    let left: Vec<String> = column(
        &mut db.superuser(),
        "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'fluxbase%'
         UNION ALL SELECT proname::text FROM pg_proc WHERE proname LIKE 'tenant\\_%'
         UNION ALL SELECT evtname::text FROM pg_event_trigger WHERE evtname LIKE 'fluxbase%'",
        &[],
    );
    assert!(left.is_empty(), "{left:?}");
    run(&mut db.superuser(), "CREATE EXTENSION fluxbase_tenant");
    db.new_tenant("acme", new_user());
}

fn created_in_another_schema(db: &Db) {
    let db = Db::empty(&db.cluster);
    run(&mut db.superuser(), "CREATE SCHEMA \"My Apps\"; CREATE EXTENSION fluxbase_tenant SCHEMA \"My Apps\"");
    let mut admin = db.admin();
    run(&mut admin, "SET search_path = ''");
    let add = "SELECT \"My Apps\".tenant_migration_add('1', 'n',
               'CREATE TABLE notes (tenant uuid DEFAULT tenant_current_id(), body text)')";
    run(&mut admin, add);
    run(&mut admin, "SELECT \"My Apps\".tenant_create('acme', 'Acme')");
    let user = new_user();
    run(&mut admin, &format!("SELECT \"My Apps\".tenant_add_member(id, '{user}') FROM \"My Apps\".tenant_list()"));
    let mut client = db.as_user(user);
    run(&mut client, "SELECT \"My Apps\".tenant_set_current('acme'); INSERT INTO notes (body) VALUES ('x')");
    let seen = "SELECT count(*) FROM notes WHERE tenant = \"My Apps\".tenant_current_id()";
    assert_eq!(one::<i64>(&mut client, seen, &[]), 1);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM fluxbase_tenant.tenants", &[]), 1);
    expect_error(db.superuser().batch_execute("ALTER EXTENSION fluxbase_tenant SET SCHEMA public"), "0A000");
}

/// Roles and grants on settings belong to the cluster, so concurrent creations in two databases conflict there.
fn created_in_two_databases_at_once(db: &Db) {
    let (first, second) = (Db::empty(&db.cluster), Db::empty(&db.cluster));
    let mut leading = first.superuser();
    run(&mut leading, "BEGIN; CREATE EXTENSION fluxbase_tenant");
    std::thread::scope(|scope| {
        let following = scope.spawn(|| second.superuser().batch_execute("CREATE EXTENSION fluxbase_tenant"));
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = $1 AND wait_event_type = 'Lock')";
        until("the second creation waits", || one::<bool>(&mut db.superuser(), waits, &[&second.name()]));
        run(&mut leading, "COMMIT");
        following.join().unwrap().unwrap();
    });
    second.new_tenant("acme", new_user());
}

fn only_a_superuser_creates_it(db: &Db) {
    let db = Db::empty(&db.cluster);
    for mut client in [db.admin(), db.server(), db.user_role()] {
        expect_error(client.batch_execute("CREATE EXTENSION fluxbase_tenant"), "42501");
    }
}

fn every_function_has_a_comment(db: &Db) {
    let bare: Vec<String> = column(
        &mut db.superuser(),
        "SELECT p.oid::regprocedure::text FROM pg_proc p
         JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
         JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'fluxbase_tenant'
         WHERE coalesce(obj_description(p.oid, 'pg_proc'), '') = ''",
        &[],
    );
    assert!(bare.is_empty(), "without COMMENT ON: {bare:?}");
}
