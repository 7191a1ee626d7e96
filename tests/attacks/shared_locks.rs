//! What members could do to all rows of a shared table without reading any: block access to them, and truncate them.

use crate::cases;
use crate::support::people::{one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![strong_lock_modes, commands_that_lock_before_they_check, grants_on_all_tables, truncate];

/// Creates a shared table that the thief may write to.
fn shared_by_all(db: &Db, grants: &str) {
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE events (id serial PRIMARY KEY, happened text) PARTITION BY RANGE (id);
             CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (1000);
             GRANT {grants} ON events, events_1 TO fluxbase_tenant_user;
             CREATE VIEW recent AS SELECT * FROM events; GRANT {grants} ON recent TO fluxbase_tenant_user;
             SELECT tenant_protect('events')"
        ),
    );
}

/// UPDATE, which members need, is sufficient for every lock mode.
fn strong_lock_modes(db: &Db) {
    let scene = Scene::set(db);
    shared_by_all(db, "SELECT, INSERT, UPDATE, DELETE");
    run(&mut scene.thief(), "CREATE TABLE lair.own (id int)");
    for mode in ["SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"] {
        for table in ["events", "ONLY events", "events_1", "lair.own, events", "recent"] {
            let lock = format!("BEGIN; LOCK TABLE {table} IN {mode} MODE NOWAIT");
            expect_error(scene.thief().batch_execute(&lock), "42501");
        }
        run(&mut scene.thief(), &format!("BEGIN; LOCK TABLE lair.own IN {mode} MODE; ROLLBACK"));
        run(&mut db.superuser(), &format!("BEGIN; LOCK TABLE events, events_1 IN {mode} MODE; ROLLBACK"));
    }
    for mode in ["ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE"] {
        run(&mut scene.thief(), &format!("BEGIN; LOCK TABLE events, events_1, recent IN {mode} MODE; ROLLBACK"));
    }
    run(&mut db.superuser(), &format!("ALTER TABLE events OWNER TO {}", scene.role));
    run(&mut scene.thief(), "BEGIN; LOCK TABLE ONLY events; ROLLBACK");
}

/// A grant without effect still locks the table's pg_class row.
fn grants_on_all_tables(db: &Db) {
    let scene = Scene::set(db);
    shared_by_all(db, "SELECT, INSERT");
    for command in
        ["GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}", "REVOKE SELECT ON ALL TABLES IN SCHEMA public FROM {}"]
    {
        let command = command.replace("{}", &scene.role);
        expect_error(scene.thief().batch_execute(&command), "42501");
        run(&mut db.superuser(), &command);
    }
    run(&mut scene.thief(), "CREATE TABLE lair.own (i int); GRANT SELECT ON ALL TABLES IN SCHEMA lair TO PUBLIC");
}

/// PostgreSQL would wait for the lock, with other sessions queued after it, and only then deny permission.
fn commands_that_lock_before_they_check(db: &Db) {
    let scene = Scene::set(db);
    shared_by_all(db, "SELECT, INSERT");
    run(&mut db.superuser(), &format!("GRANT CREATE ON SCHEMA public TO {}", scene.role));
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.parent (LIKE events) PARTITION BY LIST (id); CREATE INDEX ids ON ONLY lair.parent (id);
         CREATE TABLE own (id int NOT NULL); CREATE UNIQUE INDEX own_ids ON own (id)",
    );
    let mut holder = db.superuser();
    run(
        &mut holder,
        "BEGIN; SELECT FROM recent; INSERT INTO events (happened, tenant_id) SELECT 'x', id FROM tenant_list() LIMIT 1",
    );
    for command in [
        "CREATE RULE r AS ON INSERT TO events DO NOTHING",
        "ALTER TABLE lair.parent ATTACH PARTITION events_1 FOR VALUES IN (1)",
        "CREATE TRIGGER t AFTER INSERT ON events EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE TABLE lair.k (i int REFERENCES events)",
        "CREATE TABLE lair.k (i int); ALTER TABLE lair.k ADD FOREIGN KEY (i) REFERENCES events",
        "COMMENT ON TABLE events IS 'x'",
        "ALTER INDEX lair.ids ATTACH PARTITION events_1_pkey",
        "ALTER TABLE lair.parent ATTACH PARTITION events_id_seq DEFAULT",
        "CLUSTER own USING events_1_pkey",
        "CLUSTER public.own USING events_1_pkey",
        "ALTER TABLE own CLUSTER ON events_1_pkey",
        "ALTER TABLE own REPLICA IDENTITY USING INDEX events_1_pkey",
        "ALTER INDEX events_1_pkey DEPENDS ON EXTENSION plpgsql",
        "COMMENT ON INDEX events_1_pkey IS 'x'",
        "CREATE RULE r AS ON INSERT TO recent DO NOTHING",
        "ALTER TABLE lair.parent ATTACH PARTITION recent DEFAULT",
        "CREATE POLICY p ON events USING (true)",
        "ALTER TABLE events ADD COLUMN x int",
    ] {
        let mut thief = scene.thief();
        run(&mut thief, "SET lock_timeout = '300ms'");
        expect_error(thief.batch_execute(command), "42501");
    }
    run(&mut holder, "ROLLBACK");
    run(
        &mut scene.thief(),
        "CLUSTER own USING own_ids; ALTER TABLE own REPLICA IDENTITY USING INDEX own_ids;
         CREATE TABLE lair.part (LIKE lair.parent); CREATE INDEX part_ids ON lair.part (id);
         CREATE INDEX more_ids ON ONLY lair.parent (id, happened); CREATE INDEX more_part_ids ON lair.part (id, happened);
         ALTER TABLE lair.parent ATTACH PARTITION lair.part DEFAULT; CLUSTER own",
    );
    // A role that was granted the privilege may use it.
    run(&mut db.superuser(), &format!("GRANT REFERENCES, TRIGGER ON events TO {}", scene.role));
    run(&mut scene.thief(), "CREATE TABLE lair.k (i int REFERENCES events)");
}

/// TRUNCATE deletes all tenants' rows, regardless of policies.
fn truncate(db: &Db) {
    let scene = Scene::set(db);
    shared_by_all(db, "ALL");
    let both =
        format!("INSERT INTO events (happened, tenant_id) VALUES ('x', '{}'), ('y', '{}')", scene.victim, scene.thief);
    run(&mut db.superuser(), &both);
    run(
        &mut db.superuser(),
        &format!("CREATE TABLE lair.keys (id int PRIMARY KEY); ALTER TABLE lair.keys OWNER TO {}", scene.role),
    );
    run(&mut db.superuser(), "ALTER TABLE events ADD COLUMN key int REFERENCES lair.keys");
    for statement in ["TRUNCATE events", "TRUNCATE ONLY events_1", "TRUNCATE events_1", "TRUNCATE lair.keys CASCADE"] {
        expect_error(scene.thief().batch_execute(statement), "42501");
    }
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM events", &[]), 2);
    run(&mut scene.thief(), "DELETE FROM events");
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM events", &[]), 1);
    run(&mut db.superuser(), "TRUNCATE events");
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM events", &[]), 0);
}
