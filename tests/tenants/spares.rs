//! Spare tenants: created in advance and unowned until tenant_create() takes one, which then is like any other tenant.

use std::time::{Duration, Instant};

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    create_takes_a_spare_and_names_it,
    a_tenant_from_a_spare_is_like_any_other,
    no_function_finds_a_spare,
    a_slug_in_use_keeps_the_spare,
    names_without_a_slug_are_made_unique,
    concurrent_creates_take_different_spares,
    rollback_makes_it_a_spare_again,
    stale_spares_are_migrated,
    instance_admins_fill_and_drop_spares,
    spares_do_not_count_towards_the_limit,
    a_create_with_an_id_takes_no_spare,
    a_migration_that_only_spares_have_can_be_removed,
    spares_are_refilled_in_the_background,
    stale_spares_locked_by_another_session,
    tables_elsewhere_with_an_open_writer,
    schemas_named_by_id,
    function_settings_name_the_current_schema,
    dropped_spares_leave_nothing,
];

const SPARES: &str = "SELECT count(*) FROM fluxbase_tenant.tenants WHERE spare";

fn with_spares(db: &Db, n: i32) -> Client {
    db.add_migration("1", "CREATE TABLE notes (id bigserial PRIMARY KEY, body text)");
    let mut client = db.superuser();
    fill(&mut client, n);
    client
}

#[track_caller]
fn fill(client: &mut Client, n: i32) -> (i32, i32, i32) {
    let row = client.query_one("SELECT * FROM tenant_spares_fill($1)", &[&n]).unwrap();
    (row.get("made"), row.get("migrated"), row.get("dropped"))
}

fn create_takes_a_spare_and_names_it(db: &Db) {
    let mut client = with_spares(db, 2);
    let spares: Vec<Uuid> = column(&mut client, "SELECT id FROM fluxbase_tenant.tenants WHERE spare", &[]);
    let created = "SELECT id, slug, name, schema_name::text, status, schema_version, metadata->>'a',
                          created_at = now() FROM tenant_create('acme', 'Acme', '{\"a\": \"b\"}')";
    let row = client.query_one(created, &[]).unwrap();
    assert!(spares.contains(&row.get::<_, Uuid>(0)));
    assert_eq!((row.get(1), row.get(2), row.get(3)), ("acme", "Acme", "tenant_acme"));
    assert_eq!((row.get(4), row.get(5), row.get(6), row.get(7)), ("active", "1", "b", true));
    assert_eq!(one::<i64>(&mut client, SPARES, &[]), 1);
    let id: Uuid = row.get(0);
    assert_eq!(db.traces(id, "tenant_acme"), 3);
}

fn a_tenant_from_a_spare_is_like_any_other(db: &Db) {
    let mut superuser = with_spares(db, 1);
    let user = new_user();
    let id = db.new_tenant("acme", user);
    assert_eq!(one::<i64>(&mut superuser, SPARES, &[]), 0, "the spare was taken");
    let mut client = db.as_user(user);
    run(&mut client, "SELECT tenant_set_current('acme'); INSERT INTO notes (body) VALUES ('mine')");
    assert_eq!(reached(&mut client, "notes"), 1);
    assert_eq!(reached(&mut db.as_user(new_user()), "tenant_acme.notes"), 0);
    assert!(superuser.query("SELECT * FROM tenant_repair($1)", &[&id]).unwrap().is_empty());
    let found = "SELECT object || ' ' || problem FROM tenant_check() WHERE severity = 'error'";
    assert_eq!(column::<String>(&mut superuser, found, &[]), Vec::<String>::new());
    db.add_migration("2", "ALTER TABLE notes ADD COLUMN more int");
    assert_eq!(one::<i32>(&mut superuser, "SELECT applied FROM tenant_migrate($1)", &[&id]), 1);
}

