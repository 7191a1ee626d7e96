//! tenant_drift() replays a ledger into a scratch schema, which no session sees and which never remains, whatever
//! happens.

use postgres::Client;

use crate::cases;
use crate::support::drift::{drift, drift_of};
use crate::support::people::{column, new_user, one, run};
use crate::support::tables::act_as;
use crate::support::{Db, expect_error};

cases![
    nothing_is_left_behind,
    failing_replay_raises_the_migrations_error,
    error_can_be_caught_by_the_caller,
    session_state_is_unchanged,
    a_migration_leaves_no_trace_of_the_scratch_schema,
    waits_for_a_migrating_tenant_only_if_it_differs,
    tables_altered_by_a_migration,
    tables_kept_locked_by_another_session,
    tenants_created_and_deleted_concurrently,
    refused_in_a_read_only_transaction,
    tenant_schemas_are_not_on_the_search_path,
];

const TRACES: &str = "
    SELECT 'tenant ' || slug FROM fluxbase_tenant.tenants
    UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND oid >= 16384
    UNION ALL SELECT 'role ' || rolname FROM pg_roles r WHERE rolname ~ '^fluxbase_tenant_[0-9a-f]{32}$'
        AND EXISTS (SELECT FROM pg_namespace WHERE nspowner = r.oid)
    UNION ALL SELECT 'relation ' || c.oid::regclass FROM pg_class c WHERE c.oid >= 16384 AND relnamespace::regnamespace::text !~ '^pg_'
    UNION ALL SELECT 'depends on role ' || refobjid FROM pg_shdepend s WHERE refclassid = 'pg_authid'::regclass
        AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.oid = refobjid)
    UNION ALL SELECT 'ledger ' || tenant_id || version FROM fluxbase_tenant.applied_migrations ORDER BY 1";

fn traces(db: &Db) -> Vec<String> {
    column(&mut db.superuser(), TRACES, &[])
}

#[track_caller]
fn assert_no_locks(client: &mut Client, db: &Db) {
    let held: Vec<String> = column(
        client,
        "SELECT DISTINCT l.relation::regclass::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
         JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE l.pid = pg_backend_pid() AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND n.nspname LIKE 'tenant\\_%'",
        &[],
    );
    assert!(held.is_empty(), "{}: {held:?}", db.name());
}

fn nothing_is_left_behind(db: &Db) {
    db.add_migration(
        "1",
        "CREATE TABLE notes (id serial PRIMARY KEY, body text CHECK (body <> '')); CREATE VIEW seen AS TABLE notes;
         INSERT INTO notes (body) VALUES ('x')",
    );
    db.new_tenant("acme", new_user());
    db.new_tenant("other", new_user());
    run(&mut db.superuser(), "ALTER TABLE tenant_other.notes ADD COLUMN extra int");
    let before = traces(db);
    let mut superuser = db.superuser();
    run(&mut superuser, "BEGIN");
    for _ in 0..3 {
        assert_eq!(drift(&mut superuser, "tenant_drift()"), ["other: column notes.extra unexpected"]);
        assert_no_locks(&mut superuser, db);
        assert_eq!(traces(db), before);
    }
    let in_transaction: Vec<String> = column(&mut superuser, TRACES, &[]);
    assert_eq!(in_transaction, before);
    run(&mut superuser, "COMMIT");
    assert_eq!(traces(db), before);
}

/// Succeeds if the table has a row, and fails in an empty schema.
const NEEDS_DATA: &str = "
    CREATE TABLE made (n int);
    DO $$ BEGIN
        IF NOT EXISTS (SELECT FROM notes) THEN
            RAISE EXCEPTION 'no notes' USING ERRCODE = 'ZZ001', DETAIL = 'a detail', HINT = 'a hint';
        END IF;
    END $$";

fn with_failing_replay(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (id int)");
    let acme = db.new_tenant("acme", new_user());
    run(&mut db.superuser(), "INSERT INTO tenant_acme.notes VALUES (1)");
    db.add_migration("2", NEEDS_DATA);
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{acme}')"));
}

