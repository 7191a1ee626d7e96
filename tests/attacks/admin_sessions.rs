//! Sessions of instance admins without a user. Another role's code that such a session calls must not get its rights.

use postgres::Client;

use crate::cases;
use crate::support::people::{column, one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    a_choice_is_no_service_context_for_other_code,
    a_choice_is_no_service_context_after_set_role,
    stored_cursors,
    plans_with_results_of_functions,
    parallel_plans_made_before,
];

/// A member of fluxbase_tenant_admin, who may switch to the thief's role.
struct Boss<'a> {
    scene: Scene<'a>,
    role: String,
}

impl<'a> Boss<'a> {
    fn new(db: &'a Db) -> Self {
        let scene = Scene::set(db);
        let role = format!("boss_of_{}", db.name());
        run(
            &mut db.superuser(),
            &format!(
                "CREATE ROLE {role} LOGIN; GRANT fluxbase_tenant_admin, {} TO {role}; GRANT CREATE ON SCHEMA public TO {role};
                 ALTER ROLE {} IN DATABASE {} RESET fluxbase_tenant.user_id",
                scene.role, scene.role,
                db.name()
            ),
        );
        Boss { scene, role }
    }

    fn connect(&self) -> Client {
        self.scene.db.connect_as(&self.role, "")
    }
}

impl Drop for Boss<'_> {
    fn drop(&mut self) {
        let _ =
            self.scene.db.superuser().batch_execute(&format!("DROP OWNED BY {0} CASCADE; DROP ROLE {0}", self.role));
    }
}

/// A SECURITY DEFINER function of the thief's that a superuser or an instance admin calls.
fn a_choice_is_no_service_context_for_other_code(db: &Db) {
    let boss = Boss::new(db);
    let (victim, crook) = (boss.scene.victim, boss.scene.crook);
    run(
        &mut boss.scene.thief(),
        &format!(
            "CREATE FUNCTION lair.title(text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
             $$ DECLARE loot text; BEGIN
                BEGIN SELECT max(body) INTO loot FROM tenant_victim.notes; EXCEPTION WHEN OTHERS THEN loot := SQLSTATE; END;
                BEGIN PERFORM tenant_add_member('{victim}', '{crook}', 'tenant_admin');
                EXCEPTION WHEN OTHERS THEN loot := loot || ' ' || SQLSTATE; END;
                RETURN loot; END $$"
        ),
    );
    for mut client in [boss.connect(), db.superuser()] {
        for choose in [
            String::new(),
            "SELECT tenant_set_current('victim')".to_owned(),
            format!("SELECT tenant_set_current('{victim}', true)"),
            format!("SELECT set_config('fluxbase_tenant.tenant_id', '{victim}', false)"),
        ] {
            if choose.contains("set_config") && client.batch_execute(&choose).is_err() {
                continue;
            }
            run(&mut client, &format!("BEGIN; {choose}"));
            let loot: String = one(&mut client, "SELECT lair.title('x')", &[]);
            assert_eq!(loot, "42501 28000", "{choose}");
            run(&mut client, "COMMIT; SELECT tenant_reset_current()");
        }
        // The choice holds for the admin.
        run(&mut client, "SELECT tenant_set_current('victim')");
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM notes", &[]), 3);
    }
    let members = "SELECT count(*) FROM fluxbase_tenant.members WHERE tenant_id = $1 AND user_id = $2";
    assert_eq!(one::<i64>(&mut db.superuser(), members, &[&victim, &crook]), 0);
}

fn a_choice_is_no_service_context_after_set_role(db: &Db) {
    let boss = Boss::new(db);
    let mut client = boss.connect();
    run(&mut client, "SELECT tenant_set_current('victim')");
    run(&mut client, &format!("SET ROLE {}", boss.scene.role));
    expect_error(client.query("SELECT body FROM tenant_victim.notes", &[]), "42501");
    run(&mut client, "RESET ROLE");
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_victim.notes", &[]), 3);
}

