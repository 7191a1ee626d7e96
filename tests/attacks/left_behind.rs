//! What a role has left behind while it had a privilege must not run, after the privilege was revoked, with the rights
//! of another role. And nothing of a deleted tenant is left behind by transactions that were open when it was deleted.

use std::time::Duration;

use crate::cases;
use crate::support::people::{column, one, run};
use crate::support::removal::{left, removed};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error, expect_refusal};

cases![
    triggers_made_before_trigger_was_revoked,
    tables_planted_before_create_was_revoked,
    grants_to_an_owner_role,
    tables_rebuilt_by_a_role_that_may_maintain_them,
    a_table_protected_beside_a_deletion,
    a_partition_attached_beside_a_removal,
    an_id_used_again_under_an_old_snapshot,
];

/// The condition runs text of the thief's, with built-in functions only, and so does not show who made the trigger.
const CONDITION: &str =
    "WHEN (ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, ''b''::tsquery FROM (SELECT lair.evil()) x') IS NULL)
     EXECUTE FUNCTION suppress_redundant_updates_trigger()";

fn plant_evil(scene: &Scene) {
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.loot (who text); GRANT INSERT, SELECT ON lair.loot TO PUBLIC;
         CREATE FUNCTION lair.evil() RETURNS int LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO lair.loot VALUES (current_user); RETURN 1; END $$",
    );
}

fn loot(db: &Db) -> i64 {
    one(&mut db.superuser(), "SELECT count(*) FROM lair.loot", &[])
}

fn triggers_made_before_trigger_was_revoked(db: &Db) {
    let scene = Scene::set(db);
    let keeper = format!("keeper_of_{}", db.name());
    plant_evil(&scene);
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE {keeper}; CREATE TABLE events (n int, tenant_id uuid); INSERT INTO events VALUES (1);
             CREATE TABLE jobs (n int); SELECT tenant_protect('jobs'); ALTER TABLE jobs OWNER TO {keeper};
             GRANT ALL ON events, jobs TO {}",
            scene.role
        ),
    );
    run(
        &mut scene.thief(),
        &format!(
            "CREATE TRIGGER t BEFORE UPDATE ON events FOR EACH ROW {CONDITION};
             CREATE TRIGGER t BEFORE DELETE ON jobs FOR EACH ROW {CONDITION}"
        ),
    );
    run(&mut db.superuser(), &format!("REVOKE ALL ON events, jobs FROM {}", scene.role));
    let protect = format!("SELECT tenant_protect('events', existing_rows => '{}')", scene.victim);
    expect_refusal(db.superuser().batch_execute(&protect), "conflict").hint_has("Fill the column");
    run(&mut db.superuser(), "ALTER TABLE events DISABLE TRIGGER t");
    run(&mut db.superuser(), &protect);
    let doomed = db.new_tenant("doomed", scene.crook);
    run(&mut db.superuser(), &format!("INSERT INTO jobs VALUES (1, '{doomed}'); SELECT tenant_delete('{doomed}')"));
    removed(db);
    assert_eq!(left(db, "jobs", doomed), 0);
    assert_eq!(loot(db), 0);
    // The trigger works: a DELETE by its maker fires it.
    run(&mut db.superuser(), &format!("GRANT SELECT, DELETE ON jobs TO {}", scene.role));
    run(&mut db.superuser(), &format!("INSERT INTO jobs VALUES (1, '{}')", scene.thief));
    run(&mut scene.thief(), "DELETE FROM jobs");
    assert_eq!(loot(db), 1);
}

/// The owner's trigger does not qualify the name of the table that it writes to.
fn tables_planted_before_create_was_revoked(db: &Db) {
    let scene = Scene::set(db);
    let keeper = format!("keeper_of_{}", db.name());
    plant_evil(&scene);
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE {keeper}; CREATE SCHEMA app AUTHORIZATION {keeper}; CREATE SCHEMA common; GRANT ALL ON SCHEMA common TO PUBLIC;
             ALTER DATABASE {} SET search_path = common, app, public; SET ROLE {keeper};
             CREATE TABLE app.events (n int); CREATE TABLE app.audit (n int);
             CREATE FUNCTION app.log() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO audit VALUES (OLD.n); RETURN NULL; END';
             CREATE TRIGGER log AFTER DELETE ON app.events FOR EACH ROW EXECUTE FUNCTION app.log(); RESET ROLE;
             SELECT tenant_protect('app.events')",
            db.name()
        ),
    );
    run(
        &mut scene.thief(),
        "CREATE TABLE common.audit (n int); GRANT INSERT ON common.audit TO PUBLIC;
         CREATE FUNCTION lair.on_insert() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM lair.evil(); RETURN NEW; END';
         CREATE TRIGGER t BEFORE INSERT ON common.audit FOR EACH ROW EXECUTE FUNCTION lair.on_insert()",
    );
    run(&mut db.superuser(), "REVOKE ALL ON SCHEMA common FROM PUBLIC");
    let doomed = db.new_tenant("doomed", scene.crook);
    run(
        &mut db.superuser(),
        &format!("INSERT INTO app.events VALUES (7, '{doomed}'); SELECT tenant_delete('{doomed}')"),
    );
    removed(db);
    assert_eq!(column::<i32>(&mut db.superuser(), "SELECT n FROM app.audit", &[]), [7]);
    assert_eq!(loot(db), 0);
}