fn failing_replay_raises_the_migrations_error(db: &Db) {
    with_failing_replay(db);
    let before = traces(db);
    let mut admin = db.admin();
    for call in ["tenant_drift()", "tenant_drift((SELECT id FROM tenant_list()))"] {
        let refusal = expect_error(admin.query(&format!("SELECT * FROM {call}"), &[]), "ZZ001");
        let refusal = refusal.message("no notes").detail_has("a detail").hint_has("a hint");
        refusal.context_has("migration version \"2\" (change 2), statement 2 of 2");
        assert_eq!(traces(db), before);
        // The session is usable, and not in an aborted transaction.
        assert_eq!(one::<i64>(&mut admin, "SELECT count(*) FROM tenant_list()", &[]), 1);
    }
    run(&mut admin, "BEGIN; SELECT tenant_list()");
    expect_error(admin.query("SELECT * FROM tenant_drift()", &[]), "ZZ001");
    expect_error(admin.batch_execute("SELECT 1"), "25P02");
    run(&mut admin, "ROLLBACK; SELECT 1");
}

fn error_can_be_caught_by_the_caller(db: &Db) {
    with_failing_replay(db);
    let before = traces(db);
    let mut admin = db.admin();
    run(&mut admin, "CREATE TEMPORARY TABLE seen (n int)");
    run(
        &mut admin,
        "DO $$ BEGIN
             FOR n IN 1..3 LOOP
                 BEGIN
                     INSERT INTO seen VALUES (-n);
                     PERFORM * FROM tenant_drift();
                 EXCEPTION WHEN SQLSTATE 'ZZ001' THEN INSERT INTO seen VALUES (n);
                 END;
             END LOOP;
         END $$",
    );
    assert_eq!(column::<i32>(&mut admin, "SELECT n FROM seen ORDER BY 1", &[]), [1, 2, 3]);
    run(&mut admin, "BEGIN; SAVEPOINT a; INSERT INTO seen VALUES (4); SAVEPOINT b; INSERT INTO seen VALUES (5)");
    expect_error(admin.query("SELECT * FROM tenant_drift()", &[]), "ZZ001");
    run(&mut admin, "ROLLBACK TO b; INSERT INTO seen VALUES (6); RELEASE a; COMMIT");
    assert_eq!(column::<i32>(&mut admin, "SELECT n FROM seen ORDER BY 1", &[]), [1, 2, 3, 4, 6]);
    assert_eq!(traces(db), before);
}

/// The rollback changes neither the session's caches of access and relations nor its settings and role.
fn session_state_is_unchanged(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); SET work_mem = '1MB'");
    let user = new_user();
    db.new_tenant("acme", user);
    let mut client = db.as_user(user);
    run(&mut client, "RESET fluxbase_tenant.user_id; SET ROLE fluxbase_tenant_server");
    act_as(&mut client, user);
    run(&mut client, "SELECT tenant_set_current('acme'); INSERT INTO notes VALUES ('before')");
    let settings =
        "SELECT concat_ws(';', current_user, session_user, current_setting('search_path'), current_setting('work_mem'),
                    current_setting('client_min_messages'), current_setting('jit'), current_setting('plan_cache_mode'),
                    current_setting('fluxbase_tenant.user_id', true))";
    let mut admin = db.admin();
    run(&mut admin, "SELECT tenant_current_id()");
    let before: String = one(&mut admin, settings, &[]);
    run(&mut admin, "BEGIN; PREPARE mine AS SELECT count(*) FROM tenant_drift()");
    run(
        &mut admin,
        "EXECUTE mine; DECLARE c CURSOR FOR SELECT 1 FROM tenant_drift() RIGHT JOIN generate_series(1, 5) ON true; FETCH 2 FROM c",
    );
    run(&mut admin, "EXECUTE mine; FETCH 2 FROM c; COMMIT; EXECUTE mine");
    assert_eq!(one::<String>(&mut admin, settings, &[]), before);

    // The same for a user who is an instance admin, whose access to the tables is cached.
    run(&mut admin, &format!("SELECT tenant_grant_instance_admin('{user}')"));
    for _ in 0..2 {
        assert!(drift(&mut client, "tenant_drift()").is_empty());
        run(&mut client, "INSERT INTO notes VALUES ('after')");
        assert_eq!(one::<String>(&mut client, "SELECT slug FROM tenant_current()", &[]), "acme");
    }
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM notes", &[]), 3);
    run(&mut admin, &format!("SELECT tenant_revoke_instance_admin('{user}')"));
    run(&mut client, "INSERT INTO notes VALUES ('as a member')");
    let tenant = db.new_tenant("next", new_user());
    assert!(drift_of(&mut admin, tenant).is_empty());
}

