//! A cursor belongs to the caller who opened it, whichever method fetches its rows.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_error};

cases![
    held_cursors_and_triggers,
    portals_of_the_protocol,
    materialized_portals,
    cursors_on_shared_tables,
    cursors_on_calls_of_the_extension,
    loops_over_the_users_tenants,
    loops_in_procedures_that_commit,
    cursors_of_services_and_admins,
    cursors_in_failed_transactions,
    closing_another_users_cursor_releases_no_lock,
    opened_and_fetched_in_one_command,
    opened_as_the_owner_role,
    handed_over_by_a_definer_function,
    objects_created_over_an_inaccessible_path,
];

pub struct World {
    acme: Uuid,
    other: Uuid,
    pub member: Uuid,
    outsider: Uuid,
}

pub fn world(db: &Db) -> World {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    db.add_migration("1", "CREATE TABLE notes AS SELECT n, 'secret ' || n AS body FROM generate_series(1, 9) n");
    let outsider = new_user();
    let (acme, other) = (db.new_tenant("acme", new_user()), db.new_tenant("other", outsider));
    let member = db.new_member(acme);
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE orders (id int, item text); SELECT tenant_protect('orders');
             GRANT SELECT, INSERT, UPDATE ON orders TO fluxbase_tenant_user;
             INSERT INTO orders SELECT n, 'secret ' || n, '{acme}' FROM generate_series(1, 9) n"
        ),
    );
    World { acme, other, member, outsider }
}

/// Methods to fetch from a cursor in an application's session.
const FETCH_METHODS: &str = "CREATE TEMP TABLE loot (cursor text, got text);
     CREATE FUNCTION pg_temp.on_row() RETURNS trigger LANGUAGE plpgsql AS
     $$ DECLARE c refcursor := NEW.cursor; BEGIN FETCH c INTO NEW.got; RETURN NEW; END $$;
     CREATE TRIGGER t BEFORE INSERT ON loot FOR EACH ROW EXECUTE FUNCTION pg_temp.on_row();
     CREATE FUNCTION pg_temp.take(name text) RETURNS text LANGUAGE plpgsql AS
     $$ DECLARE c refcursor := name; got text; BEGIN FETCH c INTO got; RETURN got; END $$";

fn fetch_methods(cursor: &str) -> [String; 5] {
    [
        format!("FETCH {cursor}"),
        format!("MOVE 1 IN {cursor}"),
        format!("INSERT INTO loot VALUES ('{cursor}') RETURNING got"),
        format!("SELECT pg_temp.take('{cursor}')"),
        format!("DO $$ DECLARE c refcursor := '{cursor}'; got text; BEGIN FETCH c INTO got; END $$"),
    ]
}

pub fn local(user: Uuid) -> String {
    format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{user}'")
}

/// Asserts that the statement is refused, or that the cursor does not exist.
#[track_caller]
fn refused(client: &mut Client, statement: &str) {
    let error = client.batch_execute(statement).expect_err(statement);
    let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
    assert!(["42501", "34000"].contains(&&*code), "{statement}: {error:?}");
}

fn held_cursors_and_triggers(db: &Db) {
    let world = world(db);
    for query in ["SELECT body FROM tenant_acme.notes ORDER BY n", "SELECT item FROM orders ORDER BY id"] {
        for method in fetch_methods("held") {
            let mut client = db.server();
            run(&mut client, FETCH_METHODS);
            let declare = format!("{}; DECLARE held CURSOR WITH HOLD FOR {query}; COMMIT", local(world.member));
            run(&mut client, &declare);
            run(&mut client, &local(world.outsider));
            refused(&mut client, &method);
            run(&mut client, "ROLLBACK");
            // Without a user the fetch is refused too.
            refused(&mut client, &method);
            run(&mut client, "CLOSE ALL");
            run(&mut client, &declare);
            run(&mut client, &format!("{}; {method}; COMMIT", local(world.member)));
            assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM pg_cursors WHERE name = 'held'", &[]), 1);
        }
    }
}

