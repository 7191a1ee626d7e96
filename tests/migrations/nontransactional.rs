//! Migrations with commands that cannot run in a transaction are applied statement by statement, in order with the
//! other migrations.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::fleet::{until, workers};
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    every_nontransactional_command,
    applied_in_order_with_transactional_migrations,
    new_tenants_apply_it_in_the_callers_transaction,
    tenant_migrate_refuses_before_anything_runs,
    dry_run_changes_nothing,
    transaction_control_is_refused_when_registered,
    transactional_cannot_change_under_the_same_version,
    settings_end_with_their_migration,
    runs_as_the_owner_role_in_the_service_context,
    migrates_up_to_a_target,
    reads_of_the_caller_after_an_index_build,
    two_runs_one_of_which_reads_the_table,
];

/// Returns the names of the valid indexes on the tenant's tables.
fn indexes(client: &mut Client, slug: &str) -> Vec<String> {
    let sql = "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
               WHERE c.relnamespace = $1::text::regnamespace AND i.indisvalid AND NOT i.indisprimary ORDER BY 1";
    column(client, sql, &[&format!("tenant_{slug}")])
}

fn every_nontransactional_command(db: &Db) {
    db.new_fleet(3);
    db.add_migration(
        "2",
        "CREATE INDEX old_idx ON items (body); CREATE TYPE mood AS ENUM ('sad');
         CREATE TABLE parts (n int) PARTITION BY LIST (n);
         CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1); CREATE TABLE part2 PARTITION OF parts FOR VALUES IN (2);
         INSERT INTO parts VALUES (1), (2); INSERT INTO items VALUES (1, 'a'), (2, 'b')",
    );
    assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1", "t3 migrated 1"]);
    db.add_nontransactional(
        "3",
        "CREATE INDEX CONCURRENTLY body_idx ON items (body);
         CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS pair_idx ON items (id, lower(body)) WHERE id > 0;
         INSERT INTO items VALUES (3, 'between');
         DROP INDEX CONCURRENTLY old_idx;
         ALTER TYPE mood ADD VALUE 'happy';
         ALTER TABLE items ADD COLUMN feels mood DEFAULT 'happy';
         UPDATE items SET feels = 'sad' WHERE id = 1;
         VACUUM items;
         VACUUM (FULL, ANALYZE) items;
         ANALYZE items;
         REINDEX INDEX CONCURRENTLY body_idx;
         REINDEX TABLE CONCURRENTLY items;
         REINDEX TABLE items;
         CLUSTER items USING items_pkey;
         ALTER TABLE parts DETACH PARTITION part1 CONCURRENTLY;
         CREATE TABLE late (id serial)",
    );
    assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1", "t3 migrated 1"]);
    db.assert_all_is_done();
    let mut client = db.superuser();
    for slug in ["t1", "t2", "t3"] {
        assert_eq!(indexes(&mut client, slug), ["body_idx", "pair_idx"]);
        let sql = format!("SELECT string_agg(feels::text, ' ' ORDER BY id) FROM tenant_{slug}.items");
        assert_eq!(one::<String>(&mut client, &sql, &[]), "sad happy happy");
        assert_eq!(one::<i64>(&mut client, &format!("SELECT count(*) FROM tenant_{slug}.parts"), &[]), 1);
        assert_eq!(one::<i64>(&mut client, &format!("SELECT count(*) FROM tenant_{slug}.part1"), &[]), 1);
    }
    let owners = "SELECT DISTINCT c.relowner::regrole::text = 'fluxbase_tenant_' || replace(t.id::text, '-', '')
                  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                  JOIN fluxbase_tenant.tenants t ON t.schema_name = n.nspname";
    assert_eq!(column::<bool>(&mut client, owners, &[]), [true]);
    let tenants: Vec<Uuid> = column(&mut client, "SELECT id FROM tenant_list()", &[]);
    tenants.into_iter().for_each(|tenant| db.assert_tables_are_protected(tenant));
}

