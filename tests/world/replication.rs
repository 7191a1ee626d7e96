//! With session_replication_role = replica, under logical replication and with disabled triggers, caches are still
//! invalidated and new objects still get their policies.

use std::sync::Arc;
use std::time::Duration;

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::{Cluster, Db, expect_error};

cases![
    access_removed_by_a_replica_session,
    access_removed_while_triggers_are_disabled,
    access_removed_by_logical_replication,
    tables_of_tenants_are_replicated,
    objects_created_by_a_replica_session_are_protected,
];

struct World {
    acme: Uuid,
    member: Uuid,
}

fn world(db: &Db) -> World {
    db.add_migration("1", "CREATE TABLE notes (n int PRIMARY KEY); INSERT INTO notes VALUES (1)");
    let acme = db.new_tenant("acme", new_user());
    World { acme, member: db.new_member(acme) }
}

/// Opens a session of the member that has a cached answer.
fn open(db: &Db, world: &World) -> Client {
    let mut open = db.as_user(world.member);
    assert_eq!(reached(&mut open, "tenant_acme.notes"), 1);
    open
}

fn access_removed_by_a_replica_session(db: &Db) {
    let world = world(db);
    let World { acme, member } = world;
    for (out, back) in [
        (
            format!("SELECT tenant_remove_member('{acme}', '{member}')"),
            format!("SELECT tenant_add_member('{acme}', '{member}')"),
        ),
        (format!("SELECT tenant_suspend('{acme}')"), format!("SELECT tenant_resume('{acme}')")),
        (format!("SELECT tenant_soft_delete('{acme}')"), format!("SELECT tenant_restore('{acme}')")),
        (
            format!(
                "CREATE TABLE kept AS SELECT * FROM fluxbase_tenant.members; DELETE FROM fluxbase_tenant.members WHERE user_id = '{member}'"
            ),
            format!(
                "INSERT INTO fluxbase_tenant.members SELECT * FROM kept WHERE user_id = '{member}'; DROP TABLE kept"
            ),
        ),
        (
            "CREATE TABLE kept AS SELECT * FROM fluxbase_tenant.members; TRUNCATE fluxbase_tenant.members".to_string(),
            "INSERT INTO fluxbase_tenant.members SELECT * FROM kept; DROP TABLE kept".to_string(),
        ),
        (
            format!("UPDATE fluxbase_tenant.members SET user_id = '{}' WHERE user_id = '{member}'", Uuid::nil()),
            format!("UPDATE fluxbase_tenant.members SET user_id = '{member}' WHERE user_id = '{}'", Uuid::nil()),
        ),
    ] {
        let mut open = open(db, &world);
        let mut replica = db.superuser();
        run(&mut replica, "SET session_replication_role = replica");
        run(&mut replica, &out);
        expect_error(open.query("SELECT * FROM tenant_acme.notes", &[]), "42501");
        run(&mut replica, &back);
        assert_eq!(reached(&mut open, "tenant_acme.notes"), 1, "{back}");
    }
}

/// Disables triggers as pg_restore --disable-triggers does.
fn access_removed_while_triggers_are_disabled(db: &Db) {
    let world = world(db);
    let mut open = open(db, &world);
    run(
        &mut db.superuser(),
        &format!(
            "ALTER TABLE fluxbase_tenant.members DISABLE TRIGGER ALL;
             DELETE FROM fluxbase_tenant.members WHERE user_id = '{}';
             ALTER TABLE fluxbase_tenant.members ENABLE ALWAYS TRIGGER catalog_changed",
            world.member
        ),
    );
    expect_error(open.query("SELECT * FROM tenant_acme.notes", &[]), "42501");
}

/// A publisher and a subscriber, which has the publisher's objects but no rows.
struct Replicated {
    own: Arc<Cluster>,
    publisher: Db,
    subscriber: Db,
    world: World,
}

