//! Plans are reused by callers they were not made for, and queries run inside functions, triggers and views. Each
//! execution is checked for its caller.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::tables::act_as;
use crate::support::{Db, expect_error};

cases![
    prepared_statements_are_checked_for_their_caller,
    generic_plans_are_checked_for_their_caller,
    superusers_plans_give_no_access_to_others,
    statements_of_the_protocol_are_checked_again,
    plans_survive_changes_of_the_table,
    cursors_are_checked_at_every_fetch,
    held_cursors_are_checked_at_every_fetch,
    portals_of_the_protocol_are_checked_at_every_fetch,
    identity_changed_inside_a_query_exposes_nothing,
    functions_are_checked_for_their_caller,
    definer_functions_of_a_tenant_work_for_its_members,
    plans_cached_in_functions_are_checked,
    triggers_read_their_own_tenant,
    superusers_and_bypassrls_roles_read_all,
    views_of_superusers_read_everything,
    views_of_ordinary_roles_check_the_identity,
    rules_give_no_further_access,
];

struct World {
    acme: Uuid,
    member: Uuid,
    other: Uuid,
    neighbour: Uuid,
}

fn world(db: &Db) -> World {
    db.add_migration(
        "1",
        "CREATE TABLE notes (id int PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'one'), (2, 'two')",
    );
    let (member, neighbour) = (new_user(), new_user());
    World { acme: db.new_tenant("acme", member), member, other: db.new_tenant("other", neighbour), neighbour }
}

const NOTES: &str = "SELECT id FROM tenant_acme.notes ORDER BY id";

#[track_caller]
fn refused(client: &mut Client, sql: &str) {
    expect_error(client.batch_execute(sql), "42501").hint_has("accessible");
}

/// Runs the same prepared statements alternately for callers with and without access.
fn alternate_callers(db: &Db, world: &World, settings: &str) {
    let mut client = db.as_user(world.member);
    run(&mut client, settings);
    run(
        &mut client,
        "PREPARE q (int) AS SELECT body FROM tenant_acme.notes WHERE id = $1;
         PREPARE w (int) AS UPDATE tenant_acme.notes SET body = body WHERE id = $1",
    );
    for _ in 0..3 {
        act_as(&mut client, world.member);
        for _ in 0..7 {
            assert_eq!(column::<String>(&mut client, "EXECUTE q (2)", &[]), ["two"]);
            assert_eq!(client.execute("EXECUTE w (2)", &[]).unwrap(), 1);
        }
        for identity in [
            format!("SET fluxbase_tenant.user_id = '{}'", world.neighbour),
            "RESET fluxbase_tenant.user_id".to_owned(),
            format!("SET fluxbase_tenant.tenant_id = '{}'", world.other),
        ] {
            run(&mut client, &identity);
            refused(&mut client, "EXECUTE q (2)");
            refused(&mut client, "EXECUTE w (2)");
            refused(&mut client, "EXPLAIN EXECUTE q (2)");
            refused(&mut client, "CREATE TEMP TABLE taken AS EXECUTE q (2)");
        }
        run(&mut client, "RESET fluxbase_tenant.tenant_id");
    }
}

fn prepared_statements_are_checked_for_their_caller(db: &Db) {
    alternate_callers(db, &world(db), "SET plan_cache_mode = auto");
}

fn generic_plans_are_checked_for_their_caller(db: &Db) {
    alternate_callers(db, &world(db), "SET plan_cache_mode = force_generic_plan");
}

fn superusers_plans_give_no_access_to_others(db: &Db) {
    let world = world(db);
    run(&mut db.superuser(), "CREATE ROLE seer BYPASSRLS IN ROLE fluxbase_tenant_user");
    for powerful in ["postgres", "seer"] {
        let mut client = db.superuser();
        run(
            &mut client,
            &format!("SET plan_cache_mode = force_generic_plan; SET ROLE {powerful}; PREPARE q AS {NOTES}"),
        );
        for _ in 0..3 {
            run(&mut client, &format!("SET ROLE {powerful}"));
            assert_eq!(column::<i32>(&mut client, "EXECUTE q", &[]), [1, 2]);
            run(&mut client, "SET ROLE app_user");
            refused(&mut client, "EXECUTE q");
            run(&mut client, "SET ROLE app_server");
            act_as(&mut client, world.neighbour);
            refused(&mut client, "EXECUTE q");
            act_as(&mut client, world.member);
            assert_eq!(column::<i32>(&mut client, "EXECUTE q", &[]), [1, 2]);
            run(&mut client, "RESET ROLE; RESET fluxbase_tenant.user_id");
        }
    }
}