fn a_migration_leaves_no_trace_of_the_scratch_schema(db: &Db) {
    run(
        &mut db.superuser(),
        "CREATE TABLE log (line text); GRANT INSERT ON log TO PUBLIC; GRANT USAGE ON SCHEMA public TO PUBLIC",
    );
    db.add_migration(
        "1",
        "CREATE TABLE who AS SELECT current_user::text AS role, tenant_current_id() AS tenant;
         INSERT INTO public.log SELECT role FROM who; NOTIFY heard",
    );
    db.new_tenant("acme", new_user());
    let count = "SELECT count(*) FROM log";
    let mut superuser = db.superuser();
    run(&mut superuser, "LISTEN heard");
    assert_eq!(one::<i64>(&mut superuser, count, &[]), 1);
    assert!(drift(&mut superuser, "tenant_drift()").is_empty());
    assert_eq!(one::<i64>(&mut superuser, count, &[]), 1);
    use postgres::fallible_iterator::FallibleIterator;
    assert!(superuser.notifications().iter().next().unwrap().is_none());
    assert!(drift(&mut superuser, "(SELECT d.* FROM tenant_drift() d) d").is_empty());
}

fn waits_for_a_migrating_tenant_only_if_it_differs(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (id int)");
    let acme = db.new_tenant("acme", new_user());
    db.add_migration("2", "ALTER TABLE notes ADD COLUMN body text");
    let (mut migrating, mut client) = (db.admin(), db.admin());
    run(&mut migrating, &format!("BEGIN; SELECT tenant_migrate('{acme}')"));
    run(&mut client, "SET lock_timeout = '300ms'");
    assert!(drift(&mut client, "tenant_drift()").is_empty());
    run(&mut migrating, "COMMIT");
    assert!(drift(&mut client, "tenant_drift()").is_empty());
    run(&mut db.superuser(), "ALTER TABLE tenant_acme.notes ADD COLUMN extra text");
    run(&mut migrating, &format!("BEGIN; SELECT tenant_update('{acme}', 'Locked')"));
    expect_error(client.query("SELECT * FROM tenant_drift()", &[]), "55P03");
    run(&mut migrating, "ROLLBACK");
    assert_eq!(drift(&mut client, "tenant_drift()"), ["acme: column notes.extra unexpected"]);
}

/// Printing the definition of a view locks its tables. tenant_drift() waits for a migration that holds such locks, and
/// never blocks a migration for long.
fn tables_altered_by_a_migration(db: &Db) {
    db.add_migration(
        "1",
        "CREATE TABLE a (n int CHECK (n > 0)); CREATE TABLE b (n int); CREATE VIEW v AS SELECT b.n FROM a, b",
    );
    let tenants = [db.new_tenant("acme", new_user()), db.new_tenant("other", new_user())];
    db.add_migration("2", "ALTER TABLE b ADD COLUMN body text; ALTER TABLE a ADD COLUMN body text");
    let (mut migrating, mut client) = (db.admin(), db.admin());
    run(&mut migrating, &format!("BEGIN; SELECT tenant_migrate('{}')", tenants[0]));
    run(&mut client, "SET lock_timeout = '300ms'");
    expect_error(client.query("SELECT * FROM tenant_drift()", &[]), "55P03");
    run(&mut client, "RESET lock_timeout");
    std::thread::scope(|scope| {
        let lines = scope.spawn(|| drift(&mut client, "tenant_drift()"));
        std::thread::sleep(std::time::Duration::from_millis(500));
        run(&mut migrating, "COMMIT");
        assert!(lines.join().expect("tenant_drift() succeeds").is_empty());
    });
}