impl Replicated {
    fn new(db: &Db) -> Replicated {
        let own = Cluster::start(db.install(), &["wal_level = logical"]);
        let publisher = Db::new(&own);
        let world = world(&publisher);
        let file = own.folder().join("copy.sql");
        publisher.tool("pg_dump", &["--schema-only", "--file", file.to_str().unwrap()]);
        let subscriber = Db::empty(&own);
        subscriber.tool("psql", &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", file.to_str().unwrap()]);
        run(&mut subscriber.superuser(), "DELETE FROM fluxbase_tenant.tenant_limit");
        Replicated { own, publisher, subscriber, world }
    }

    fn subscribe(&self, schemas: &str, options: &str) {
        let publish = format!("CREATE PUBLICATION copy FOR TABLES IN SCHEMA {schemas}");
        run(&mut self.publisher.superuser(), &publish);
        run(&mut self.publisher.superuser(), "SELECT pg_create_logical_replication_slot('copy', 'pgoutput')");
        let (folder, port, name) = (self.own.folder().display(), self.publisher.port(), self.publisher.name());
        run(
            &mut self.subscriber.superuser(),
            &format!(
                "CREATE SUBSCRIPTION copy CONNECTION 'host={folder} port={port} dbname={name} user=postgres' PUBLICATION copy
                 WITH (create_slot = false, slot_name = 'copy'{options})"
            ),
        );
    }

    fn unsubscribe(&self) {
        run(&mut self.subscriber.superuser(), "ALTER SUBSCRIPTION copy DISABLE");
        run(&mut self.subscriber.superuser(), "ALTER SUBSCRIPTION copy SET (slot_name = NONE)");
        run(&mut self.subscriber.superuser(), "DROP SUBSCRIPTION copy");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The subscriber's apply worker fires only row triggers that are enabled ALWAYS.
fn access_removed_by_logical_replication(db: &Db) {
    let replicated = Replicated::new(db);
    let Replicated { publisher, subscriber, world, .. } = &replicated;
    run(&mut subscriber.superuser(), "INSERT INTO tenant_acme.notes VALUES (1)");
    replicated.subscribe("fluxbase_tenant", "");
    let mut reader = subscriber.as_user(world.member);
    until("the catalog has arrived", || reached(&mut reader, "tenant_acme.notes") == 1);
    run(&mut publisher.superuser(), &format!("SELECT tenant_remove_member('{}', '{}')", world.acme, world.member));
    until("the removal has arrived", || reached(&mut reader, "tenant_acme.notes") == 0);
    run(&mut publisher.superuser(), &format!("SELECT tenant_add_member('{}', '{}')", world.acme, world.member));
    until("the member is back", || reached(&mut reader, "tenant_acme.notes") == 1);
    drop(reader);
    replicated.unsubscribe();
}

/// From PostgreSQL 16 on, rows are applied as the owner of the table unless run_as_owner is set. PostgreSQL refuses that
/// for a table whose policies apply to its owner.
fn tables_of_tenants_are_replicated(db: &Db) {
    let replicated = Replicated::new(db);
    let Replicated { publisher, subscriber, world, .. } = &replicated;
    let options = if db.major() >= 16 { ", run_as_owner = true" } else { "" };
    replicated.subscribe("fluxbase_tenant, tenant_acme", options);
    let mut reader = subscriber.as_user(world.member);
    until("the row has arrived", || reached(&mut reader, "tenant_acme.notes") == 1);
    run(
        &mut publisher.as_user(world.member),
        "INSERT INTO tenant_acme.notes VALUES (2); DELETE FROM tenant_acme.notes WHERE n = 1",
    );
    until("the change has arrived", || column::<i32>(&mut reader, "SELECT n FROM tenant_acme.notes", &[]) == [2]);
    assert_eq!(reached(&mut subscriber.as_user(new_user()), "tenant_acme.notes"), 0);
    drop(reader);
    replicated.unsubscribe();
}

fn objects_created_by_a_replica_session_are_protected(db: &Db) {
    let World { acme, .. } = world(db);
    let mut replica = db.superuser();
    run(
        &mut replica,
        "CREATE TABLE events (n int) PARTITION BY LIST (n); SELECT tenant_protect('events'); SET session_replication_role = replica;
         CREATE TABLE tenant_acme.loaded (body text); CREATE TABLE tenant_acme.copied AS SELECT 1 AS n;
         CREATE TABLE public.moved (n int); ALTER TABLE public.moved SET SCHEMA tenant_acme;
         CREATE VIEW tenant_acme.v AS SELECT * FROM tenant_acme.notes;
         CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1)",
    );
    let globex: Uuid = one(&mut replica, "SELECT id FROM tenant_create('globex', 'Globex')", &[]);
    for tenant in [acme, globex] {
        db.assert_tables_are_protected(tenant);
    }
    let bare = "SELECT count(*) FROM tenant_check() WHERE problem LIKE '%polic%' OR problem LIKE '%security%'";
    assert_eq!(one::<i64>(&mut db.superuser(), bare, &[]), 0);
    let weaken = "SET session_replication_role = replica; DROP POLICY tenant_isolation ON tenant_acme.loaded";
    run(
        &mut db.superuser(),
        "SET client_min_messages = error; GRANT SET ON PARAMETER session_replication_role TO fluxbase_tenant_owner",
    );
    expect_error(db.try_migration(acme, weaken), "42501");
    run(&mut db.superuser(), "REVOKE SET ON PARAMETER session_replication_role FROM fluxbase_tenant_owner");
}