fn no_function_finds_a_spare(db: &Db) {
    let mut client = with_spares(db, 1);
    let id: Uuid = one(&mut client, "SELECT id FROM fluxbase_tenant.tenants WHERE spare", &[]);
    let slug: String = one(&mut client, "SELECT slug FROM fluxbase_tenant.tenants WHERE spare", &[]);
    for call in [
        "tenant_get($1)",
        "tenant_delete($1)",
        "tenant_soft_delete($1)",
        "tenant_restore($1)",
        "tenant_suspend($1)",
        "tenant_resume($1)",
        "tenant_set_default($1)",
        "tenant_update($1, 'New')",
        "tenant_assign_admin($1, gen_random_uuid())",
        "tenant_add_member($1, gen_random_uuid())",
        "tenant_set_current($1::uuid)",
        "tenant_migrate($1)",
        "tenant_rollback($1, '0')",
        "tenant_clone($1)",
        "tenant_list_members($1)",
    ] {
        for mut caller in [db.admin(), db.superuser()] {
            expect_refusal(caller.query(&format!("SELECT * FROM {call}"), &[&id]), "not_found");
        }
    }
    expect_refusal(client.query("SELECT * FROM tenant_get_by_slug($1)", &[&slug]), "not_found");
    for list in ["tenant_list()", "tenant_list_deleted()", "tenant_migration_status()", "tenant_migrate_all()"] {
        assert_eq!(one::<i64>(&mut client, &format!("SELECT count(*) FROM {list}"), &[]), 0, "{list}");
    }
    for (mut caller, who) in [(db.as_service(id), "service"), (db.as_user(new_user()), "user"), (db.admin(), "admin")] {
        // An instance admin can dump it.
        assert_eq!(one::<bool>(&mut caller, "SELECT tenant_has_access($1)", &[&id]), who == "admin", "{who}");
        assert_eq!(
            column::<Uuid>(&mut caller, "SELECT id FROM fluxbase_tenant.tenants", &[]).len(),
            usize::from(who == "admin"),
            "{who}"
        );
    }
}

fn a_slug_in_use_keeps_the_spare(db: &Db) {
    let mut client = with_spares(db, 1);
    run(&mut client, "SELECT tenant_create('acme', 'Acme')");
    fill(&mut client, 1);
    expect_error(client.query("SELECT tenant_create('acme', 'Acme again')", &[]), "23505").hint_has("slug");
    assert_eq!(one::<i64>(&mut client, SPARES, &[]), 1);
}

fn names_without_a_slug_are_made_unique(db: &Db) {
    let mut client = with_spares(db, 3);
    for wanted in ["acme", "acme-2", "acme-3", "acme-4"] {
        assert_eq!(one::<String>(&mut client, "SELECT slug FROM tenant_create(name => 'Acme')", &[]), wanted);
    }
}

