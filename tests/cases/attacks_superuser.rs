//! Text and names of a migration's author, or of a table's owner, that the extension's own commands come by: none of it runs as a
//! superuser.

use postgres::Client;

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{new_user, one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    search_paths_of_functions_of_spares,
    sequences_swapped_while_a_tenant_is_cloned,
    defaults_of_copied_tables,
    defaults_of_tables_that_move_in,
];

fn is_superuser(db: &Db, role: &str) -> bool {
    one(&mut db.superuser(), "SELECT rolsuper FROM pg_roles WHERE rolname = $1", &[&role])
}

/// The path is kept as text, and written anew when the spare gets its name.
fn search_paths_of_functions_of_spares(db: &Db) {
    let scene = Scene::set(db);
    db.add_migration(
        "2",
        &format!(
            "SELECT set_config('search_path', current_schema() || ', x;ALTER/**/ROLE/**/{}/**/SUPERUSER, \"Quoted \"\"one\"\"\"', true);
             CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path FROM CURRENT AS 'SELECT 1'",
            scene.role
        ),
    );
    run(&mut db.admin(), "SELECT tenant_spares_fill(1); SELECT tenant_create('fresh', 'Fresh')");
    assert!(!is_superuser(db, &scene.role));
    let path = "SELECT proconfig[1] FROM pg_proc WHERE pronamespace = 'tenant_fresh'::regnamespace AND proname = 'f'";
    let path: String = one(&mut db.superuser(), path, &[]);
    let expected =
        format!("search_path=tenant_fresh, \"x;alter/**/role/**/{}/**/superuser\", \"Quoted \"\"one\"\"\"", scene.role);
    assert_eq!(path, expected);
    assert_eq!(one::<i32>(&mut db.admin(), "SELECT tenant_fresh.f()", &[]), 1);
}

/// By a function of the tenant that runs as its owner, called by a member while the clone waits.
fn sequences_swapped_while_a_tenant_is_cloned(db: &Db) {
    let scene = Scene::set(db);
    db.add_migration(
        "2",
        &format!(
            "CREATE SEQUENCE counter;
             CREATE FUNCTION evil() RETURNS boolean LANGUAGE plpgsql AS
             $f$ BEGIN IF current_user = 'postgres' THEN ALTER ROLE {} SUPERUSER; END IF; RETURN true; END $f$;
             CREATE FUNCTION swap() RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
             $f$ BEGIN ALTER SEQUENCE counter RENAME TO moved;
                 CREATE VIEW counter AS SELECT 1::bigint AS last_value, evil() AS is_called; END $f$",
            scene.role
        ),
    );
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
    let clone = |slug: &str| format!("SELECT tenant_clone('{}', '{slug}', with_data => true)", scene.victim);
    run(&mut db.superuser(), &clone("before"));
    let mut member: Client = scene.owner();
    run(&mut member, "BEGIN; SELECT tenant_victim.swap(); LOCK TABLE tenant_victim.notes IN ROW EXCLUSIVE MODE");
    std::thread::scope(|scope| {
        let cloning = scope.spawn(|| db.superuser().batch_execute(&clone("after")));
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')";
        until("the clone waits", || one::<bool>(&mut db.superuser(), waits, &[]));
        run(&mut member, "COMMIT");
        drop(cloning.join().unwrap());
    });
    assert!(!is_superuser(db, &scene.role));
}

/// A domain whose check is the thief's, in a default that calls nextval().
fn tickets(scene: &Scene) -> String {
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.seen (who text); GRANT INSERT ON lair.seen TO PUBLIC;
         CREATE FUNCTION lair.note(int) RETURNS boolean LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO lair.seen VALUES (current_user); RETURN true; END $$;
         CREATE DOMAIN lair.d AS int CHECK (lair.note(value)); CREATE SEQUENCE lair.s;
         CREATE TABLE lair.tickets (n bigint DEFAULT nextval('lair.s') + array_length('{1}'::lair.d[], 1), body text)",
    );
    run(&mut scene.thief(), "TRUNCATE lair.seen");
    "SELECT count(*) FROM lair.seen".to_owned()
}

fn defaults_of_copied_tables(db: &Db) {
    let scene = Scene::set(db);
    let seen = tickets(&scene);
    run(&mut db.superuser(), "CREATE TABLE tenant_victim.tickets (LIKE lair.tickets INCLUDING ALL)");
    assert_eq!(one::<i64>(&mut db.superuser(), &seen, &[]), 0);
    let default =
        "SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'tenant_victim.tickets'::regclass";
    let default: String = one(&mut db.superuser(), default, &[]);
    assert!(default.starts_with("(fluxbase_tenant.nextval('lair.s'::regclass) + "), "{default}");
}

fn defaults_of_tables_that_move_in(db: &Db) {
    let scene = Scene::set(db);
    let seen = tickets(&scene);
    run(&mut db.superuser(), "ALTER TABLE lair.tickets SET SCHEMA tenant_victim");
    assert_eq!(one::<i64>(&mut db.superuser(), &seen, &[]), 0);
    // The server's own kinds of sequences for columns work for members.
    let id = db.new_tenant("acme", new_user());
    db.migrate(
        id,
        "CREATE TABLE kinds (a serial, b bigint GENERATED ALWAYS AS IDENTITY, c int DEFAULT 7 + nextval('kinds_a_seq'), d text);
         ALTER TABLE kinds ADD e smallserial; CREATE TABLE parts (a serial, p int) PARTITION BY LIST (p);
         CREATE TABLE parts1 PARTITION OF parts FOR VALUES IN (1)",
    );
    let mut member = db.as_user(db.new_member(id));
    run(&mut member, "INSERT INTO tenant_acme.kinds (d) VALUES ('x'); INSERT INTO tenant_acme.parts (p) VALUES (1)");
    assert_eq!(one::<i32>(&mut member, "SELECT a + b::int + c + e FROM tenant_acme.kinds", &[]), 1 + 1 + 9 + 1);
    expect_error(member.query("SELECT nextval('tenant_acme.kinds_a_seq')", &[]), "42501");
}