/// The protocol executes a portal without a command that a hook could see.
fn portals_of_the_protocol(db: &Db) {
    let world = world(db);
    let mut client = db.server();
    db.act_as(&mut client, Some(world.member));
    for (query, code) in [
        ("SELECT 1 FROM tenant_acme.notes", "42501"),
        ("SELECT 1 FROM orders", "42501"),
        // From the first fetch on, the rows are materialized.
        ("UPDATE tenant_acme.notes SET n = n RETURNING 1", "55000"),
        ("UPDATE orders SET id = id RETURNING 1", "55000"),
    ] {
        let mut transaction = client.transaction().unwrap();
        let portal = transaction.bind(query, &[]).unwrap();
        assert_eq!(transaction.query_portal(&portal, 1).unwrap().len(), 1);
        transaction.batch_execute("SAVEPOINT s").unwrap();
        assert_eq!(transaction.query_portal(&portal, 1).unwrap().len(), 1);
        transaction.batch_execute(&format!("SET LOCAL fluxbase_tenant.user_id = '{}'", world.outsider)).unwrap();
        expect_error(transaction.query_portal(&portal, 1), code);
        transaction.rollback().unwrap();
    }
}

fn materialized_portals(db: &Db) {
    let world = world(db);
    for query in [
        "OPEN c FOR UPDATE tenant_acme.notes SET body = body RETURNING body",
        "OPEN c FOR EXECUTE 'EXPLAIN (ANALYZE, COSTS off, TIMING off) SELECT body FROM tenant_acme.notes WHERE n > 0'",
        "OPEN c FOR WITH w AS (UPDATE tenant_acme.notes SET body = body RETURNING body) SELECT body FROM w",
        "OPEN c FOR UPDATE orders SET item = item RETURNING item",
        "OPEN c FOR EXECUTE 'EXECUTE prepared'",
        "OPEN c FOR EXECUTE 'FETCH ALL FROM inner_one'",
    ] {
        for method in fetch_methods("stored") {
            let mut client = db.server();
            run(&mut client, FETCH_METHODS);
            run(
                &mut client,
                &format!(
                    "CREATE FUNCTION pg_temp.opened() RETURNS refcursor LANGUAGE plpgsql AS
                     $f$ DECLARE c refcursor := 'stored'; BEGIN {query}; RETURN c; END $f$;
                     {}; PREPARE prepared AS SELECT item FROM orders; DECLARE inner_one CURSOR FOR SELECT body FROM tenant_acme.notes;
                     SELECT pg_temp.opened(); FETCH stored; SAVEPOINT s; {method}",
                    local(world.member)
                ),
            );
            run(&mut client, &format!("SET LOCAL fluxbase_tenant.user_id = '{}'", world.outsider));
            refused(&mut client, &method);
        }
    }
}

fn cursors_on_shared_tables(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.member);
    run(&mut client, FETCH_METHODS);
    for method in fetch_methods("c") {
        // The user changes.
        run(&mut client, "BEGIN; DECLARE c CURSOR FOR SELECT item FROM orders ORDER BY id; FETCH c; SAVEPOINT s");
        run(&mut client, &format!("{method}; SET LOCAL fluxbase_tenant.user_id = '{}'", world.outsider));
        refused(&mut client, &method);
        run(&mut client, "ROLLBACK");
        // The membership ends.
        for end in ["", "COMMIT"] {
            run(
                &mut client,
                &format!("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT item FROM orders ORDER BY id; FETCH c; {end}"),
            );
            let (tenant, user) = (world.acme, world.member);
            run(&mut db.admin(), &format!("SELECT tenant_remove_member('{tenant}', '{user}')"));
            refused(&mut client, &method);
            run(&mut client, "ROLLBACK; CLOSE ALL");
            run(&mut db.admin(), &format!("SELECT tenant_add_member('{tenant}', '{user}')"));
        }
    }
    // Another membership that begins or ends has no effect.
    run(&mut client, "DECLARE c CURSOR WITH HOLD FOR SELECT item FROM orders ORDER BY id");
    for call in ["add", "remove"] {
        let call = format!("SELECT tenant_{call}_member('{}', '{}')", world.other, world.member);
        run(&mut db.admin(), &call);
        assert_eq!(column::<String>(&mut client, "FETCH c", &[]).len(), 1);
    }
}

