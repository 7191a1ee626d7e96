//! What one user of a pooled connection leaves behind for the next. The attacker controls one SQL text in the next
//! transaction.

use postgres::Client;

use crate::cases;
use crate::support::people::{one, reached, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    held_cursors_left_behind,
    prepared_statements_left_behind,
    cached_plans_with_function_results,
    temporary_objects_left_behind,
    temporary_tables_named_like_a_tenants,
    search_path_left_behind,
    text_that_ends_the_transaction,
    sequences_left_behind,
    membership_revoked_while_reading,
    membership_revoked_with_statements_and_cursors_open,
];

/// One connection of the application's back end, used for the victim's request first and then for the thief's.
struct Pooled<'a> {
    scene: &'a Scene<'a>,
    client: Client,
}

impl<'a> Pooled<'a> {
    fn new(scene: &'a Scene) -> Self {
        Pooled { scene, client: scene.db.server() }
    }

    fn request(&mut self, user: uuid::Uuid, text: &str) -> Result<(), postgres::Error> {
        let done =
            self.client.batch_execute(&format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{user}'; {text}; COMMIT"));
        let _ = self.client.batch_execute("ROLLBACK");
        done
    }

    fn victims(&mut self, text: &str) {
        self.request(self.scene.owner, text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    }

    fn thiefs(&mut self, text: &str) -> Result<(), postgres::Error> {
        self.request(self.scene.crook, text)
    }
}

/// Functions can fetch from a cursor without a query. Inaccessible cursors are closed before the functions run.
fn held_cursors_left_behind(db: &Db) {
    let scene = Scene::set(db);
    let take = "DO $$ DECLARE c refcursor := 'c'; r record; BEGIN FETCH c INTO r; PERFORM set_config('lair.loot', r.body, false); END $$";
    for attempt in [
        "FETCH ALL FROM c",
        "MOVE 1 IN c",
        take,
        "CREATE FUNCTION pg_temp.take() RETURNS text LANGUAGE plpgsql AS
         $$ DECLARE c refcursor := 'c'; r record; BEGIN FETCH c INTO r; RETURN r.body; END $$;
         SELECT set_config('lair.loot', pg_temp.take(), false)",
        "SELECT set_config('lair.loot', cursor_to_xml('c', 9, true, true, '')::text, false)",
    ] {
        let mut pooled = Pooled::new(&scene);
        run(&mut pooled.client, "SET lair.loot = ''");
        pooled.victims("DECLARE c CURSOR WITH HOLD FOR SELECT body FROM tenant_victim.notes");
        let refused = pooled.thiefs(attempt).expect_err(attempt);
        assert!(["42501", "34000", "0A000"].contains(&refused.code().unwrap().code()), "{refused:?}");
        assert_eq!(one::<String>(&mut pooled.client, "SELECT current_setting('lair.loot')", &[]), "");
    }
    // Without another user in between, the victim's next request continues with the cursor.
    let mut pooled = Pooled::new(&scene);
    pooled.victims("DECLARE c CURSOR WITH HOLD FOR SELECT body FROM tenant_victim.notes");
    pooled.victims("FETCH 1 FROM c");
    pooled.victims(take);
    assert_eq!(one::<String>(&mut pooled.client, "SELECT current_setting('lair.loot')", &[]), "tenant_victim secret");
}

fn prepared_statements_left_behind(db: &Db) {
    let scene = Scene::set(db);
    for mode in ["force_generic_plan", "force_custom_plan", "auto"] {
        let mut pooled = Pooled::new(&scene);
        run(&mut pooled.client, &format!("SET plan_cache_mode = {mode}"));
        pooled.victims("SET LOCAL search_path = tenant_victim; PREPARE p (int) AS SELECT * FROM notes WHERE id >= $1");
        for _ in 0..7 {
            pooled.victims("SET LOCAL search_path = tenant_victim; EXECUTE p (1)");
        }
        expect_error(pooled.thiefs("EXECUTE p (1)"), "42P01");
        expect_error(pooled.thiefs("SET LOCAL search_path = tenant_victim; EXECUTE p (1)"), "42501");
        pooled.thiefs("SET LOCAL search_path = tenant_thief; EXECUTE p (1)").unwrap();
        pooled.victims("SET LOCAL search_path = tenant_victim; EXECUTE p (1)");
    }
}

/// A function marked IMMUTABLE is called during planning, and the cached plan keeps its result.
fn cached_plans_with_function_results(db: &Db) {
    let scene = Scene::set(db);
    db.add_migration(
        "2",
        "CREATE FUNCTION found() RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS
         'BEGIN RETURN (SELECT max(body) FROM notes); END'",
    );
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
    run(
        &mut db.superuser(),
        "CREATE FUNCTION elsewhere() RETURNS text LANGUAGE plpgsql IMMUTABLE AS
         'BEGIN RETURN (SELECT max(body) FROM tenant_victim.notes); END';
         CREATE FUNCTION simple() RETURNS text LANGUAGE plpgsql AS
         'DECLARE found text; BEGIN found := public.elsewhere(); RETURN found; END'",
    );
    for statement in ["SELECT tenant_victim.found()", "SELECT public.elsewhere()", "SELECT public.simple()"] {
        let mut pooled = Pooled::new(&scene);
        run(&mut pooled.client, "SET plan_cache_mode = force_generic_plan");
        // A user with access plans the statement and uses it again.
        pooled.victims(&format!("PREPARE kept AS {statement}"));
        for _ in 0..2 {
            pooled.victims("EXECUTE kept");
        }
        let prepared = pooled.client.prepare(statement).ok();
        expect_error(pooled.thiefs("EXECUTE kept"), "42501");
        drop(prepared);
        let _ = pooled.client.batch_execute("ROLLBACK");
        expect_error(pooled.client.batch_execute("EXECUTE kept"), "42501");
        pooled.victims("EXECUTE kept");
    }
    // The same holds after a membership ends, for another role in the same session, and if an application's setting
    // identifies the user.
    let member = db.new_member(scene.victim);
    let mut session = db.as_user(member);
    let kept = "EXECUTE kept";
    run(&mut session, "PREPARE kept AS SELECT public.elsewhere(); EXECUTE kept");
    run(&mut db.admin(), &format!("SELECT tenant_remove_member('{}', '{member}')", scene.victim));
    expect_error(session.batch_execute(kept), "42501");
    let mut superuser = db.superuser();
    run(&mut superuser, &format!("PREPARE kept AS SELECT public.elsewhere(); EXECUTE kept; SET ROLE {}", scene.role));
    expect_error(superuser.batch_execute(kept), "42501");
    let mut session = db.superuser();
    run(
        &mut session,
        &format!(
            "SET fluxbase_tenant.user_id_setting = 'app.person'; SET SESSION AUTHORIZATION {}; SET app.person = '{}';
             PREPARE kept AS SELECT public.elsewhere(); EXECUTE kept; SET app.person = '{}'",
            scene.role, scene.owner, scene.crook
        ),
    );
    expect_error(session.batch_execute(kept), "42501");
    run(&mut session, &format!("SET app.person = '{}'; EXECUTE kept", scene.owner));
}

/// Temporary views and functions check the user who runs them. (A temporary table is readable by every user of the
/// session, as any copy of rows is.)
fn temporary_objects_left_behind(db: &Db) {
    let scene = Scene::set(db);
    let mut pooled = Pooled::new(&scene);
    pooled.victims("CREATE TEMP VIEW v AS SELECT * FROM tenant_victim.notes");
    expect_error(pooled.thiefs("SELECT * FROM v"), "42501");
    pooled.victims("SELECT * FROM v");
    pooled.victims(
        "CREATE FUNCTION pg_temp.f() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM tenant_victim.notes'",
    );
    expect_error(pooled.thiefs("SELECT pg_temp.f()"), "42501");
    pooled.victims("SELECT pg_temp.f()");
}

/// Temporary tables of an earlier user of the connection must not capture rows that are meant for the tenant or for a
/// shared table.
fn temporary_tables_named_like_a_tenants(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        "CREATE TABLE orders (item text); SELECT tenant_protect('orders'); GRANT SELECT, INSERT ON orders TO fluxbase_tenant_user",
    );
    let mut pooled = Pooled::new(&scene);
    pooled
        .thiefs(
            "CREATE TEMP TABLE notes (id int, body text, email text); CREATE TEMP TABLE orders (item text);
             SET search_path = pg_temp, public",
        )
        .unwrap();
    for call in [
        "tenant_set_current('victim', true)",
        "tenant_set_current('victim')",
        "tenant_set_current(id, true) FROM tenant_list_mine()",
    ] {
        pooled.victims(&format!(
            "SELECT public.{call}; INSERT INTO notes (body) VALUES ('tenant_victim secret'); INSERT INTO orders VALUES ('secret')",
            call = call.replace("FROM tenant", "FROM public.tenant")
        ));
        assert_eq!(one::<i64>(&mut pooled.client, "SELECT count(*) FROM pg_temp.notes", &[]), 0, "{call}");
        assert_eq!(one::<i64>(&mut pooled.client, "SELECT count(*) FROM pg_temp.orders", &[]), 0, "{call}");
    }
    assert_eq!(reached(&mut scene.owner(), "tenant_victim.notes"), 6);
    assert_eq!(reached(&mut scene.owner(), "public.orders"), 3);
}

fn search_path_left_behind(db: &Db) {
    let scene = Scene::set(db);
    let mut pooled = Pooled::new(&scene);
    pooled.victims("SELECT tenant_set_current('victim')");
    expect_error(pooled.thiefs("SELECT * FROM notes"), "42501");
    expect_error(pooled.thiefs("INSERT INTO notes (body) VALUES ('planted')"), "42501");
    pooled.victims("SELECT * FROM notes");
    pooled.thiefs("SELECT tenant_set_current('thief', true); SELECT * FROM notes").unwrap();
    assert_eq!(reached(&mut pooled.client, "tenant_victim.notes"), 0);
}

/// After COMMIT there is no user, and the text can set what its role can set. A role that runs untrusted SQL must
/// therefore not be a member of fluxbase_tenant_server (see docs/security.md). A role with fewer privileges keeps its
/// identity.
fn text_that_ends_the_transaction(db: &Db) {
    let scene = Scene::set(db);
    let mut pooled = Pooled::new(&scene);
    for text in [
        "COMMIT; SELECT * FROM tenant_victim.notes",
        "ROLLBACK; SELECT * FROM tenant_thief.notes",
        "RESET ALL; SELECT * FROM tenant_thief.notes",
    ] {
        expect_error(pooled.thiefs(text), "42501");
    }
    let mut lesser = scene.thief();
    run(&mut lesser, "BEGIN; COMMIT; RESET ALL; SELECT * FROM tenant_thief.notes");
    expect_error(lesser.batch_execute(&format!("SET fluxbase_tenant.user_id = '{}'", scene.owner)), "42501");
    pooled.thiefs("SELECT * FROM tenant_thief.notes").unwrap();
}

fn sequences_left_behind(db: &Db) {
    let scene = Scene::set(db);
    let mut pooled = Pooled::new(&scene);
    pooled.victims("INSERT INTO tenant_victim.notes (body) VALUES ('new')");
    expect_error(pooled.thiefs("SELECT lastval()"), "42501");
    expect_error(pooled.thiefs("SELECT currval('tenant_victim.notes_id_seq')"), "42501");
    pooled.thiefs("INSERT INTO tenant_thief.notes (body) VALUES ('new') RETURNING id").unwrap();
}

/// Rows that a running query has already fetched are read. From the next statement on, access is refused.
fn membership_revoked_while_reading(db: &Db) {
    let scene = Scene::set(db);
    let member = db.new_member(scene.victim);
    let mut reader = db.as_user(member);
    run(&mut reader, "SET statement_timeout = '20s'");
    let mut admin = db.admin();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let slow = "SELECT count(*) FROM tenant_victim.notes, LATERAL (SELECT pg_sleep(0.2), id) s";
            let first = one::<i64>(&mut reader, slow, &[]);
            (first, reached(&mut reader, "tenant_victim.notes"))
        });
        std::thread::sleep(std::time::Duration::from_millis(150));
        run(&mut admin, &format!("SELECT tenant_remove_member('{}', '{member}')", scene.victim));
        assert_eq!(reading.join().unwrap(), (3, 0));
    });
    scene.victim_is_unharmed();
}