fn applied_in_order_with_transactional_migrations(db: &Db) {
    db.new_fleet(3);
    db.add_migration("2", "CREATE TABLE log (n serial, step int); INSERT INTO log (step) VALUES (2)");
    db.add_nontransactional("3", "INSERT INTO log (step) VALUES (3); CREATE INDEX CONCURRENTLY step_idx ON log (step)");
    db.add_nontransactional("4", "DROP INDEX CONCURRENTLY step_idx; INSERT INTO log (step) VALUES (4); VACUUM log");
    db.add_migration("5", "INSERT INTO log (step) VALUES (5); CREATE INDEX step_idx ON log (step, n)");
    db.add_migration("6", "INSERT INTO log (step) VALUES (6)");
    db.add_nontransactional("7", "REINDEX INDEX CONCURRENTLY step_idx; INSERT INTO log (step) VALUES (7)");
    let sql = "SELECT concat_ws(' ', slug, status, from_version, to_version, applied) FROM tenant_migrate_all()
               ORDER BY slug";
    let results: Vec<String> = column(&mut db.admin(), sql, &[]);
    assert_eq!(results, ["t1 migrated 1 7 6", "t2 migrated 1 7 6", "t3 migrated 1 7 6"]);
    db.assert_all_is_done();
    for slug in ["t1", "t2", "t3"] {
        let sql = format!("SELECT string_agg(step::text, ' ' ORDER BY n) FROM tenant_{slug}.log");
        assert_eq!(one::<String>(&mut db.superuser(), &sql, &[]), "2 3 4 5 6 7");
    }
    let ledger = "SELECT string_agg(version, ' ' ORDER BY applied_at, version) FROM fluxbase_tenant.applied_migrations
                  GROUP BY tenant_id";
    assert_eq!(column::<String>(&mut db.superuser(), ledger, &[]), ["1 2 3 4 5 6 7"; 3]);
    assert_eq!(db.migrate_all(""), [""; 0]);
}

fn new_tenants_apply_it_in_the_callers_transaction(db: &Db) {
    db.add_migration(
        "1",
        "CREATE TABLE items (id int PRIMARY KEY, body text); CREATE INDEX old_idx ON items (id);
         CREATE TABLE parts (n int) PARTITION BY LIST (n); CREATE TABLE part1 PARTITION OF parts FOR VALUES IN (1)",
    );
    db.add_nontransactional(
        "2",
        "INSERT INTO items VALUES (1, 'x'); CREATE UNIQUE INDEX CONCURRENTLY body_idx ON items (body); VACUUM items;
         REINDEX TABLE CONCURRENTLY items; DROP INDEX CONCURRENTLY old_idx; CLUSTER items USING items_pkey;
         ALTER TABLE parts DETACH PARTITION part1 CONCURRENTLY; VACUUM; INSERT INTO items VALUES (2, 'y')",
    );
    db.add_migration("3", "INSERT INTO items VALUES (3, 'z')");
    let mut admin = db.admin();
    // In a transaction block with other work: the block's rollback removes the tenant too.
    run(&mut admin, "BEGIN; SELECT tenant_create('gone', 'Gone'); ROLLBACK");
    run(&mut admin, "BEGIN; SELECT tenant_create('a', 'A'), tenant_create('b', 'B'); COMMIT");
    let id = db.new_tenant("c", new_user());
    let version: String = one(&mut admin, "SELECT schema_version FROM tenant_get($1)", &[&id]);
    assert_eq!(version, "3");
    let mut client = db.superuser();
    for slug in ["a", "b", "c"] {
        assert_eq!(indexes(&mut client, slug), ["body_idx"]);
        assert_eq!(one::<i64>(&mut client, &format!("SELECT count(*) FROM tenant_{slug}.items"), &[]), 3);
        assert_eq!(db.tables_of(one(&mut client, "SELECT id FROM tenant_get_by_slug($1)", &[&slug])).len(), 3);
    }
    db.assert_all_is_done();
    // A failure rolls the new tenant back as well.
    db.add_nontransactional("4", "INSERT INTO items VALUES (4, 'z'); CREATE INDEX CONCURRENTLY z_idx ON items (body)");
    let failed = admin.query("SELECT tenant_create('d', 'D')", &[]);
    expect_error(failed, "23505").context_has("migration version \"4\" (change 4), statement 1 of 2");
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM pg_namespace WHERE nspname = 'tenant_d'", &[]), 0);
}

