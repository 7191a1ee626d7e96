//! Code that runs as another role than the session's, in a SECURITY DEFINER function, a trigger or a foreign-key
//! action, must not use or change the session's state: its cursors, prepared statements, settings and rights.

use postgres::Client;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    code_of_a_cascade_uses_no_state_of_the_session,
    triggers_of_a_cascade_leave_no_settings,
    a_cascade_without_triggers_keeps_stored_cursors,
    cursors_with_hold_of_another_role,
    cursors_that_have_just_been_opened,
    an_admins_functions_called_by_other_code,
    an_admin_fetches_after_another_roles_function,
    a_cascade_lends_no_access_to_a_tenant_that_was_not_chosen,
    an_after_trigger_of_a_cascade_reads_no_view,
];

/// A table to which every tenant's `child` refers, and a trigger of the tenants that executes what the row says.
fn with_cascade(scene: &Scene, when: &str) {
    run(
        &mut scene.db.superuser(),
        "CREATE TABLE people (id int PRIMARY KEY); INSERT INTO people SELECT generate_series(1, 30);
         GRANT SELECT, DELETE ON people TO fluxbase_tenant_user, fluxbase_tenant_admin;
         GRANT REFERENCES ON people TO fluxbase_tenant_owner;
         CREATE TABLE orders (id int PRIMARY KEY, item text); GRANT SELECT, INSERT ON orders TO fluxbase_tenant_user;
         SELECT tenant_protect('orders')",
    );
    scene.db.add_migration(
        "2",
        &format!(
            "CREATE TABLE loot (what text);
             CREATE TABLE child (person int REFERENCES public.people ON DELETE CASCADE, code text);
             CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $f$
             DECLARE x text; c refcursor := 'mine'; BEGIN
                 BEGIN
                     IF OLD.code = 'fetch' THEN FETCH c INTO x; ELSE EXECUTE OLD.code; x := 'done'; END IF;
                 EXCEPTION WHEN OTHERS THEN x := SQLSTATE; END;
                 EXECUTE format('INSERT INTO %I.loot VALUES ($1)', TG_TABLE_SCHEMA) USING coalesce(x, 'null'); RETURN OLD; END $f$;
             CREATE TRIGGER act {when} DELETE ON child FOR EACH ROW EXECUTE FUNCTION act()"
        ),
    );
    run(&mut scene.db.superuser(), "SELECT tenant_migrate(id) FROM tenant_list()");
}

/// Makes a row of the thief's refer to a person, and returns the statement that deletes the person.
fn trap(scene: &Scene, code: &str) -> String {
    let mut superuser = scene.db.superuser();
    let person: i32 = one(&mut superuser, "SELECT min(id) FROM people", &[]);
    superuser.execute("INSERT INTO tenant_thief.child VALUES ($1, $2)", &[&person, &code]).unwrap();
    format!("DELETE FROM people WHERE id = {person}")
}

/// Returns what the trigger has reported.
fn reported(scene: &Scene) -> String {
    column::<String>(&mut scene.db.superuser(), "DELETE FROM tenant_thief.loot RETURNING what", &[]).join(" ")
}

fn delete_person(scene: &Scene, session: &mut Client, code: &str) -> String {
    run(session, &trap(scene, code));
    reported(scene)
}