/// A member keeps the table locked, in a transaction that stays open.
fn tables_kept_locked_by_another_session(db: &Db) {
    db.add_migration("1", "CREATE TABLE a (n int CHECK (n > 0)); CREATE VIEW v AS SELECT n FROM a");
    let user = new_user();
    let acme = db.new_tenant("acme", user);
    db.new_tenant("other", new_user());
    run(&mut db.superuser(), "ALTER TABLE tenant_other.a ADD COLUMN extra int");
    let mut member = db.as_user(user);
    run(&mut member, "BEGIN; LOCK TABLE tenant_acme.a");
    let mut admin = db.admin();
    assert_eq!(
        drift(&mut admin, "tenant_drift()"),
        ["acme: schema tenant_acme locked", "other: column a.extra unexpected"]
    );
    run(&mut admin, "SET lock_timeout = '300ms'");
    expect_error(admin.query("SELECT * FROM tenant_drift()", &[]), "55P03");
    expect_error(admin.query("SELECT * FROM tenant_drift($1)", &[&acme]), "55P03");
    run(&mut member, "ROLLBACK");
    assert_eq!(drift(&mut admin, "tenant_drift()"), ["other: column a.extra unexpected"]);
}

fn tenants_created_and_deleted_concurrently(db: &Db) {
    db.add_migration("1", "CREATE TABLE a (n int CHECK (n > 0)); CREATE VIEW v AS SELECT n, lower('X') FROM a");
    let mut client = db.admin();
    std::thread::scope(|scope| {
        let churning = scope.spawn(|| {
            for n in 0..12 {
                let tenant = db.new_tenant(&format!("t{n}"), new_user());
                let gone = format!("SELECT tenant_delete('{tenant}')");
                run(&mut db.admin(), if n % 3 == 0 { "SELECT 1" } else { &gone });
            }
        });
        while !churning.is_finished() {
            assert!(drift(&mut client, "tenant_drift()").is_empty());
        }
        churning.join().expect("all calls succeed");
    });
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_list()", &[]), 4);
}

fn refused_in_a_read_only_transaction(db: &Db) {
    db.new_tenant("acme", new_user());
    let mut admin = db.admin();
    run(&mut admin, "BEGIN READ ONLY");
    expect_error(admin.query("SELECT * FROM tenant_drift()", &[]), "25006");
    run(&mut admin, "ROLLBACK");
    assert!(drift(&mut admin, "tenant_drift()").is_empty());
}

/// Functions and operators that a tenant creates under the names of PostgreSQL's own are not called.
fn tenant_schemas_are_not_on_the_search_path(db: &Db) {
    let acme = db.new_tenant("acme", new_user());
    let names =
        ["quote_ident(text)", "strpos(text, text)", "concat_ws(text, text)", "replace(text, text, text)", "chr(int)"];
    for name in names {
        let planted = format!(
            "CREATE FUNCTION {name} RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hijacked by %', current_user; END $$"
        );
        db.migrate(acme, &planted);
    }
    db.migrate(
        acme,
        "CREATE FUNCTION same(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'hijacked'; END $$;
         CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = same); CREATE TABLE notes (body text, CHECK (body <> ''))",
    );
    let mut superuser = db.superuser();
    run(&mut superuser, "SET search_path = tenant_acme, pg_catalog");
    let rows = superuser.query("SELECT * FROM public.tenant_drift()", &[]).unwrap();
    assert!(rows.is_empty(), "{rows:?}");
}