/// PL/pgSQL fetches the rows of a stored cursor without running a query.
fn stored_cursors(db: &Db) {
    let boss = Boss::new(db);
    let fetch = "DECLARE c refcursor := 'c'; r record; BEGIN FETCH c INTO r; RETURN r::text; END";
    run(
        &mut boss.scene.thief(),
        &format!("CREATE FUNCTION lair.fetched() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$ {fetch} $$"),
    );
    let mut client = boss.connect();
    run(&mut client, &format!("CREATE FUNCTION pg_temp.fetched() RETURNS text LANGUAGE plpgsql AS $$ {fetch} $$"));
    run(&mut client, "DECLARE c CURSOR WITH HOLD FOR SELECT body FROM tenant_victim.notes");
    let refused = client.query("SELECT lair.fetched()", &[]).expect_err("the thief's function gets the row");
    assert!(["42501", "55000", "34000"].contains(&refused.code().unwrap().code()), "{refused:?}");
    let body: String = one(&mut client, "SELECT pg_temp.fetched()", &[]);
    assert!(body.contains("secret"), "{body}");
}

/// A function that claims to be IMMUTABLE is called when a query is planned, and the plan is kept with its result.
fn plans_with_results_of_functions(db: &Db) {
    let boss = Boss::new(db);
    run(
        &mut db.superuser(),
        "CREATE FUNCTION elsewhere() RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = public AS
             'BEGIN RETURN (SELECT max(body) FROM tenant_victim.notes); END';
         CREATE FUNCTION g() RETURNS text LANGUAGE plpgsql IMMUTABLE SET search_path = public AS
             'DECLARE x text; BEGIN x := public.elsewhere(); RETURN x; END'",
    );
    let mut client = boss.connect();
    run(
        &mut client,
        "CREATE FUNCTION admins() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS
         'DECLARE x text; BEGIN x := public.elsewhere(); RETURN x; END'",
    );
    run(
        &mut boss.scene.thief(),
        "CREATE FUNCTION lair.trap() RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN RETURN public.admins(); EXCEPTION WHEN insufficient_privilege THEN RETURN 'refused'; END $$",
    );
    for _ in 0..8 {
        assert_eq!(one::<String>(&mut client, "SELECT public.admins()", &[]), "tenant_victim secret");
        assert_eq!(one::<String>(&mut client, "SELECT public.g()", &[]), "tenant_victim secret");
    }
    assert_eq!(one::<String>(&mut client, "SELECT lair.trap()", &[]), "refused");
    // One function calls the other through an expression that is planned already.
    for _ in 0..8 {
        run(&mut client, "SELECT public.g()");
    }
    run(&mut client, "PREPARE k AS SELECT public.g()");
    assert_eq!(one::<String>(&mut client, "EXECUTE k", &[]), "tenant_victim secret");
    run(&mut client, &format!("SET ROLE {}", boss.scene.role));
    expect_error(client.query("EXECUTE k", &[]), "42501");
    run(&mut client, "RESET ROLE");
    assert_eq!(one::<String>(&mut client, "EXECUTE k", &[]), "tenant_victim secret");
}

/// Parallel workers do not know which SECURITY DEFINER functions are running in their leader.
fn parallel_plans_made_before(db: &Db) {
    let boss = Boss::new(db);
    let setting = if db.major() == 15 { "force_parallel_mode" } else { "debug_parallel_query" };
    run(
        &mut db.superuser(),
        "CREATE FUNCTION slugs() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT slug FROM fluxbase_tenant.tenants'",
    );
    let mut client = boss.connect();
    run(
        &mut client,
        "CREATE FUNCTION report() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS
         'BEGIN RETURN QUERY SELECT s FROM public.slugs() s; END'",
    );
    run(
        &mut boss.scene.thief(),
        "CREATE FUNCTION lair.trap() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS
         $$ BEGIN RETURN QUERY SELECT r FROM public.report() r; EXCEPTION WHEN insufficient_privilege THEN RETURN; END $$",
    );
    run(&mut client, &format!("SET {setting} = on"));
    let slugs = column::<String>(&mut client, "SELECT public.slugs()", &[]);
    assert!(slugs.contains(&"victim".to_owned()), "{slugs:?}");
    for _ in 0..7 {
        run(&mut client, "SELECT * FROM public.report()");
        assert_eq!(column::<String>(&mut client, "SELECT lair.trap()", &[]), [""; 0]);
    }
}