fn tenant_migrate_refuses_before_anything_runs(db: &Db) {
    db.new_fleet(1);
    db.add_migration("2", "ALTER TABLE items ADD COLUMN a int");
    db.add_nontransactional("3", "CREATE INDEX CONCURRENTLY body_idx ON items (body)");
    let mut admin = db.admin();
    let id: Uuid = one(&mut admin, "SELECT id FROM tenant_get_by_slug('t1')", &[]);
    for target in [None, Some("3")] {
        let refused = admin.query("SELECT * FROM tenant_migrate($1, $2)", &[&id, &target]);
        expect_error(refused, "25001")
            .message("nontransactional migration version \"3\" cannot run inside a transaction")
            .hint_has("tenant_migrate_all(tenants => '{t1}')");
    }
    assert_eq!(db.migration_status(), ["t1 1 2"]);
    // A target before it can be reached.
    let to: String = one(&mut admin, "SELECT to_version FROM tenant_migrate($1, '2')", &[&id]);
    assert_eq!(to, "2");
    expect_error(admin.query("SELECT * FROM tenant_migrate($1)", &[&id]), "25001");
    // The call in the hint works verbatim.
    assert_eq!(db.migrate_all("tenants => '{t1}'"), ["t1 migrated 1"]);
    assert_eq!(one::<i32>(&mut admin, "SELECT applied FROM tenant_migrate($1)", &[&id]), 0);
    db.assert_all_is_done();
}

fn dry_run_changes_nothing(db: &Db) {
    db.new_fleet(3);
    run(&mut db.superuser(), "INSERT INTO tenant_t2.items VALUES (1, 'x'), (2, 'x')");
    db.add_migration("2", "CREATE TABLE before ()");
    db.add_nontransactional(
        "3",
        "CREATE UNIQUE INDEX CONCURRENTLY body_idx ON items (body); CREATE TABLE after (); VACUUM items",
    );
    assert_eq!(db.migrate_all("dry_run => true"), ["t1 migrated 2", "t2 failed 0 23505", "t3 migrated 2"]);
    let mut client = db.superuser();
    assert_eq!(db.migration_status(), ["t1 1 2", "t2 1 2", "t3 1 2"]);
    assert_eq!(indexes(&mut client, "t1"), [""; 0]);
    let made = "SELECT count(*) FROM pg_tables WHERE tablename IN ('before', 'after')";
    assert_eq!(one::<i64>(&mut client, made, &[]), 0);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM fluxbase_tenant.unfinished_migrations", &[]), 0);
    db.assert_no_workers();
}

fn transaction_control_is_refused_when_registered(db: &Db) {
    let mut admin = db.admin();
    let add = "SELECT version FROM tenant_migration_add('1', 'one', $1, transactional => false)";
    for script in ["BEGIN; SELECT 1; COMMIT", "VACUUM; COMMIT", "SAVEPOINT a", "SELECT 1; ROLLBACK", "BEGIN"] {
        expect_refusal(admin.query(add, &[&script]), "invalid_argument").hint_has("its own transaction");
    }
    expect_error(admin.query(add, &[&"VACUUM; CREATE INDX"]), "42601");
    assert_eq!(one::<String>(&mut admin, add, &[&""]), "1", "an empty script is a migration");
    db.new_tenant("acme", new_user());
    assert_eq!(db.migration_status(), ["acme 1 0"]);
}

fn transactional_cannot_change_under_the_same_version(db: &Db) {
    let mut admin = db.admin();
    run(&mut admin, "SELECT tenant_migration_add('1', 'one', 'SELECT 1')");
    run(&mut admin, "SELECT tenant_migration_add('1', 'one', 'SELECT 1', transactional => true)");
    let other = admin.query("SELECT tenant_migration_add('1', 'one', 'SELECT 1', transactional => false)", &[]);
    expect_refusal(other, "conflict").hint_has("tenant_migration_remove()");
    run(&mut admin, "SELECT tenant_migration_remove('1')");
    run(&mut admin, "SELECT tenant_migration_add('1', 'one', 'SELECT 1', transactional => false)");
    let listed: bool = one(&mut admin, "SELECT transactional FROM tenant_migration_list()", &[]);
    assert!(!listed);
}