fn statements_of_the_protocol_are_checked_again(db: &Db) {
    let world = world(db);
    let mut client = db.server();
    let statement = client.prepare("SELECT body FROM tenant_acme.notes WHERE id = $1").unwrap();
    expect_error(client.query(&statement, &[&1]), "42501");
    for _ in 0..8 {
        act_as(&mut client, world.member);
        assert_eq!(client.query(&statement, &[&1]).unwrap().len(), 1);
        act_as(&mut client, world.neighbour);
        expect_error(client.query(&statement, &[&1]), "42501");
    }
}

fn plans_survive_changes_of_the_table(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.member);
    let statement = client.prepare(NOTES).unwrap();
    assert_eq!(client.query(&statement, &[]).unwrap().len(), 2);
    db.migrate(world.acme, "ALTER TABLE notes ADD COLUMN more int; CREATE INDEX ON notes (more); ANALYZE notes");
    assert_eq!(client.query(&statement, &[]).unwrap().len(), 2);
    db.migrate(world.acme, "DROP TABLE notes; CREATE TABLE notes (id int PRIMARY KEY); INSERT INTO notes VALUES (1)");
    assert_eq!(client.query(&statement, &[]).unwrap().len(), 1);
    act_as(&mut client, world.neighbour);
    expect_error(client.query(&statement, &[]), "42501");
}

fn cursors_are_checked_at_every_fetch(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.member);
    for end in [
        format!("SET LOCAL fluxbase_tenant.user_id = '{}'", world.neighbour),
        format!("SET LOCAL fluxbase_tenant.tenant_id = '{}'", world.other),
        "SET LOCAL fluxbase_tenant.user_id = ''".to_owned(),
        format!("SELECT set_config('fluxbase_tenant.user_id', '{}', true)", world.neighbour),
    ] {
        for fetch in ["FETCH c", "FETCH ALL FROM c", "FETCH FIRST FROM c", "MOVE LAST FROM c"] {
            run(&mut client, &format!("BEGIN; DECLARE c SCROLL CURSOR FOR {NOTES}"));
            assert_eq!(column::<i32>(&mut client, "FETCH c", &[]), [1]);
            run(&mut client, &end);
            refused(&mut client, fetch);
            run(&mut client, "ROLLBACK");
        }
        assert_eq!(reached(&mut client, "tenant_acme.notes"), 2, "the identity is restored");
    }
}

fn held_cursors_are_checked_at_every_fetch(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.member);
    run(&mut client, &format!("BEGIN; DECLARE c SCROLL CURSOR WITH HOLD FOR {NOTES}; COMMIT"));
    assert_eq!(column::<i32>(&mut client, "FETCH c", &[]), [1]);
    act_as(&mut client, world.neighbour);
    refused(&mut client, "FETCH c");
    refused(&mut client, "FETCH FIRST FROM c");
    act_as(&mut client, world.member);
    run(
        &mut db.admin(),
        &format!(
            "SELECT tenant_add_member('{}', '{}'); SELECT tenant_suspend('{}')",
            world.acme,
            new_user(),
            world.acme
        ),
    );
    refused(&mut client, "FETCH c");
    run(&mut db.admin(), &format!("SELECT tenant_resume('{}')", world.acme));
    assert_eq!(column::<i32>(&mut client, "FETCH c", &[]), [2]);
}

fn portals_of_the_protocol_are_checked_at_every_fetch(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.member);
    let mut transaction = client.transaction().unwrap();
    let portal = transaction.bind(NOTES, &[]).unwrap();
    assert_eq!(transaction.query_portal(&portal, 1).unwrap().len(), 1);
    transaction.batch_execute(&format!("SET LOCAL fluxbase_tenant.user_id = '{}'", world.neighbour)).unwrap();
    expect_error(transaction.query_portal(&portal, 1), "42501");
}

/// A query that changes the session's user cannot read anything that it could not read before.
fn identity_changed_inside_a_query_exposes_nothing(db: &Db) {
    let world = world(db);
    let mut client = db.as_user(world.neighbour);
    refused(
        &mut client,
        &format!(
            "WITH s AS MATERIALIZED (SELECT set_config('fluxbase_tenant.user_id', '{}', false))
             SELECT * FROM s, tenant_acme.notes",
            world.member
        ),
    );
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 0);
}