fn concurrent_creates_take_different_spares(db: &Db) {
    let mut client = with_spares(db, 4);
    let made: Vec<Result<Uuid, postgres::Error>> = std::thread::scope(|scope| {
        let created = |slug: String| {
            let sql = "SELECT id FROM tenant_create($1, 'Acme')";
            db.superuser().query_one(sql, &[&slug]).map(|row| row.get(0))
        };
        let started: Vec<_> = (0..8).map(|i| scope.spawn(move || created(format!("t{}", i / 2)))).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut ids: Vec<Uuid> = made.iter().filter_map(|made| made.as_ref().ok().copied()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "one create per slug succeeds: {made:?}");
    for refused in made.into_iter().filter(Result::is_err) {
        expect_error(refused.map(|_| ()), "23505").detail_has("conflict");
    }
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_list()", &[]), 4);
}

fn rollback_makes_it_a_spare_again(db: &Db) {
    let mut client = with_spares(db, 1);
    run(&mut client, "BEGIN; SELECT tenant_create('acme', 'Acme'); ROLLBACK");
    assert_eq!(one::<i64>(&mut client, SPARES, &[]), 1);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM pg_namespace WHERE nspname = 'tenant_acme'", &[]), 0);
    run(
        &mut client,
        "BEGIN; SAVEPOINT s; SELECT tenant_create('acme', 'Acme'); ROLLBACK TO s; SELECT tenant_create('beta', 'Beta'); COMMIT",
    );
    assert_eq!(one::<i64>(&mut client, SPARES, &[]), 0);
    assert_eq!(column::<String>(&mut client, "SELECT slug FROM tenant_list()", &[]), ["beta"]);
}

fn stale_spares_are_migrated(db: &Db) {
    let mut client = with_spares(db, 2);
    db.add_migration("2", "ALTER TABLE notes ADD COLUMN more int");
    let version: String = one(&mut client, "SELECT schema_version FROM tenant_create('acme', 'Acme')", &[]);
    assert_eq!(version, "2", "the spare was migrated when it was taken");
    assert_eq!(fill(&mut client, 2), (1, 1, 0));
    assert_eq!(fill(&mut client, 2), (0, 0, 0));
    let lacking = "SELECT count(*) FROM fluxbase_tenant.tenants WHERE spare AND applied < 2";
    assert_eq!(one::<i64>(&mut client, lacking, &[]), 0);
    expect_error(client.query("SELECT more FROM tenant_acme.notes WHERE 1 = 1 / 0", &[]), "22012");
}

fn instance_admins_fill_and_drop_spares(db: &Db) {
    let mut client = with_spares(db, 3);
    assert_eq!(fill(&mut client, 1), (0, 0, 2));
    assert_eq!(one::<i64>(&mut client, SPARES, &[]), 1);
    run(&mut client, "SET fluxbase_tenant.spare_tenants = 2");
    assert_eq!(one::<i32>(&mut client, "SELECT made FROM tenant_spares_fill()", &[]), 1);
    for bad in [-1, 1_000_000] {
        expect_refusal(client.query("SELECT * FROM tenant_spares_fill($1)", &[&bad]), "invalid_argument");
    }
    expect_refusal(db.as_user(new_user()).query("SELECT tenant_spares_fill(1)", &[]), "forbidden");
    expect_refusal(db.server().query("SELECT tenant_spares_fill(1)", &[]), "unauthenticated");
    expect_error(
        db.user_role().batch_execute("SELECT tenant_current_id(); SET fluxbase_tenant.spare_tenants = 1"),
        "42501",
    );
}

fn spares_do_not_count_towards_the_limit(db: &Db) {
    let mut client = with_spares(db, 3);
    run(
        &mut client,
        "SET fluxbase_tenant.max_tenants = 2; SELECT tenant_create('a', 'A'); SELECT tenant_create('b', 'B')",
    );
    expect_refusal(client.query("SELECT tenant_create('c', 'C')", &[]), "conflict");
    assert_eq!(one::<i64>(&mut client, SPARES, &[]), 1);
}

fn a_create_with_an_id_takes_no_spare(db: &Db) {
    let mut client = with_spares(db, 1);
    let id = Uuid::new_v4();
    assert_eq!(one::<Uuid>(&mut client, "SELECT id FROM tenant_create('a', 'A', id => $1)", &[&id]), id);
    assert_eq!(one::<i64>(&mut client, SPARES, &[]), 1);
}

fn a_migration_that_only_spares_have_can_be_removed(db: &Db) {
    let mut client = with_spares(db, 1);
    assert_eq!(one::<String>(&mut client, "SELECT version FROM tenant_migration_remove('1')", &[]), "1");
    assert_eq!(one::<i64>(&mut client, SPARES, &[]), 0, "a spare that has applied the removed migration is dropped");
}

fn spares_are_refilled_in_the_background(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text)");
    let mut client = db.superuser();
    run(&mut client, "SET fluxbase_tenant.spare_tenants = 3; SELECT tenant_create('a', 'A')");
    until(&mut client, 3);
    run(&mut client, "BEGIN; SELECT tenant_create('b', 'B'); SELECT tenant_create('c', 'C'); COMMIT");
    until(&mut client, 3);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_list()", &[]), 3);
    let ready = "SELECT count(*) FROM fluxbase_tenant.tenants WHERE spare AND applied = 1";
    assert_eq!(one::<i64>(&mut client, ready, &[]), 3);
}

#[track_caller]
fn until(client: &mut Client, spares: i64) {
    let started = Instant::now();
    while one::<i64>(client, SPARES, &[]) != spares {
        assert!(started.elapsed() < Duration::from_secs(30), "not {spares} spares in 30 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// tenant_create() then provisions a new tenant instead of waiting for the lock.
fn stale_spares_locked_by_another_session(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (id serial, body text)");
    let mut client = db.superuser();
    run(&mut client, "SELECT tenant_spares_fill(1)");
    let number: u32 = one(&mut db.superuser(), "SELECT oid FROM pg_class WHERE relname = 'notes_id_seq'", &[]);
    let mut outsider = db.server();
    let lock = format!("DO $$ BEGIN PERFORM nextval({number}::regclass); EXCEPTION WHEN others THEN NULL; END $$");
    run(&mut outsider, &format!("BEGIN; {lock}"));
    db.add_migration("2", "ALTER TABLE notes DROP COLUMN id");
    run(&mut client, "SET statement_timeout = '25s'");
    let made = |client: &mut Client, slug: &str| -> String {
        one(client, "SELECT schema_version FROM tenant_create($1, 'A')", &[&slug])
    };
    assert_eq!(made(&mut client, "acme"), "2");
    for (timeout, slug) in [("100ms", "hasty"), ("20s", "patient")] {
        run(&mut client, &format!("SET lock_timeout = '{timeout}'"));
        assert_eq!(made(&mut client, slug), "2", "with a lock_timeout of {timeout}");
    }
    assert_eq!(one::<i64>(&mut client, SPARES, &[]), 1);
    run(&mut outsider, "ROLLBACK");
    assert_eq!(made(&mut client, "other"), "2");
    assert_eq!(one::<i64>(&mut client, SPARES, &[]), 0);
}

/// The worker that creates spares gives up its locks, so that other sessions can continue.
fn tables_elsewhere_with_an_open_writer(db: &Db) {
    run(
        &mut db.superuser(),
        "CREATE TABLE countries (code text PRIMARY KEY); GRANT REFERENCES ON countries TO fluxbase_tenant_owner",
    );
    db.add_migration("1", "CREATE TABLE addresses (country text REFERENCES public.countries)");
    let mut client = db.superuser();
    run(&mut client, "SELECT tenant_spares_fill(1)");
    let mut writer = db.superuser();
    run(&mut writer, "BEGIN; INSERT INTO countries VALUES ('zz')");
    run(&mut client, "SET fluxbase_tenant.spare_tenants = 1; SELECT tenant_create('a', 'A')");
    let started = Instant::now();
    let mut other = db.superuser();
    while other.batch_execute("SET lock_timeout = '1s'; INSERT INTO countries VALUES ('de')").is_err() {
        assert!(started.elapsed() < Duration::from_secs(30), "writers keep waiting for the worker's lock");
    }
    run(&mut writer, "COMMIT");
}

fn schemas_named_by_id(db: &Db) {
    db.configure("fluxbase_tenant.schema_naming", "id");
    let mut client = with_spares(db, 1);
    let row = client.query_one("SELECT id, schema_name::text FROM tenant_create('acme', 'Acme')", &[]).unwrap();
    let (id, schema): (Uuid, String) = (row.get(0), row.get(1));
    assert_eq!(schema, format!("tenant_{}", id.simple()));
    assert_eq!(db.traces(id, &schema), 3);
}

fn function_settings_name_the_current_schema(db: &Db) {
    db.add_migration(
        "1",
        "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('mine');
         CREATE FUNCTION first_note() RETURNS text LANGUAGE plpgsql SET search_path FROM CURRENT AS
             $$BEGIN RETURN (SELECT body FROM notes); END$$;
         CREATE PROCEDURE clear(text) LANGUAGE sql SET search_path FROM CURRENT SET work_mem = '5MB' AS 'DELETE FROM notes'",
    );
    let mut client = db.superuser();
    fill(&mut client, 1);
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let mut member = db.as_user(user);
    assert_eq!(one::<String>(&mut member, "SELECT tenant_acme.first_note()", &[]), "mine");
    run(&mut member, "CALL tenant_acme.clear('all')");
    assert_eq!(reached(&mut member, "tenant_acme.notes"), 0);
    assert!(client.query("SELECT * FROM tenant_drift($1)", &[&id]).unwrap().is_empty());
}

fn dropped_spares_leave_nothing(db: &Db) {
    let mut client = with_spares(db, 3);
    let count = "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tenant\\_%')";
    assert_eq!(one::<i64>(&mut client, count, &[]), 3);
    assert_eq!(fill(&mut client, 0), (0, 0, 3));
    assert_eq!(one::<i64>(&mut client, count, &[]), 0);
}