fn code_of_a_cascade_uses_no_state_of_the_session(db: &Db) {
    let scene = Scene::set(db);
    with_cascade(&scene, "BEFORE");
    let mut victim = scene.owner();
    run(&mut victim, "SELECT tenant_set_current('victim'); INSERT INTO orders VALUES (1, 'secret')");
    run(
        &mut victim,
        "PREPARE mine AS SELECT body FROM tenant_victim.notes; LISTEN mine; CREATE TEMP TABLE own (n int)",
    );
    run(&mut victim, "DECLARE stored CURSOR WITH HOLD FOR SELECT item FROM orders");
    for code in [
        "DECLARE lc CURSOR WITH HOLD FOR SELECT * FROM ts_stat('SELECT to_tsvector(body) FROM tenant_victim.notes')",
        "DEALLOCATE mine",
        "PREPARE theirs AS SELECT 1",
        "UNLISTEN *",
        "LISTEN theirs",
        "DISCARD TEMP",
        "CLOSE stored",
        "CLOSE ALL",
    ] {
        assert_eq!(delete_person(&scene, &mut victim, code), "42501", "{code}");
    }
    assert_eq!(delete_person(&scene, &mut victim, "SELECT count(*) FROM loot"), "done", "the trigger runs its code");
    assert_eq!(column::<String>(&mut victim, "EXECUTE mine", &[]).len(), 3);
    assert_eq!(column::<String>(&mut victim, "SELECT pg_listening_channels()", &[]), ["mine"]);
    assert_eq!(reached(&mut victim, "own"), 0);

    // Cursors of the session, open and stored.
    run(
        &mut victim,
        &format!("BEGIN; DECLARE mine CURSOR FOR SELECT item FROM orders; {}; COMMIT", trap(&scene, "fetch")),
    );
    assert_eq!(reported(&scene), "42501");
    run(&mut victim, "BEGIN; DECLARE mine CURSOR FOR SELECT item FROM orders");
    assert_eq!(column::<String>(&mut victim, "FETCH mine", &[]), ["secret"]);
    run(&mut victim, "COMMIT; DECLARE mine CURSOR WITH HOLD FOR SELECT item FROM orders");
    assert_eq!(delete_person(&scene, &mut victim, "fetch"), "34000");
    let boss = format!("boss_of_{}", db.name());
    run(&mut db.superuser(), &format!("CREATE ROLE {boss} LOGIN IN ROLE fluxbase_tenant_admin"));
    let mut admin = db.connect_as(&boss, "");
    run(&mut admin, "DECLARE mine CURSOR WITH HOLD FOR SELECT slug FROM fluxbase_tenant.tenants");
    assert_eq!(delete_person(&scene, &mut admin, "fetch"), "34000");
    run(&mut db.superuser(), &format!("DROP ROLE {boss}"));
    scene.victim_is_unharmed();
}

/// From PostgreSQL 18 on, the AFTER triggers of a cascade run as the owner role too, after PostgreSQL's own query. Before,
/// they run as the session's role, which may not call the function.
fn triggers_of_a_cascade_leave_no_settings(db: &Db) {
    let scene = Scene::set(db);
    with_cascade(&scene, "BEFORE");
    db.add_migration(
        "3",
        "CREATE TABLE before (person int REFERENCES public.people ON DELETE CASCADE);
         CREATE TABLE after (person int REFERENCES public.people ON DELETE CASCADE);
         CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
             PERFORM set_config('search_path', 'lair', false), set_config('work_mem', '77MB', false); RETURN OLD; END $f$;
         CREATE TRIGGER leave BEFORE DELETE ON before FOR EACH ROW EXECUTE FUNCTION leave();
         CREATE TRIGGER leave AFTER DELETE ON after FOR EACH ROW EXECUTE FUNCTION leave()",
    );
    run(&mut db.superuser(), "SELECT tenant_migrate(id) FROM tenant_list()");
    run(
        &mut db.superuser(),
        "INSERT INTO tenant_thief.before VALUES (1), (3); INSERT INTO tenant_thief.after VALUES (2), (4)",
    );
    let mut victim = scene.owner();
    let settings = "SELECT concat_ws(' ', current_setting('search_path'), current_setting('work_mem'))";
    let path: String = one(&mut victim, settings, &[]);
    let mut delete = |person: i32, expected: &str| {
        let deleted = victim.batch_execute(&format!("DELETE FROM public.people WHERE id = {person}"));
        if person % 2 == 0 && db.major() < 18 {
            expect_error(deleted, "42501");
            let _ = victim.batch_execute("ROLLBACK");
        } else {
            deleted.unwrap();
        }
        assert_eq!(one::<String>(&mut victim, settings, &[]), expected, "person {person}");
    };
    delete(1, &path);
    delete(2, &path);
    // The tenant's own member gets the settings of direct triggers, as in any database.
    let mut own = db.as_user(scene.crook);
    run(&mut own, "DELETE FROM tenant_thief.before WHERE person = 3");
    assert_eq!(one::<String>(&mut own, settings, &[]), "lair 77MB");
}

fn a_cascade_without_triggers_keeps_stored_cursors(db: &Db) {
    let scene = Scene::set(db);
    with_cascade(&scene, "BEFORE");
    let mut victim = scene.owner();
    run(&mut victim, "DECLARE mine CURSOR WITH HOLD FOR SELECT body FROM tenant_victim.notes");
    run(&mut victim, "DELETE FROM people WHERE id = 1");
    assert_eq!(column::<String>(&mut victim, "FETCH mine", &[]).len(), 1);
}