/// One worker runs the scripts of many tenants, and no script sees another one's settings.
fn settings_end_with_their_migration(db: &Db) {
    db.new_fleet(4);
    db.add_migration("2", "CREATE TABLE told (n serial, path text, memory text, zone text, who text, tenant uuid)");
    let tell = "INSERT INTO told (path, memory, zone, who, tenant) SELECT current_setting('search_path'),
                current_setting('maintenance_work_mem'), current_setting('TimeZone'), current_user, tenant_current_id();";
    db.add_nontransactional(
        "3",
        &format!(
            "{tell} SET search_path = pg_catalog; {tell} SET maintenance_work_mem = '99MB'; SET TimeZone = 'Asia/Tokyo';
             SELECT set_config('lock_timeout', '1', false), set_config('mine.own', 'kept', false);
             CREATE INDEX CONCURRENTLY body_idx ON items (body); {tell} VACUUM items; {tell}"
        ),
    );
    assert_eq!(db.migrate_all("parallel => 1").len(), 4);
    db.assert_all_is_done();
    let mut client = db.superuser();
    for slug in ["t1", "t2", "t3", "t4"] {
        let id: Uuid = one(&mut client, "SELECT id FROM tenant_get_by_slug($1)", &[&slug]);
        let sql = format!("SELECT concat_ws('|', path, memory, zone, who, tenant) FROM tenant_{slug}.told ORDER BY n");
        let path = format!("tenant_{slug}, public, pg_temp");
        let (memory, zone): (String, String) = (
            one(&mut client, "SELECT boot_val || 'kB' FROM pg_settings WHERE name = 'maintenance_work_mem'", &[]),
            one(&mut client, "SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'", &[]),
        );
        let memory = memory.replace("65536kB", "64MB");
        let owner = Db::owner_role(id);
        let logged: Vec<String> = column(&mut client, &sql, &[]);
        let before = format!("{path}|{memory}|{zone}|{owner}|{id}");
        let after = format!("{path}|99MB|Asia/Tokyo|{owner}|{id}");
        assert_eq!(logged, [before.as_str(), before.as_str(), after.as_str(), after.as_str()]);
    }
    // Neither settings nor the role carry over to the next migration.
    db.add_nontransactional("4", "SET ROLE postgres");
    assert_eq!(db.migrate_all("parallel => 1, tenants => '{t1}'"), ["t1 failed 0 42501"]);
}

fn runs_as_the_owner_role_in_the_service_context(db: &Db) {
    let instance_admin = new_user();
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{instance_admin}')"));
    db.new_fleet(2);
    db.add_nontransactional(
        "2",
        "CREATE TABLE who AS SELECT current_user::text AS name, tenant_current_id() AS tenant,
             tenant_current_user_id() AS me, tenant_is_instance_admin() AS instance_admin",
    );
    let mut client = db.as_user(instance_admin);
    run(&mut client, "SELECT * FROM tenant_migrate_all()");
    for slug in ["t1", "t2"] {
        let id: Uuid = one(&mut client, "SELECT id FROM tenant_get_by_slug($1)", &[&slug]);
        let row = db.superuser().query_one(&format!("SELECT * FROM tenant_{slug}.who"), &[]).unwrap();
        assert_eq!(row.get::<_, String>("name"), Db::owner_role(id));
        assert_eq!(row.get::<_, Uuid>("tenant"), id);
        assert_eq!(row.get::<_, Option<Uuid>>("me"), None);
        assert!(!row.get::<_, bool>("instance_admin"));
    }
    // The ledger records the user who started the run.
    let by = "SELECT DISTINCT applied_by FROM fluxbase_tenant.applied_migrations WHERE version = '2'";
    assert_eq!(column::<Uuid>(&mut db.superuser(), by, &[]), [instance_admin]);
    assert!(workers(&mut db.superuser()).is_empty());
}

fn migrates_up_to_a_target(db: &Db) {
    db.new_fleet(2);
    db.add_nontransactional("2", "CREATE INDEX CONCURRENTLY a_idx ON items (body)");
    db.add_nontransactional("3", "CREATE INDEX CONCURRENTLY b_idx ON items (body)");
    assert_eq!(db.migrate_all("'2'"), ["t1 migrated 1", "t2 migrated 1"]);
    assert_eq!(db.migration_status(), ["t1 2 1", "t2 2 1"]);
    assert_eq!(db.migrate_all("'2'"), [""; 0]);
    assert_eq!(indexes(&mut db.superuser(), "t1"), ["a_idx"]);
    assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1"]);
    db.assert_all_is_done();
}