fn cursors_on_calls_of_the_extension(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.member);
    run(&mut client, "DECLARE mine CURSOR WITH HOLD FOR SELECT slug FROM tenant_list_mine()");
    db.act_as(&mut client, Some(world.outsider));
    refused(&mut client, "FETCH mine");
    db.act_as(&mut client, Some(world.member));
    assert_eq!(column::<String>(&mut client, "FETCH mine", &[]), ["acme"]);
    // A cursor that was opened without a user holds no tenant's rows.
    let mut client = db.server();
    run(&mut client, "CREATE TEMP TABLE own AS SELECT 1 AS n; DECLARE plain CURSOR WITH HOLD FOR TABLE own");
    db.act_as(&mut client, Some(world.member));
    assert_eq!(column::<i32>(&mut client, "FETCH plain", &[]), [1]);
}

/// The loop changes the current tenant but not the user.
fn loops_over_the_users_tenants(db: &Db) {
    let world = world(db);
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{}', '{}')", world.other, world.member));
    for (source, turns) in [
        ("SELECT id FROM tenant_list_mine()", 2),
        ("SELECT id FROM fluxbase_tenant.tenants", 2),
        ("SELECT DISTINCT tenant_id AS id FROM orders", 1),
    ] {
        let mut client = db.as_user(world.member);
        run(
            &mut client,
            &format!(
                "CREATE TEMP TABLE seen (n bigint);
                 DO $$ DECLARE r record; BEGIN FOR r IN {source} LOOP
                     PERFORM tenant_set_current(r.id); INSERT INTO seen SELECT count(*) FROM notes; END LOOP; END $$"
            ),
        );
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM seen WHERE n = 9", &[]), turns, "{source}");
    }
}

fn loops_in_procedures_that_commit(db: &Db) {
    let world = world(db);
    let user = world.member;
    for (set, mut client) in [
        (String::new(), db.as_user(user)),
        (format!("PERFORM set_config('fluxbase_tenant.user_id', '{user}', true);"), db.server()),
    ] {
        run(
            &mut client,
            &format!(
                "CREATE TEMP TABLE seen (item text);
                 CREATE PROCEDURE pg_temp.work() LANGUAGE plpgsql AS $$ DECLARE r record; BEGIN
                     {set} FOR r IN SELECT item FROM orders ORDER BY id LOOP
                         INSERT INTO seen VALUES (r.item); COMMIT; {set} END LOOP; END $$"
            ),
        );
        run(&mut client, "CALL pg_temp.work()");
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM seen", &[]), 9, "{set}");
    }
}

fn cursors_of_services_and_admins(db: &Db) {
    let world = world(db);
    let declare = "DECLARE c CURSOR WITH HOLD FOR SELECT item FROM orders ORDER BY id";
    let set = |tenant: Uuid| format!("SET fluxbase_tenant.tenant_id = '{tenant}'");
    let mut client = db.as_service(world.acme);
    run(&mut client, declare);
    run(&mut client, &set(world.other));
    refused(&mut client, "FETCH c");
    run(&mut client, &set(world.acme));
    assert_eq!(column::<String>(&mut client, "FETCH c", &[]), ["secret 1"]);
    // An instance admin remains one, whichever tenant is current.
    let mut client = db.admin();
    run(&mut client, declare);
    run(&mut client, "SELECT tenant_set_current('other')");
    assert_eq!(column::<String>(&mut client, "FETCH c", &[]), ["secret 1"]);
}

/// A failed transaction permits no catalog lookups.
fn cursors_in_failed_transactions(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.member);
    run(&mut client, "DECLARE held CURSOR WITH HOLD FOR SELECT item FROM orders ORDER BY id");
    for end in ["ROLLBACK", "COMMIT", "ROLLBACK TO s; COMMIT"] {
        run(&mut client, "BEGIN; SAVEPOINT s; DECLARE c CURSOR FOR SELECT item FROM orders ORDER BY id; FETCH c");
        expect_error(client.batch_execute("SELECT 1 / 0"), "22012");
        expect_error(client.batch_execute("FETCH c"), "25P02");
        run(&mut client, end);
    }
    assert_eq!(column::<String>(&mut client, "FETCH held", &[]), ["secret 1"]);
}