/// DROP OWNED, which removes the role, would lock each of the objects.
fn grants_to_an_owner_role(db: &Db) {
    let scene = Scene::set(db);
    let mut thief = scene.thief();
    run(&mut thief, "CREATE TABLE lair.t (n int)");
    for owner in [Db::owner_role(scene.victim), Db::owner_role(scene.thief)] {
        expect_error(thief.batch_execute(&format!("GRANT SELECT ON lair.t TO {owner}")), "42501");
        let default = format!("ALTER DEFAULT PRIVILEGES IN SCHEMA lair GRANT SELECT ON TABLES TO {owner}");
        expect_error(thief.batch_execute(&default), "42501");
    }
    run(&mut thief, "GRANT SELECT ON lair.t TO fluxbase_tenant_owner, fluxbase_tenant_user");
    run(&mut thief, "REVOKE SELECT ON lair.t FROM fluxbase_tenant_owner");
    // A migration may name its own role, and a superuser any.
    db.add_migration("2", "DO $$ BEGIN EXECUTE format('GRANT SELECT ON notes TO %I', current_user); END $$");
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.thief));
    run(&mut db.superuser(), &format!("GRANT SELECT ON lair.t TO {}", Db::owner_role(scene.victim)));
}

/// VACUUM FULL and CLUSTER lock a table exclusively, and while they wait for a reader of the same role, all others wait.
fn tables_rebuilt_by_a_role_that_may_maintain_them(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE events (n int PRIMARY KEY); SELECT tenant_protect('events'); GRANT ALL ON events TO {};
             ALTER TABLE events CLUSTER ON events_pkey",
            scene.role
        ),
    );
    let mut thief = scene.thief();
    run(&mut thief, "CREATE TABLE lair.own (n int)");
    for command in
        ["VACUUM FULL events", "VACUUM (FULL, ANALYZE) lair.own, events", "VACUUM FULL", "CLUSTER", "CLUSTER events"]
    {
        match db.major() {
            // Before PostgreSQL 17, only the owner may maintain a table. VACUUM skips the tables of others.
            15 | 16 => drop(thief.batch_execute(command)),
            _ => drop(expect_error(thief.batch_execute(command), "42501")),
        }
    }
    run(&mut thief, "VACUUM FULL lair.own");
    run(&mut db.superuser(), "VACUUM FULL events");
    run(&mut db.superuser(), "CLUSTER");
}

/// The table is not registered yet when the tenant is deleted.
fn a_table_protected_beside_a_deletion(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        &format!("CREATE TABLE orders (n int, tenant_id uuid); INSERT INTO orders VALUES (1, '{}')", scene.victim),
    );
    let mut holder = db.superuser();
    run(&mut holder, "BEGIN; SELECT tenant_protect('orders')");
    let mut deleter = db.superuser();
    let delete = format!("SELECT tenant_delete('{}')", scene.victim);
    let deletion = std::thread::spawn(move || deleter.batch_execute(&delete));
    std::thread::sleep(Duration::from_millis(300));
    run(&mut holder, "COMMIT");
    deletion.join().unwrap().unwrap();
    removed(db);
    assert_eq!(left(db, "orders", scene.victim), 0);
}

fn a_partition_attached_beside_a_removal(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        "CREATE TABLE facts (n int NOT NULL) PARTITION BY LIST (n); CREATE TABLE facts_1 PARTITION OF facts FOR VALUES IN (1);
         SELECT tenant_protect('facts')",
    );
    let doomed = db.new_tenant("doomed", scene.crook);
    run(&mut db.superuser(), &format!("INSERT INTO facts VALUES (1, '{doomed}')"));
    let mut holder = db.superuser();
    run(
        &mut holder,
        &format!(
            "BEGIN; CREATE TABLE facts_2 (n int NOT NULL, tenant_id uuid NOT NULL); INSERT INTO facts_2 VALUES (2, '{doomed}');
             ALTER TABLE facts ATTACH PARTITION facts_2 FOR VALUES IN (2)"
        ),
    );
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{doomed}')"));
    std::thread::sleep(Duration::from_secs(1));
    run(&mut holder, "COMMIT");
    removed(db);
    assert_eq!(left(db, "facts", doomed), 0);
}

fn an_id_used_again_under_an_old_snapshot(db: &Db) {
    let scene = Scene::set(db);
    run(&mut db.superuser(), "CREATE TABLE orders (n int); SELECT tenant_protect('orders')");
    run(&mut db.superuser(), &format!("INSERT INTO orders VALUES (1, '{}')", scene.victim));
    let mut old = db.superuser();
    run(&mut old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tenant_list()");
    // The deletion has to leave the rows to the worker, which cannot delete them yet.
    let mut holder = db.superuser();
    run(&mut holder, "BEGIN; LOCK TABLE orders IN SHARE MODE");
    run(&mut db.superuser(), &format!("SELECT tenant_delete('{}')", scene.victim));
    let create = format!("SELECT tenant_create('again', 'Again', id => '{}')", scene.victim);
    expect_refusal(old.batch_execute(&create), "conflict").message_has("a deleted tenant had the id");
    run(&mut old, "ROLLBACK");
    run(&mut holder, "COMMIT");
    removed(db);
    assert_eq!(left(db, "orders", scene.victim), 0);
    run(&mut db.superuser(), &create);
}