/// A transaction with an old snapshot, a prepared statement, an open cursor and a held one all lose access with the
/// membership.
fn membership_revoked_with_statements_and_cursors_open(db: &Db) {
    let scene = Scene::set(db);
    let member = db.new_member(scene.victim);
    let mut reader = db.as_user(member);
    run(&mut reader, "PREPARE p AS SELECT * FROM tenant_victim.notes; EXECUTE p");
    run(&mut reader, "DECLARE held CURSOR WITH HOLD FOR SELECT * FROM tenant_victim.notes; FETCH 1 FROM held");
    run(
        &mut reader,
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM tenant_victim.notes;
         DECLARE open CURSOR FOR SELECT * FROM tenant_victim.notes; FETCH 1 FROM open",
    );
    run(&mut db.admin(), &format!("SELECT tenant_remove_member('{}', '{member}')", scene.victim));
    for statement in ["SELECT * FROM tenant_victim.notes", "EXECUTE p", "FETCH 1 FROM open", "FETCH 1 FROM held"] {
        run(&mut reader, "SAVEPOINT s");
        expect_error(reader.batch_execute(statement), "42501");
        run(&mut reader, "ROLLBACK TO s");
    }
    run(&mut reader, "COMMIT");
    expect_error(reader.batch_execute("EXECUTE p"), "42501");
    scene.victim_is_unharmed();
}