/// The query of a cursor WITH HOLD runs when the transaction commits, as the session's role.
fn cursors_with_hold_of_another_role(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut scene.thief(),
        "CREATE FUNCTION lair.evil() RETURNS text LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$;
         CREATE FUNCTION lair.hold(t text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS
             $$ DECLARE r text := initcap(t); BEGIN EXECUTE 'DECLARE lc CURSOR WITH HOLD FOR SELECT lair.evil()'; RETURN r; END $$;
         CREATE FUNCTION lair.prepare() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
             $$ BEGIN EXECUTE 'PREPARE mine AS SELECT lair.evil()'; END $$;
         CREATE FUNCTION lair.open(t text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS
             $$ BEGIN EXECUTE 'DECLARE lc CURSOR FOR SELECT 1'; RETURN initcap(t); END $$",
    );
    for mut client in [db.superuser(), db.admin(), scene.owner()] {
        expect_error(client.query("SELECT lair.hold('a title')", &[]), "42501").message_has("WITH HOLD");
        expect_error(client.query("SELECT lair.prepare()", &[]), "42501");
        assert_eq!(one::<String>(&mut client, "SELECT lair.open('a title')", &[]), "A Title");
        run(&mut client, "DECLARE own CURSOR WITH HOLD FOR SELECT 1; FETCH own");
    }
    run(&mut scene.thief(), "BEGIN; SELECT lair.open('x'); DECLARE own CURSOR WITH HOLD FOR SELECT 1; COMMIT");
}

fn cursors_that_have_just_been_opened(db: &Db) {
    let scene = Scene::set(db);
    let boss = format!("boss_of_{}", db.name());
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE {boss} LOGIN; GRANT fluxbase_tenant_admin TO {boss}; CREATE TABLE got (what text); GRANT INSERT ON got TO {boss}"
        ),
    );
    run(
        &mut scene.thief(),
        "CREATE FUNCTION lair.g(title text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $f$ DECLARE c refcursor; r record; BEGIN
             FOR i IN 1..20 LOOP c := '<unnamed portal ' || i || '>';
                 BEGIN FETCH c INTO r; IF FOUND THEN RETURN r::text; END IF; EXCEPTION WHEN invalid_cursor_name THEN NULL; END;
             END LOOP; RETURN 'found nothing'; EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END $f$",
    );
    let mut admin = db.connect_as(&boss, "");
    run(
        &mut admin,
        "DO $$ DECLARE c refcursor; x text; n text; BEGIN
             FOR i IN 1..3 LOOP
                 OPEN c FOR SELECT body FROM tenant_victim.notes ORDER BY id;
                 x := lair.g('a title');
                 CLOSE c;
                 OPEN c FOR SELECT body FROM tenant_victim.notes ORDER BY id;
                 FETCH c INTO n;
                 INSERT INTO got VALUES (x || ' ' || n);
                 CLOSE c;
             END LOOP; END $$",
    );
    let got: Vec<String> = column(&mut db.superuser(), "SELECT DISTINCT what FROM got", &[]);
    assert_eq!(got, ["42501 tenant_victim secret"], "refused to the function, and fetched by the admin");
    run(&mut db.superuser(), &format!("DROP OWNED BY {boss}; DROP ROLE {boss}"));
}

/// A SECURITY DEFINER function of an instance admin's role, which answers to that role only.
fn an_admins_functions_called_by_other_code(db: &Db) {
    let scene = Scene::set(db);
    with_cascade(&scene, "BEFORE");
    let boss = format!("boss_of_{}", db.name());
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE {boss} LOGIN; GRANT fluxbase_tenant_admin TO {boss}; GRANT CREATE ON SCHEMA public TO {boss};
             GRANT DELETE, SELECT ON people TO {boss}; GRANT REFERENCES ON people TO {}",
            scene.role
        ),
    );
    let mut admin = db.connect_as(&boss, "");
    run(
        &mut admin,
        "CREATE FUNCTION public.report() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS
             'BEGIN RETURN (SELECT max(body) FROM tenant_victim.notes); END'",
    );
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.loot (what text); GRANT INSERT ON lair.loot TO PUBLIC;
         CREATE FUNCTION lair.act() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE x text; BEGIN
             BEGIN x := public.report(); EXCEPTION WHEN OTHERS THEN x := SQLSTATE; END;
             INSERT INTO lair.loot VALUES (x); RETURN OLD; END $$;
         CREATE TABLE lair.child (id int REFERENCES public.people ON DELETE CASCADE); INSERT INTO lair.child VALUES (1);
         CREATE TRIGGER act BEFORE DELETE ON lair.child FOR EACH ROW EXECUTE FUNCTION lair.act();
         CREATE TABLE lair.t (n int);
         CREATE CONSTRAINT TRIGGER act AFTER INSERT ON lair.t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION lair.act();
         CREATE FUNCTION lair.later() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'INSERT INTO lair.t VALUES (1)'",
    );
    run(&mut admin, "DELETE FROM people WHERE id = 1");
    if db.major() >= 18 {
        run(&mut admin, "SELECT lair.later()");
    }
    let loot: Vec<String> = column(&mut db.superuser(), "SELECT DISTINCT what FROM lair.loot", &[]);
    assert_eq!(loot, ["42501"]);
    run(
        &mut db.superuser(),
        "CREATE OR REPLACE FUNCTION tenant_thief.act() RETURNS trigger LANGUAGE plpgsql SET search_path = tenant_thief AS $f$
         DECLARE x text; BEGIN BEGIN EXECUTE OLD.code INTO x; EXCEPTION WHEN OTHERS THEN x := SQLSTATE; END;
         INSERT INTO loot VALUES (x); RETURN OLD; END $f$",
    );
    assert_eq!(delete_person(&scene, &mut admin, "SELECT public.report()"), "42501");
    // The admin's own call is answered.
    assert_eq!(one::<String>(&mut admin, "SELECT public.report()", &[]), "tenant_victim secret");
    run(&mut db.superuser(), &format!("DROP OWNED BY {boss} CASCADE; DROP ROLE {boss}"));
}

