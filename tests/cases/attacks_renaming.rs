//! Schemas that are renamed while the extension's own commands wait: names come to mean tables of others.

use std::time::Duration;

use crate::cases;
use crate::support::people::{one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![protect, unprotect, partitions_that_are_attached];

/// The thief's partitioned table `lair.t`, and a schema `trap` of the thief's with a shared table of a superuser's by the
/// name of a partition.
fn world(db: &Db) -> Scene<'_> {
    let scene = Scene::set(db);
    let (role, victim) = (&scene.role, scene.victim);
    run(&mut db.superuser(), &format!("GRANT CREATE ON DATABASE {} TO {role}", db.name()));
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.t (n int, thief uuid) PARTITION BY LIST (n); CREATE TABLE lair.a PARTITION OF lair.t FOR VALUES IN (1);
         CREATE TABLE lair.b PARTITION OF lair.t FOR VALUES IN (2); CREATE TABLE lair.c (n int, thief uuid);
         CREATE SCHEMA trap; GRANT ALL ON SCHEMA trap TO PUBLIC; CREATE TABLE trap.a (n int, thief uuid);
         CREATE TABLE trap.t (n int, thief uuid); CREATE TABLE trap.c (n int, thief uuid)",
    );
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE trap.b (n int, thief uuid, secret text); SELECT tenant_protect('trap.b');
             GRANT SELECT ON trap.b TO fluxbase_tenant_user; INSERT INTO trap.b VALUES (1, NULL, 'of the victim', '{victim}')"
        ),
    );
    scene
}

const POLICY: &str = "SELECT string_agg(polname || ' ' || pg_get_expr(polqual, polrelid), ';' ORDER BY polname)
                      FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_attribute a ON a.attrelid = c.oid
                      WHERE a.attname = 'secret' AND c.relrowsecurity AND c.relforcerowsecurity";

/// The call waits for the thief, who then renames. It is refused, or has changed nothing but the thief's own tables.
fn renamed_while(scene: &Scene, prepare: &str, call: &str) {
    let before: String = one(&mut scene.db.superuser(), POLICY, &[]);
    let mut thief = scene.thief();
    run(&mut thief, &format!("BEGIN; LOCK TABLE lair.a; {prepare}"));
    std::thread::scope(|scope| {
        let calling = scope.spawn(|| {
            let mut superuser = scene.db.superuser();
            superuser.batch_execute(&call.replace("{role}", &scene.role))
        });
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
        while !one::<bool>(&mut scene.db.superuser(), waits, &[]) {
            std::thread::sleep(Duration::from_millis(10));
        }
        run(&mut thief, "ALTER SCHEMA lair RENAME TO old; ALTER SCHEMA trap RENAME TO lair; COMMIT");
        if let Err(error) = calling.join().unwrap() {
            expect_error(Err::<(), _>(error), "55000").message_has("renamed meanwhile");
        }
    });
    assert_eq!(one::<String>(&mut scene.db.superuser(), POLICY, &[]), before);
    assert_eq!(one::<i64>(&mut scene.thief(), "SELECT count(*) FROM lair.b", &[]), 0);
}

fn protect(db: &Db) {
    let scene = world(db);
    renamed_while(&scene, "", "SELECT tenant_protect('lair.t', 'thief')");
}

fn unprotect(db: &Db) {
    let scene = world(db);
    run(&mut db.superuser(), "SELECT tenant_protect('lair.t')");
    let drop = "DROP POLICY tenant_isolation ON lair.t; DROP POLICY tenant_isolation ON lair.a; DROP POLICY tenant_isolation ON lair.b";
    renamed_while(&scene, drop, "SELECT tenant_unprotect('lair.t')");
}

fn partitions_that_are_attached(db: &Db) {
    let scene = world(db);
    run(
        &mut scene.thief(),
        "CREATE POLICY tenant_isolation ON lair.t AS RESTRICTIVE USING (thief = ANY ((SELECT fluxbase_tenant.reachable_tenant_ids())::uuid[]));
         DROP POLICY IF EXISTS tenant_isolation ON lair.a; DROP POLICY IF EXISTS tenant_isolation ON lair.b",
    );
    let attach = "SET SESSION AUTHORIZATION {role}; ALTER TABLE lair.t ATTACH PARTITION lair.c FOR VALUES IN (9)";
    renamed_while(&scene, "", attach);
}