/// PostgreSQL treats a failed cursor as if its transaction had failed, and would release its locks.
fn closing_another_users_cursor_releases_no_lock(db: &Db) {
    let world = world(db);
    let mut client = db.server();
    run(
        &mut client,
        &format!(
            "{}; DO $$ DECLARE c refcursor := 'mine'; r record; BEGIN
                 OPEN c FOR UPDATE tenant_acme.notes SET body = body WHERE n = 1 RETURNING body; FETCH c INTO r; END $$;
             SET LOCAL fluxbase_tenant.user_id = '{}'; CLOSE mine",
            local(world.member),
            world.outsider
        ),
    );
    let held =
        "SELECT count(*) FROM pg_locks WHERE relation = 'tenant_acme.notes'::regclass AND mode = 'RowExclusiveLock'";
    assert_eq!(one::<i64>(&mut db.superuser(), held, &[]), 1);
    run(&mut client, "COMMIT");
}

/// The membership ends between the two.
fn opened_and_fetched_in_one_command(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.member);
    run(&mut client, "CREATE TEMP TABLE got (turn int, body text)");
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            client.batch_execute(
                "DO $$ DECLARE c refcursor; r record; x text; BEGIN
                     FOR i IN 1..2 LOOP
                         c := 'c' || i; OPEN c FOR SELECT body FROM tenant_acme.notes;
                         x := pg_sleep(CASE i WHEN 1 THEN 0 ELSE 2 END); FETCH c INTO r; INSERT INTO got VALUES (i, r.body);
                     END LOOP; END $$",
            )
        });
        let sleeps = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep')";
        until("the session sleeps", || one::<bool>(&mut db.superuser(), sleeps, &[]));
        run(&mut db.admin(), &format!("SELECT tenant_remove_member('{}', '{}')", world.acme, world.member));
        expect_error(reading.join().unwrap(), "42501");
    });
}

/// A function that runs as the owner role opens the cursor, so its rows are the tenant's.
fn opened_as_the_owner_role(db: &Db) {
    let world = world(db);
    db.migrate(
        world.acme,
        "CREATE FUNCTION opened() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
         $f$ BEGIN EXECUTE 'DECLARE held CURSOR FOR SELECT body FROM notes ORDER BY n'; END $f$",
    );
    let role = format!("boss_of_{}", db.name());
    run(
        &mut db.superuser(),
        &format!("CREATE ROLE {role} LOGIN; GRANT fluxbase_tenant_server, fluxbase_tenant_admin TO {role}"),
    );
    let mut client = db.connect_as(&role, "");
    run(&mut client, "BEGIN; SELECT tenant_acme.opened(); FETCH held");
    run(&mut client, &format!("SET LOCAL fluxbase_tenant.user_id = '{}'", world.outsider));
    expect_error(client.batch_execute("FETCH held"), "42501");
    drop(client);
    run(&mut db.superuser(), &format!("DROP ROLE {role}"));
}

/// The function opens the cursor and its caller, a member, fetches from it. The reverse works too.
fn handed_over_by_a_definer_function(db: &Db) {
    let world = world(db);
    db.migrate(
        world.acme,
        "CREATE FUNCTION opened() RETURNS refcursor LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
         $f$ DECLARE c refcursor := 'handed'; BEGIN OPEN c FOR SELECT n FROM notes ORDER BY n; RETURN c; END $f$;
         CREATE FUNCTION taken(c refcursor) RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
         $f$ DECLARE n int; BEGIN FETCH c INTO n; RETURN n; END $f$",
    );
    let mut client = db.as_user(world.member);
    run(&mut client, "BEGIN; SELECT tenant_acme.opened()");
    assert_eq!(one::<i32>(&mut client, "FETCH handed", &[]), 1);
    assert_eq!(one::<i32>(&mut client, "SELECT tenant_acme.taken('handed')", &[]), 2);
    run(&mut client, "COMMIT");
}

/// The path is searched for a role that may set the user, but the role cannot create objects that use what it finds
/// there.
fn objects_created_over_an_inaccessible_path(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.outsider);
    run(&mut client, "SET search_path = tenant_acme, public");
    for statement in [
        "CREATE TEMP VIEW v AS SELECT body FROM notes",
        "CREATE TEMP TABLE t (n notes)",
        "CREATE FUNCTION pg_temp.f(notes) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "DO $$ BEGIN CREATE TEMP VIEW v AS SELECT body FROM notes; END $$",
    ] {
        expect_error(client.batch_execute(statement), "42501").message_has("schema tenant_acme");
    }
    db.act_as(&mut client, Some(world.member));
    run(&mut client, "CREATE TEMP VIEW v AS SELECT body FROM notes; CREATE TEMP TABLE t (n notes)");
}
