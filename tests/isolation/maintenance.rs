//! Maintenance by superusers, and code that runs as a tenant's owner role. Such code can access its own tenant and no
//! other.

use crate::cases;
use crate::support::people::{new_user, one, run};
use crate::support::scene::Scene;
use crate::support::{Cluster, Db, expect_error};

cases![
    indexes_and_materialized_views_that_call_the_tenants_functions,
    restores_set_row_security_to_off,
    automatic_analyze,
    definer_functions_and_triggers,
    owner_role_has_no_access_to_another_tenant,
    suspended_tenants,
    untrusted_code_inside_a_cascade,
    settings_changed_inside_a_cascade,
    owner_roles_create_no_relations_elsewhere,
    serial_columns_of_children,
];

const PEOPLE: &str = "CREATE TABLE people (id int PRIMARY KEY, email text);
     CREATE FUNCTION normal(e text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN lower(e); END $f$;
     CREATE INDEX people_normal ON people (normal(email));
     INSERT INTO people SELECT i, 'User' || i FROM generate_series(1, 20) i;
     CREATE MATERIALIZED VIEW emails AS SELECT normal(email) AS email FROM people";

const COMMANDS: [&str; 11] = [
    "ANALYZE tenant_acme.people",
    "VACUUM ANALYZE tenant_acme.people",
    "REINDEX TABLE tenant_acme.people",
    "REINDEX TABLE CONCURRENTLY tenant_acme.people",
    "VACUUM FULL tenant_acme.people",
    "CLUSTER tenant_acme.people USING people_pkey",
    "REFRESH MATERIALIZED VIEW tenant_acme.emails",
    "CREATE INDEX ON tenant_acme.people (tenant_acme.normal(email), id)",
    "ALTER TABLE tenant_acme.people ALTER id TYPE bigint",
    "DROP SCHEMA IF EXISTS s CASCADE; CREATE SCHEMA s; CREATE TABLE s.copy AS SELECT email FROM tenant_acme.people;
     CREATE INDEX ON s.copy (tenant_acme.normal(email)); ANALYZE s.copy",
    "REINDEX TABLE s.copy",
];

fn maintain(db: &Db) {
    let mut superuser = db.superuser();
    for command in COMMANDS {
        run(&mut superuser, command);
    }
    let filled = "SELECT count(*) FROM tenant_acme.emails WHERE email LIKE 'user%'";
    assert_eq!(one::<i64>(&mut superuser, filled, &[]), 20);
}

fn indexes_and_materialized_views_that_call_the_tenants_functions(db: &Db) {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    db.add_migration("1", PEOPLE);
    let user = new_user();
    db.new_tenant("acme", user);
    maintain(db);
    assert_eq!(one::<i64>(&mut db.as_user(user), "SELECT count(*) FROM tenant_acme.emails", &[]), 20);
}

/// pg_restore and psql scripts of pg_dump set row_security to off, with which a query fails if a policy applies to it.
fn restores_set_row_security_to_off(db: &Db) {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    db.add_migration("1", PEOPLE);
    db.add_migration(
        "2",
        "CREATE TABLE names (n text); INSERT INTO names VALUES ('a'), ('v');
         CREATE FUNCTION rank(e text) RETURNS bigint LANGUAGE plpgsql IMMUTABLE SET search_path = tenant_acme, pg_temp AS
             $f$ BEGIN RETURN (SELECT count(*) FROM names WHERE n < e); END $f$;
         CREATE INDEX people_rank ON people (rank(email));
         CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = tenant_acme, pg_temp AS
             $f$ BEGIN NEW.id := NEW.id + 0 * (SELECT count(*) FROM people); RETURN NEW; END $f$;
         CREATE TRIGGER log BEFORE INSERT ON people FOR EACH ROW EXECUTE FUNCTION log()",
    );
    let user = new_user();
    db.new_tenant("acme", user);
    run(&mut db.superuser(), &format!("ALTER DATABASE {} SET row_security = off", db.name()));
    maintain(db);
    let loaded = db.psql("postgres", &["-v", "ON_ERROR_STOP=1"], "COPY tenant_acme.people FROM STDIN;\n100\tx\n\\.\n");
    assert!(loaded.status.success(), "{loaded:?}");
    let mut superuser = db.superuser();
    assert_eq!(one::<String>(&mut superuser, "SHOW row_security", &[]), "off");
    expect_error(superuser.batch_execute("SELECT 1; ANALYZE tenant_acme.missing"), "42P01");
    assert_eq!(one::<String>(&mut superuser, "SHOW row_security", &[]), "off", "also after an error");
    // A member's own queries fail, as row_security = off says.
    let mut member = db.as_user(user);
    run(
        &mut member,
        "CREATE TEMP TABLE own (n int); ALTER TABLE own ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    );
    expect_error(member.query("SELECT * FROM own", &[]), "42501");
}

fn automatic_analyze(db: &Db) {
    let settings = ["shared_preload_libraries = 'fluxbase_tenant'", "autovacuum_naptime = 1"];
    let cluster = Cluster::start(db.install(), &settings);
    let db = &Db::new(&cluster);
    db.add_migration("1", &format!("{PEOPLE}; ALTER TABLE people SET (autovacuum_analyze_threshold = 1)"));
    let user = new_user();
    db.new_tenant("acme", user);
    run(&mut db.as_user(user), "INSERT INTO tenant_acme.people SELECT i, 'more' FROM generate_series(100, 200) i");
    let analyzed = "SELECT count(*) FROM pg_stat_user_tables WHERE relid = 'tenant_acme.people'::regclass AND autoanalyze_count > 0";
    while one::<i64>(&mut db.superuser(), analyzed, &[]) == 0 {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// A caller of these functions can access only their tenant through them.
fn definer_functions_and_triggers(db: &Db) {
    let scene = Scene::set(db);
    db.add_migration(
        "2",
        "CREATE TABLE log (entry text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS
         $f$ BEGIN INSERT INTO log VALUES (NEW.body); RETURN NEW; END $f$;
         CREATE TRIGGER note AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION note();
         CREATE FUNCTION logged() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $f$ SELECT count(*) FROM log $f$;
         CREATE FUNCTION peek() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS
         $f$ DECLARE n bigint; BEGIN EXECUTE 'SELECT count(*) FROM tenant_thief.notes' INTO n; RETURN n; END $f$",
    );
    for tenant in [scene.victim, scene.thief] {
        run(&mut db.admin(), &format!("SELECT tenant_migrate('{tenant}')"));
    }
    run(&mut scene.owner(), "INSERT INTO tenant_victim.notes (body) VALUES ('noted')");
    assert_eq!(one::<i64>(&mut scene.owner(), "SELECT tenant_victim.logged()", &[]), 1);
    // A superuser's restore inserts without an identity.
    run(&mut db.superuser(), "INSERT INTO tenant_victim.notes (body) VALUES ('restored')");
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT tenant_victim.logged()", &[]), 2);
    scene.assert_refused_on_victim_only("SELECT {}.logged()");
    expect_error(scene.owner().query("SELECT tenant_victim.peek()", &[]), "42501");
    // Without an identity the call is refused, whatever the role.
    expect_error(db.server().query("SELECT tenant_victim.logged()", &[]), "42501");
}

/// One tenant's owner role has no access to another tenant.
fn owner_role_has_no_access_to_another_tenant(db: &Db) {
    let scene = Scene::set(db);
    let (own, other) = (Db::owner_role(scene.victim), Db::owner_role(scene.thief));
    let mut superuser = db.superuser();
    for (role, expected) in [(&own, 3), (&other, 0)] {
        run(&mut superuser, &format!("SET ROLE {role}"));
        let counted = superuser.query_one("SELECT count(*) FROM tenant_victim.notes", &[]);
        assert_eq!(counted.map_or(0, |row| row.get::<_, i64>(0)), expected);
        run(&mut superuser, "RESET ROLE");
    }
    // The current user makes no difference to the owner role.
    run(&mut superuser, &format!("SET fluxbase_tenant.user_id = '{}'; SET ROLE {own}", scene.crook));
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM tenant_victim.notes", &[]), 3);
    expect_error(superuser.query("SELECT count(*) FROM tenant_thief.notes", &[]), "42501");
}

fn suspended_tenants(db: &Db) {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    db.add_migration("1", PEOPLE);
    let user = new_user();
    let id = db.new_tenant("acme", user);
    run(&mut db.admin(), &format!("SELECT tenant_suspend('{id}')"));
    maintain(db);
    expect_error(db.as_user(user).query("SELECT count(*) FROM tenant_acme.emails", &[]), "42501");
}

/// A trigger of one tenant changes settings in the session of another tenant's user, who continues to write.
fn settings_changed_inside_a_cascade(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        "CREATE TABLE people (id int PRIMARY KEY); INSERT INTO people VALUES (1), (2);
         GRANT SELECT, DELETE ON people TO fluxbase_tenant_user; GRANT SELECT, REFERENCES ON people TO fluxbase_tenant_owner",
    );
    db.add_migration(
        "2",
        "CREATE TABLE ref (id int REFERENCES public.people ON DELETE CASCADE);
         CREATE FUNCTION plain() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM set_config('search_path', 'lair', false); SET work_mem = '77MB'; RETURN OLD; END $$;
         CREATE FUNCTION with_path() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS
             $$ BEGIN SET work_mem = '78MB'; PERFORM set_config('lair.x', 'left', false); RETURN OLD; END $$;
         CREATE TRIGGER a BEFORE DELETE ON ref FOR EACH ROW EXECUTE FUNCTION plain();
         CREATE TRIGGER b BEFORE DELETE ON ref FOR EACH ROW EXECUTE FUNCTION with_path();",
    );
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.thief));
    run(&mut db.superuser(), "INSERT INTO tenant_thief.ref VALUES (1), (2)");
    let settings = "SELECT concat_ws('|', current_setting('search_path'), current_setting('work_mem'), coalesce(current_setting('lair.x', true), ''))";
    let mut victim = scene.owner();
    let before: String = one(&mut victim, settings, &[]);
    run(&mut victim, "DELETE FROM people WHERE id = 1");
    assert_eq!(one::<String>(&mut victim, settings, &[]), before);
    run(&mut victim, "BEGIN; SET LOCAL work_mem = '9MB'; DELETE FROM people WHERE id = 2");
    assert_eq!(one::<String>(&mut victim, "SELECT current_setting('work_mem')", &[]), "9MB");
    run(&mut victim, "COMMIT");
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM tenant_thief.ref", &[]), 0);
}

/// A cascade runs as the owner of the referencing table, with the search_path of the session that began it.
fn untrusted_code_inside_a_cascade(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        "CREATE TABLE events (id int PRIMARY KEY); SELECT tenant_protect('events'); GRANT SELECT, INSERT, DELETE ON events TO fluxbase_tenant_user;
         GRANT REFERENCES, SELECT ON events TO fluxbase_tenant_owner",
    );
    db.add_migration(
        "2",
        "CREATE TABLE log (x text); CREATE TABLE orders (id serial PRIMARY KEY, event int REFERENCES public.events ON DELETE CASCADE);
         CREATE FUNCTION gone() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (now()::text); RETURN NULL; END';
         CREATE TRIGGER gone BEFORE DELETE ON orders FOR EACH STATEMENT EXECUTE FUNCTION gone()",
    );
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
    let mut thief = scene.thief();
    run(
        &mut thief,
        &format!(
            "INSERT INTO events VALUES (1, '{}'); GRANT ALL ON SCHEMA lair TO PUBLIC; CREATE TABLE lair.loot (x text);
             CREATE TABLE lair.log (x text); GRANT ALL ON lair.loot, lair.log TO PUBLIC;
             CREATE FUNCTION lair.take() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 INSERT INTO lair.loot VALUES (current_user); RETURN NEW; END $$;
             CREATE TRIGGER take BEFORE INSERT ON lair.log FOR EACH ROW EXECUTE FUNCTION lair.take(); SET search_path = lair",
            scene.thief
        ),
    );
    expect_error(thief.batch_execute("DELETE FROM public.events WHERE id = 1"), "42501").message_has("log");
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM lair.loot", &[]), 0);
    // A rule that a superuser created reads no table besides the key's either.
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE lair.back (id int REFERENCES events ON DELETE CASCADE); ALTER TABLE lair.back OWNER TO {};
             CREATE RULE spy AS ON DELETE TO lair.back DO ALSO INSERT INTO lair.loot SELECT body FROM tenant_victim.notes",
            Db::owner_role(scene.victim)
        ),
    );
    expect_error(thief.batch_execute("DELETE FROM public.events WHERE id = 1"), "42501");
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM lair.loot", &[]), 0);
    run(&mut db.superuser(), "DROP TABLE lair.back");
    // The cascade of a member's own DELETE runs in full.
    run(
        &mut scene.owner(),
        &format!(
            "INSERT INTO events VALUES (2, '{}'); INSERT INTO tenant_victim.orders (event) VALUES (2)",
            scene.victim
        ),
    );
    run(&mut scene.owner(), "SET search_path = tenant_victim; DELETE FROM public.events WHERE id = 2");
    assert_eq!(one::<i64>(&mut scene.owner(), "SELECT count(*) FROM tenant_victim.log", &[]), 1);
}