/// The build does not wait for the caller, whose snapshot is older. The new index lacks rows that only that snapshot
/// sees, so the caller must not use it.
fn reads_of_the_caller_after_an_index_build(db: &Db) {
    let (ann, mut superuser) = (new_user(), db.superuser());
    let acme = db.new_tenant("acme", ann);
    db.migrate(
        acme,
        "CREATE TABLE notes (body text); INSERT INTO notes SELECT 'row ' || n FROM generate_series(1, 5000) n;
                      INSERT INTO notes VALUES ('old')",
    );
    run(&mut superuser, "VACUUM ANALYZE tenant_acme.notes");
    run(
        &mut superuser,
        "CREATE TABLE gate (); GRANT SELECT ON gate TO PUBLIC;
         CREATE FUNCTION look() RETURNS bigint LANGUAGE plpgsql STABLE AS
             'BEGIN RETURN (SELECT count(*) FROM tenant_acme.notes WHERE body = ''old''); END';
         CREATE FUNCTION look_again() RETURNS bigint LANGUAGE plpgsql VOLATILE AS
             'BEGIN RETURN (SELECT count(*) FROM tenant_acme.notes WHERE body = ''new''); END'",
    );
    db.add_nontransactional(
        "2",
        "DO 'BEGIN WHILE (SELECT count(*) FROM public.gate) = 0 LOOP PERFORM pg_sleep(0.01); END LOOP; END';
         CREATE INDEX CONCURRENTLY body_idx ON notes (body)",
    );
    let mut caller = db.superuser();
    let call = std::thread::spawn(move || {
        let row = caller.query_one("SELECT m.status, look(), look_again() FROM tenant_migrate_all() m", &[]).unwrap();
        (row.get::<_, String>(0), row.get::<_, i64>(1), row.get::<_, i64>(2))
    });
    let mut watching = db.superuser();
    until("the migration waits at the gate", || {
        one::<bool>(
            &mut watching,
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'fluxbase_tenant fleet' AND wait_event = 'PgSleep'
                            AND datname = current_database())",
            &[],
        )
    });
    assert_eq!(
        db.as_user(ann).execute("UPDATE tenant_acme.notes SET body = 'new' WHERE body = 'old'", &[]).unwrap(),
        1
    );
    run(&mut superuser, "INSERT INTO gate DEFAULT VALUES");
    assert_eq!(call.join().unwrap(), ("migrated".to_string(), 1, 1));
    assert_eq!(indexes(&mut superuser, "acme"), ["body_idx"]);
    let plan: Vec<String> = column(&mut superuser, "EXPLAIN SELECT FROM tenant_acme.notes WHERE body = 'old'", &[]);
    assert!(plan.iter().any(|line| line.contains("body_idx")), "{plan:#?}");
}

/// The second run's caller reads a table while its workers wait for the first run, whose build waits for that caller.
/// PostgreSQL's deadlock detector ends one of the runs, whichever checks last.
fn two_runs_one_of_which_reads_the_table(db: &Db) {
    db.new_fleet(3);
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        "INSERT INTO tenant_t1.items VALUES (1, 'a'); CREATE TABLE gate (); GRANT SELECT ON gate TO PUBLIC",
    );
    db.add_nontransactional(
        "2",
        "CREATE INDEX CONCURRENTLY body_idx ON items (body);
         DO 'BEGIN WHILE (SELECT count(*) FROM public.gate) = 0 LOOP PERFORM pg_sleep(0.01); END LOOP; END';
         REINDEX INDEX CONCURRENTLY body_idx",
    );
    let runs = [
        (
            "tenant_migrate_all(lock_timeout => '0', parallel => 3, retries => 0)",
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'
                            AND backend_type = 'fluxbase_tenant fleet' AND datname = current_database())",
        ),
        (
            "tenant_t1.items, tenant_migrate_all(lock_timeout => '0', retries => 0)",
            "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted AND l.locktype = 'object'
                            AND a.backend_type = 'fluxbase_tenant fleet' AND a.datname = current_database())",
        ),
    ]
    .map(|(from, waits)| {
        let mut client = db.superuser();
        let call = std::thread::spawn(move || client.batch_execute(&format!("SELECT * FROM {from}")));
        until("the run's workers wait", || one::<bool>(&mut superuser, waits, &[]));
        call
    });
    run(&mut superuser, "INSERT INTO gate DEFAULT VALUES");
    for call in runs {
        until("the run has ended", || call.is_finished());
        if let Err(error) = call.join().unwrap() {
            assert_eq!(error.code().map(|code| code.code()), Some("40P01"), "{error:?}");
        }
    }
    db.migrate_all("");
    db.assert_all_is_done();
}