fn functions_are_checked_for_their_caller(db: &Db) {
    let world = world(db);
    run(
        &mut db.superuser(),
        "CREATE FUNCTION public.in_sql() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM tenant_acme.notes';
         CREATE FUNCTION public.in_atomic() RETURNS bigint STABLE RETURN (SELECT count(*) FROM tenant_acme.notes);
         CREATE FUNCTION public.in_plpgsql() RETURNS bigint LANGUAGE plpgsql AS
             'BEGIN RETURN (SELECT count(*) FROM tenant_acme.notes); END';
         CREATE FUNCTION public.in_loop() RETURNS bigint LANGUAGE plpgsql AS
             'DECLARE r record; n bigint := 0; BEGIN FOR r IN TABLE tenant_acme.notes LOOP n := n + 1; END LOOP; RETURN n; END';
         CREATE FUNCTION public.in_execute() RETURNS bigint LANGUAGE plpgsql AS
             'DECLARE n bigint; BEGIN EXECUTE ''SELECT count(*) FROM tenant_acme.notes'' INTO n; RETURN n; END';
         CREATE FUNCTION public.in_set() RETURNS SETOF tenant_acme.notes LANGUAGE sql STABLE AS 'TABLE tenant_acme.notes'",
    );
    db.migrate(
        world.acme,
        "CREATE FUNCTION own() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM tenant_acme.notes'",
    );
    let functions = ["in_sql()", "in_atomic()", "in_plpgsql()", "in_loop()", "in_execute()", "tenant_acme.own()"];
    for function in functions {
        let call = format!("SELECT {function}");
        assert_eq!(one::<i64>(&mut db.as_user(world.member), &call, &[]), 2, "{function}");
        for mut client in [db.as_user(world.neighbour), db.server(), db.user_role()] {
            expect_error(client.query(&call, &[]), "42501");
        }
    }
    assert_eq!(reached(&mut db.as_user(world.member), "in_set()"), 2);
    assert_eq!(reached(&mut db.as_user(world.neighbour), "in_set()"), 0);
}

fn definer_functions_of_a_tenant_work_for_its_members(db: &Db) {
    let world = world(db);
    db.migrate(
        world.acme,
        "CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = tenant_acme, pg_temp
             AS 'SELECT count(*) FROM notes';
         CREATE TABLE ledger (n int); ALTER TABLE ledger DISABLE TRIGGER USER; REVOKE ALL ON ledger FROM fluxbase_tenant_user;
         CREATE FUNCTION booked() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = tenant_acme, pg_temp
             AS 'INSERT INTO ledger VALUES (1)'",
    );
    for mut client in [db.as_user(world.member), db.as_service(world.acme)] {
        assert_eq!(one::<i64>(&mut client, "SELECT tenant_acme.counted()", &[]), 2);
        run(&mut client, "SELECT tenant_acme.booked()");
        expect_error(client.query("TABLE tenant_acme.ledger", &[]), "42501");
    }
    for mut client in [db.as_user(world.neighbour), db.server(), db.user_role()] {
        expect_error(client.query("SELECT tenant_acme.counted()", &[]), "42501");
        expect_error(client.query("SELECT tenant_acme.booked()", &[]), "42501");
    }
}

fn plans_cached_in_functions_are_checked(db: &Db) {
    let world = world(db);
    run(
        &mut db.superuser(),
        "CREATE FUNCTION public.find(wanted int) RETURNS text LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS
             'BEGIN RETURN (SELECT body FROM tenant_acme.notes WHERE id = wanted); END'",
    );
    let mut client = db.server();
    for _ in 0..4 {
        act_as(&mut client, world.member);
        for _ in 0..7 {
            assert_eq!(one::<String>(&mut client, "SELECT find(1)", &[]), "one");
        }
        act_as(&mut client, world.neighbour);
        refused(&mut client, "SELECT find(1)");
    }
}