/// Such relations would be code of the owner role in a schema where other roles can write.
fn owner_roles_create_no_relations_elsewhere(db: &Db) {
    let scene = Scene::set(db);
    let owner = Db::owner_role(scene.victim);
    run(&mut db.superuser(), &format!("GRANT ALL ON SCHEMA lair TO {owner}"));
    for script in [
        "CREATE TABLE lair.mine (n int)",
        "CREATE VIEW lair.mine AS SELECT * FROM notes",
        "CREATE TABLE mine (n int); ALTER TABLE mine SET SCHEMA lair",
    ] {
        expect_error(db.try_migration(scene.victim, script), "42501");
    }
    db.migrate(scene.victim, "CREATE TABLE mine (n int); CREATE VIEW seen AS TABLE mine");
}

/// ALTER TABLE of a parent adds the default to its children as well.
fn serial_columns_of_children(db: &Db) {
    db.add_migration(
        "1",
        "CREATE TABLE base (t text); CREATE TABLE heir (x int) INHERITS (base);
         CREATE TABLE parts (k int, t text) PARTITION BY LIST (k); CREATE TABLE parts1 PARTITION OF parts FOR VALUES IN (1)",
    );
    db.add_migration("2", "ALTER TABLE base ADD COLUMN more serial; ALTER TABLE parts ADD COLUMN more serial");
    let user = new_user();
    db.new_tenant("acme", user);
    run(
        &mut db.as_user(user),
        "INSERT INTO tenant_acme.base (t) VALUES ('x'); INSERT INTO tenant_acme.heir (t) VALUES ('x');
         INSERT INTO tenant_acme.parts (k) VALUES (1); INSERT INTO tenant_acme.parts1 (k) VALUES (1)",
    );
}
