//! Reading functions write nothing and take no lock stronger than SELECT does, so they work on a hot standby.

use std::time::Duration;

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::{Cluster, Db, expect_error};

cases![reading_functions_lock_and_write_nothing, standby_reads_and_refuses_to_write];

/// Reading calls of an instance admin. `{t}` is the tenant's id.
const AS_ADMIN: &[&str] = &[
    "tenant_get('{t}')",
    "tenant_get_by_slug('acme')",
    "tenant_list()",
    "tenant_list_deleted()",
    "tenant_list_admins('{t}')",
    "tenant_list_members('{t}')",
    "tenant_has_access('{t}')",
    "tenant_has_role('{t}', 'tenant_admin')",
    "tenant_is_instance_admin()",
    "tenant_list_instance_admins()",
    "tenant_migration_list()",
    "tenant_migration_status()",
    "tenant_set_current('acme')",
    "tenant_set_current('{t}'::uuid, is_local => true)",
    "tenant_current()",
    "tenant_current_id()",
    "tenant_reset_current()",
];

const AS_USER: &[&str] = &[
    "tenant_get()",
    "tenant_get_by_slug('acme')",
    "tenant_list_mine()",
    "tenant_list_admins()",
    "tenant_list_members()",
    "tenant_current()",
    "tenant_current_id()",
    "tenant_current_user_id()",
    "tenant_has_access('{t}')",
    "tenant_has_role('{t}', 'tenant_admin')",
    "tenant_is_instance_admin()",
    "tenant_set_current('acme')",
    "tenant_reset_current()",
];

const WRITING: &[&str] = &[
    "tenant_create('b', 'B')",
    "tenant_update('{t}', 'New')",
    "tenant_delete('{t}')",
    "tenant_soft_delete('{t}')",
    "tenant_suspend('{t}')",
    "tenant_set_default('{t}')",
    "tenant_assign_admin('{t}', gen_random_uuid())",
    "tenant_add_member('{t}', gen_random_uuid())",
    "tenant_grant_instance_admin(gen_random_uuid())",
    "tenant_migration_add('9', 'nine', 'SELECT 1')",
    "tenant_migrate('{t}')",
    "tenant_repair('{t}')",
    "tenant_migrate_all()",
    "tenant_migration_remove('1')",
    "tenant_rollback('{t}', '0')",
    "tenant_drift()",
    "tenant_purge('0')",
    "tenant_spares_fill(0)",
    "tenant_clone('{t}')",
    "tenant_leave('{t}')",
    "tenant_protect('pg_class')",
];

fn new_tenant_with_notes(db: &Db) -> (Uuid, Uuid) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('x')");
    let user = new_user();
    (user, db.new_tenant("acme", user))
}

#[track_caller]
fn read_all(client: &mut Client, calls: &[&str], tenant: Uuid) {
    for call in calls {
        let sql = format!("SELECT * FROM {}", call.replace("{t}", &tenant.to_string()));
        client.query(&sql, &[]).unwrap_or_else(|e| panic!("{call}: {e:?}"));
    }
}

fn reading_functions_lock_and_write_nothing(db: &Db) {
    let (user, tenant) = new_tenant_with_notes(db);
    for (mut client, calls) in [(db.admin(), AS_ADMIN), (db.as_user(user), AS_USER)] {
        run(&mut client, "BEGIN");
        read_all(&mut client, calls, tenant);
        let locks: Vec<String> = column(
            &mut client,
            "SELECT l.relation::regclass || ' ' || l.mode FROM pg_locks l
             WHERE l.pid = pg_backend_pid() AND l.mode <> 'AccessShareLock' AND l.locktype <> 'virtualxid'",
            &[],
        );
        assert!(locks.is_empty(), "{locks:?}");
        assert_eq!(one::<Option<String>>(&mut client, "SELECT pg_current_xact_id_if_assigned()::text", &[]), None);
        run(&mut client, "COMMIT; BEGIN READ ONLY");
        read_all(&mut client, calls, tenant);
        run(&mut client, "COMMIT");
    }
    let mut admin = db.admin();
    for call in WRITING {
        run(&mut admin, "BEGIN READ ONLY");
        let sql = format!("SELECT * FROM {}", call.replace("{t}", &tenant.to_string()));
        expect_error(admin.query(&sql, &[]), "25006");
        run(&mut admin, "ROLLBACK");
    }
}

fn standby_reads_and_refuses_to_write(db: &Db) {
    let cluster = Cluster::start(db.install(), &["wal_level = replica", "max_wal_senders = 5"]);
    let db = Db::new(&cluster);
    let (user, tenant) = new_tenant_with_notes(&db);
    let standby_cluster = cluster.standby();
    let standby = db.same_on(&standby_cluster);
    read_all(&mut standby.admin(), AS_ADMIN, tenant);
    let mut client = standby.as_user(user);
    read_all(&mut client, AS_USER, tenant);
    run(&mut client, "SELECT tenant_set_current('acme')");
    assert_eq!(reached(&mut client, "notes"), 1);
    assert_eq!(reached(&mut standby.as_user(new_user()), "tenant_acme.notes"), 0);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM fluxbase_tenant.tenants", &[]), 1);
    let mut admin = standby.admin();
    for call in WRITING {
        let sql = format!("SELECT * FROM {}", call.replace("{t}", &tenant.to_string()));
        expect_error(admin.query(&sql, &[]), "25006");
    }

    // Sessions that were open on the standby before see a change on the primary.
    let member = db.new_member(tenant);
    let mut open = standby.as_user(member);
    caught_up(&db, &standby);
    assert_eq!(reached(&mut open, "tenant_acme.notes"), 1);
    run(&mut db.admin(), &format!("SELECT tenant_remove_member('{tenant}', '{member}')"));
    caught_up(&db, &standby);
    assert_eq!(reached(&mut open, "tenant_acme.notes"), 0, "a removed member loses access on the standby too");
}

/// Waits until the standby has replayed everything that the primary has written.
fn caught_up(primary: &Db, standby: &Db) {
    let written: String = one(&mut primary.superuser(), "SELECT pg_current_wal_insert_lsn()::text", &[]);
    run(&mut primary.superuser(), "CHECKPOINT");
    let mut superuser = standby.superuser();
    for _ in 0..400 {
        let replayed = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
        if one(&mut superuser, replayed, &[&written]) {
            return;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("the standby did not catch up");
}