fn triggers_read_their_own_tenant(db: &Db) {
    let world = world(db);
    db.migrate(
        world.acme,
        "CREATE TABLE log (line text);
         CREATE FUNCTION logged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO tenant_acme.log SELECT format('%s of %s', tg_op, count(*)) FROM tenant_acme.notes; RETURN NULL; END $$;
         CREATE TRIGGER logged AFTER INSERT OR UPDATE OR DELETE ON notes FOR EACH STATEMENT EXECUTE FUNCTION logged()",
    );
    let mut member = db.as_user(world.member);
    run(&mut member, "INSERT INTO tenant_acme.notes VALUES (3, 'three')");
    run(&mut member, "DELETE FROM tenant_acme.notes WHERE id < 3");
    assert_eq!(column::<String>(&mut member, "TABLE tenant_acme.log", &[]), ["INSERT of 3", "DELETE of 1"]);
    refused(&mut db.as_user(world.neighbour), "DELETE FROM tenant_acme.notes");
    assert_eq!(reached(&mut member, "tenant_acme.log"), 2);
}

/// As on every table with row-level security, whatever identity is set.
fn superusers_and_bypassrls_roles_read_all(db: &Db) {
    let world = world(db);
    run(&mut db.superuser(), "CREATE ROLE all_seeing LOGIN BYPASSRLS IN ROLE fluxbase_tenant_user");
    let sql = "SELECT count(*) FROM tenant_acme.notes, tenant_other.notes other";
    for role in ["postgres", "all_seeing"] {
        let mut client = db.connect_as(role, "");
        assert_eq!(one::<i64>(&mut client, sql, &[]), 4);
        if role == "postgres" {
            act_as(&mut client, world.neighbour);
            assert_eq!(one::<i64>(&mut client, sql, &[]), 4);
            run(&mut client, "SET ROLE app_user");
            refused(&mut client, sql);
        }
    }
    run(&mut db.superuser(), "DROP OWNED BY all_seeing; DROP ROLE all_seeing");
}

fn views_of_superusers_read_everything(db: &Db) {
    let world = world(db);
    db.migrate(world.acme, "CREATE TABLE split (n int) PARTITION BY LIST (n); CREATE TABLE part PARTITION OF split DEFAULT; INSERT INTO split VALUES (1)");
    run(
        &mut db.superuser(),
        "CREATE VIEW report AS TABLE tenant_acme.notes UNION ALL TABLE tenant_other.notes; GRANT SELECT ON report TO PUBLIC;
         CREATE VIEW parts AS TABLE tenant_acme.split; GRANT SELECT ON parts TO PUBLIC",
    );
    for mut client in [db.as_user(world.neighbour), db.user_role(), db.outsider()] {
        assert_eq!(reached(&mut client, "report"), 4);
        assert_eq!(reached(&mut client, "parts"), 1);
        refused_or_denied(&mut client, "SELECT * FROM report, tenant_acme.split");
    }
    run(&mut db.superuser(), "ALTER VIEW report SET (security_invoker = true)");
    refused(&mut db.as_user(world.neighbour), "TABLE report");
}

#[track_caller]
fn refused_or_denied(client: &mut Client, sql: &str) {
    expect_error(client.query(sql, &[]), "42501");
}

fn views_of_ordinary_roles_check_the_identity(db: &Db) {
    let world = world(db);
    let role = format!("reporter_{}", db.name());
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE {role} IN ROLE fluxbase_tenant_user; CREATE VIEW report AS TABLE tenant_acme.notes;
             ALTER VIEW report OWNER TO {role}; GRANT SELECT ON report TO PUBLIC"
        ),
    );
    assert_eq!(reached(&mut db.as_user(world.member), "report"), 2);
    for mut client in [db.as_user(world.neighbour), db.user_role(), db.server()] {
        refused(&mut client, "TABLE report");
    }
    refused_or_denied(&mut db.outsider(), "TABLE report");
    run(&mut db.superuser(), &format!("DROP VIEW report; DROP ROLE {role}"));
}

fn rules_give_no_further_access(db: &Db) {
    let world = world(db);
    db.migrate(
        world.acme,
        "CREATE TABLE copies (id int, body text);
         CREATE RULE copy AS ON INSERT TO notes DO ALSO INSERT INTO copies VALUES (new.id, new.body)",
    );
    run(&mut db.as_user(world.member), "INSERT INTO tenant_acme.notes VALUES (3, 'three')");
    assert_eq!(reached(&mut db.as_user(world.member), "tenant_acme.copies"), 1);
    refused(&mut db.as_user(world.neighbour), "INSERT INTO tenant_acme.notes VALUES (4, 'four')");
    let theft = "CREATE RULE theft AS ON INSERT TO notes DO ALSO SELECT * FROM tenant_other.notes";
    expect_error(db.try_migration(world.acme, theft), "42501");
}