fn an_admin_fetches_after_another_roles_function(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut scene.thief(),
        "CREATE FUNCTION lair.nop() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN 1; END'",
    );
    let mut admin = db.admin();
    run(&mut admin, "DECLARE c CURSOR WITH HOLD FOR SELECT body FROM tenant_victim.notes; FETCH c");
    run(&mut admin, "SELECT lair.nop()");
    assert_eq!(column::<String>(&mut admin, "FETCH c", &[]), ["tenant_victim secret"]);
}

/// The thief's admin has added the victim's admin to tenant thief. The session works for tenant victim.
fn a_cascade_lends_no_access_to_a_tenant_that_was_not_chosen(db: &Db) {
    let scene = Scene::set(db);
    with_cascade(&scene, "BEFORE");
    run(
        &mut scene.thief(),
        "CREATE FUNCTION lair.steal() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS
             $$ BEGIN RETURN (SELECT max(body) FROM tenant_victim.notes); END $$",
    );
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{}', '{}')", scene.thief, scene.owner));
    let mut victim = scene.owner();
    run(&mut victim, "SELECT tenant_set_current('victim')");
    assert_eq!(delete_person(&scene, &mut victim, "SELECT lair.steal()"), "42501");
    // An instance admin works for no tenant.
    let boss = new_user();
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{boss}')"));
    let mut admin = db.as_user(boss);
    assert_eq!(delete_person(&scene, &mut admin, "SELECT lair.steal()"), "42501");
    // For the tenant that the session works for, the trigger has access.
    run(&mut victim, "SELECT tenant_set_current('thief')");
    assert_eq!(delete_person(&scene, &mut victim, "SELECT count(*) FROM notes"), "done");
}

/// The view was created by a former member. From PostgreSQL 18 on, AFTER triggers of a cascade run as the owner role.
fn an_after_trigger_of_a_cascade_reads_no_view(db: &Db) {
    let scene = Scene::set(db);
    with_cascade(&scene, "BEFORE");
    let member = format!("SELECT tenant_add_member('{}', '{}')", scene.victim, scene.crook);
    run(&mut db.admin(), &member);
    run(
        &mut scene.thief(),
        "CREATE VIEW lair.v AS SELECT * FROM tenant_victim.notes; GRANT ALL ON lair.v TO PUBLIC;
         CREATE TABLE lair.loot (what text); GRANT ALL ON lair.loot TO PUBLIC",
    );
    run(&mut db.admin(), &member.replace("add", "remove"));
    db.add_migration(
        "3",
        "CREATE TABLE after (person int REFERENCES public.people ON DELETE CASCADE);
         CREATE FUNCTION read_view() RETURNS trigger LANGUAGE plpgsql AS
             $f$ BEGIN INSERT INTO lair.loot SELECT body FROM lair.v; RETURN OLD; END $f$;
         CREATE TRIGGER read_view AFTER DELETE ON after FOR EACH ROW EXECUTE FUNCTION read_view()",
    );
    run(&mut db.superuser(), "SELECT tenant_migrate(id) FROM tenant_list()");
    run(&mut db.superuser(), "INSERT INTO tenant_thief.after VALUES (1)");
    expect_error(scene.owner().batch_execute("DELETE FROM people WHERE id = 1"), "42501");
    assert_eq!(reached(&mut db.superuser(), "lair.loot"), 0);
    scene.victim_is_unharmed();
}
