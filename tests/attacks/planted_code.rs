//! Code that a thief plants where the extension works with more privileges than its caller. It does not run, or runs as
//! the thief.

use std::time::Duration;

use uuid::Uuid;

use crate::cases;
use crate::support::people::{new_user, one, reached, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![
    tables_handed_to_tenant_protect,
    rows_filled_by_tenant_protect,
    table_replaced_by_a_view_concurrently,
    functions_named_like_built_in_ones,
    operators_named_like_built_in_ones,
    temporary_tables_named_like_catalogs,
    operators_planted_before_create_extension,
    schema_planted_before_create_extension,
    schemas_and_roles_planted_before_a_tenant,
    hostile_names,
    large_objects_and_notifications_reveal_nothing,
];

/// The planner evaluates functions marked IMMUTABLE in checks and index predicates, as the role that runs the query.
fn tables_handed_to_tenant_protect(db: &Db) {
    let scene = Scene::set(db);
    scene.plant_spies();
    run(
        &mut scene.thief(),
        "CREATE DOMAIN lair.odd AS int CHECK (VALUE <> 7 OR lair.spy());
         CREATE TABLE lair.bait (n lair.odd DEFAULT 7, list lair.odd[] DEFAULT '{7}',
             twice boolean GENERATED ALWAYS AS (lair.quiet()) STORED, CHECK (lair.quiet()));
         CREATE INDEX ON lair.bait (n) WHERE lair.quiet(); CREATE INDEX ON lair.bait ((n + 1), (lair.quiet()));
         CREATE STATISTICS lair.s ON n, (lair.quiet()) FROM lair.bait;
         CREATE TABLE lair.child (CHECK (lair.quiet())) INHERITS (lair.bait); INSERT INTO lair.child DEFAULT VALUES;
         ALTER TABLE lair.bait ENABLE ROW LEVEL SECURITY; CREATE POLICY spy ON lair.bait USING (lair.spy());
         ALTER TABLE lair.bait ADD COLUMN tenant_id uuid; INSERT INTO lair.bait DEFAULT VALUES",
    );
    scene.forget_spies();
    let protect = "SELECT count(*) FROM tenant_protect('lair.bait', existing_rows => $1)";
    let mut superuser = db.superuser();
    assert!(one::<i64>(&mut superuser, protect, &[&scene.thief]) > 3);
    run(&mut superuser, "SELECT tenant_protect('lair.bait'); SELECT tenant_unprotect('lair.bait')");
    one::<i64>(&mut superuser, protect, &[&scene.thief]);
    run(&mut superuser, "SELECT tenant_check(); SELECT tenant_protect('lair.bait')");
    assert_eq!(scene.other_roles_of_spies(), []);
    expect_error(scene.thief().query(protect, &[&scene.thief]), "42501");
}

/// The triggers do not get the caller's identity either, even if the user is an instance admin.
fn rows_filled_by_tenant_protect(db: &Db) {
    let scene = Scene::set(db);
    scene.plant_spies();
    let boss = new_user();
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.bait (n int, tenant_id uuid); INSERT INTO lair.bait VALUES (1);
         CREATE TRIGGER spy BEFORE UPDATE ON lair.bait FOR EACH ROW EXECUTE FUNCTION lair.on_row();
         CREATE TRIGGER spy_after AFTER UPDATE ON lair.bait FOR EACH ROW EXECUTE FUNCTION lair.on_row()",
    );
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        &format!("SELECT tenant_grant_instance_admin('{boss}'); SET fluxbase_tenant.user_id = '{boss}'"),
    );
    run(&mut superuser, &format!("SELECT tenant_protect('lair.bait', existing_rows => '{}')", scene.thief));
    assert_eq!(scene.other_roles_of_spies(), []);
    assert_eq!(reached(&mut scene.thief(), "lair.bait"), 1);
    assert!(one::<bool>(&mut superuser, "SELECT tenant_is_instance_admin()", &[]), "the caller's identity is restored");
}

/// A name is resolved again after each wait for a lock. At that point it may be a view that calls the thief's function.
fn table_replaced_by_a_view_concurrently(db: &Db) {
    let scene = Scene::set(db);
    let mut client = scene.thief();
    // A sequence keeps its value even if the transaction rolls back.
    run(
        &mut client,
        &format!(
            "CREATE SEQUENCE lair.caught;
             CREATE FUNCTION lair.tell() RETURNS boolean LANGUAGE plpgsql AS
             $$ BEGIN IF current_user <> '{}' THEN PERFORM nextval('lair.caught'); END IF; RETURN true; END $$;
             CREATE TABLE lair.bait (n int); INSERT INTO lair.bait VALUES (1)",
            scene.role
        ),
    );
    run(
        &mut client,
        "BEGIN; ALTER TABLE lair.bait RENAME TO was; CREATE VIEW lair.bait AS SELECT 1 AS n WHERE lair.tell()",
    );
    let mut second = db.superuser();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| second.batch_execute("SELECT tenant_protect('lair.bait')"));
        std::thread::sleep(Duration::from_millis(300));
        run(&mut client, "COMMIT");
        assert!(waiting.join().unwrap().is_err());
    });
    let caught = "SELECT is_called FROM lair.caught";
    assert!(!one::<bool>(&mut client, caught, &[]));
    run(&mut db.superuser(), "SELECT * FROM lair.bait");
    assert!(one::<bool>(&mut client, caught, &[]), "reading the view calls the function");
    run(&mut client, "DROP VIEW lair.bait; ALTER TABLE lair.was RENAME TO bait; TRUNCATE lair.bait");
    run(&mut db.superuser(), "SELECT tenant_protect('lair.bait')");
}

/// A schema of the thief's comes first in an administrator's search_path.
fn functions_named_like_built_in_ones(db: &Db) {
    let scene = Scene::set(db);
    scene.plant_spies();
    let mut client = scene.thief();
    for (name, arguments, result) in [
        ("format", "text, VARIADIC text[]", "text"),
        ("count", "text", "bigint"),
        ("coalesce_text", "text", "text"),
        ("now", "", "timestamptz"),
        ("replace", "text, text, text", "text"),
        ("quote_ident", "text", "text"),
        ("length", "text", "int"),
        ("lower", "text", "text"),
        ("jsonb_typeof", "jsonb", "text"),
        ("array_agg", "uuid", "uuid[]"),
        ("has_table_privilege", "text, oid, text", "boolean"),
        ("tenant_is_instance_admin", "", "boolean"),
        ("accessible", "uuid", "boolean"),
        ("pg_get_expr", "pg_node_tree, oid", "text"),
    ] {
        run(
            &mut client,
            &format!(
                "CREATE FUNCTION lair.{name}({arguments}) RETURNS {result} LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM lair.spy(); RETURN NULL; END $$"
            ),
        );
    }
    everything_works_and_no_spy_runs(&scene, "SET search_path = lair, pg_catalog, public");
}

fn operators_named_like_built_in_ones(db: &Db) {
    let scene = Scene::set(db);
    scene.plant_spies();
    let mut client = scene.thief();
    for (index, (name, left, right)) in [
        ("=", "uuid", "uuid"),
        ("=", "text", "text"),
        ("=", "name", "text"),
        ("=", "name", "name"),
        ("=", "oid", "regclass"),
        ("=", "oid", "oid"),
        ("=", "\"char\"", "text"),
        ("<>", "oid", "regtype"),
        ("~", "text", "text"),
        ("||", "text", "text"),
        ("<", "timestamptz", "timestamptz"),
        ("&&", "text[]", "text[]"),
    ]
    .into_iter()
    .enumerate()
    {
        run(
            &mut client,
            &format!(
                "CREATE FUNCTION lair.o{index}({left}, {right}) RETURNS boolean LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM lair.spy(); RETURN true; END $$;
                 CREATE OPERATOR lair.{name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = lair.o{index})"
            ),
        );
    }
    everything_works_and_no_spy_runs(&scene, "SET search_path = lair, pg_catalog, public");
}

fn temporary_tables_named_like_catalogs(db: &Db) {
    let scene = Scene::set(db);
    scene.plant_spies();
    let mut shadow = String::new();
    for table in
        ["pg_class", "pg_namespace", "pg_roles", "pg_extension", "pg_policy", "tenants", "members", "instance_admins"]
    {
        shadow += &format!("CREATE TEMP TABLE {table} (id uuid, user_id uuid, slug text, status text, oid oid);");
    }
    everything_works_and_no_spy_runs(&scene, &format!("{shadow} SET search_path = pg_temp, lair, public"));
    // In the thief's own session, rows in such tables do not count as the catalog's.
    let mut client = scene.thief();
    run(&mut client, &shadow);
    run(
        &mut client,
        &format!(
            "INSERT INTO pg_temp.members (id, user_id) VALUES ('{}', '{1}'); INSERT INTO pg_temp.instance_admins (user_id)
             VALUES ('{1}'); SET search_path = pg_temp, public",
            scene.victim, scene.crook
        ),
    );
    assert!(!one::<bool>(&mut client, "SELECT tenant_is_instance_admin()", &[]));
    assert_eq!(reached(&mut client, "tenant_victim.notes"), 0);
    assert_eq!(reached(&mut client, "tenant_thief.notes"), 3);
}

/// Calls every function with an effect as a superuser who is an instance admin, in a session prepared by `set_up`.
#[track_caller]
fn everything_works_and_no_spy_runs(scene: &Scene, set_up: &str) {
    let mut superuser = scene.db.superuser();
    run(&mut superuser, "SELECT 1");
    scene.forget_spies();
    run(&mut superuser, set_up);
    let user = new_user();
    for call in [
        "tenant_migration_add('2', 'more', 'CREATE TABLE more (id serial, note text)')".to_string(),
        format!("tenant_create('fresh', 'Fresh', admin_user_id => '{user}')"),
        "tenant_create(name => 'Without slug')".to_string(),
        format!("tenant_migrate('{}')", scene.victim),
        format!("tenant_repair('{}')", scene.victim),
        "tenant_check()".to_string(),
        "tenant_list()".to_string(),
        "tenant_migration_status()".to_string(),
        format!("tenant_add_member('{}', '{user}')", scene.victim),
        format!("tenant_list_members('{}')", scene.victim),
        format!("tenant_remove_member('{}', '{user}')", scene.victim),
        format!("tenant_suspend('{}')", scene.thief),
        format!("tenant_resume('{}')", scene.thief),
        format!("tenant_grant_instance_admin('{user}')"),
        format!("tenant_revoke_instance_admin('{user}')"),
        "tenant_delete((SELECT id FROM fluxbase_tenant.tenants WHERE slug OPERATOR(pg_catalog.=) 'fresh'))".to_string(),
    ] {
        let sql = format!("SELECT pg_catalog.count(t) FROM public.{call} AS t");
        assert!(one::<i64>(&mut superuser, &sql, &[]) >= 0);
    }
    assert_eq!(one::<i64>(&mut superuser, "SELECT pg_catalog.count(*) FROM tenant_victim.more", &[]), 0);
    let spied = scene.db.superuser().query("SELECT who FROM lair.seen", &[]).unwrap();
    assert!(spied.is_empty(), "{} calls as {}", spied.len(), spied[0].get::<_, &str>(0));
    // Proves that the spy can run.
    run(&mut scene.thief(), "SELECT lair.spy()");
    assert_eq!(scene.other_roles_of_spies(), []);
}

/// Where argument types match only by coercion, an operator with an exact match wins over the built-in one, wherever it
/// is on the path.
fn operators_planted_before_create_extension(db: &Db) {
    let empty = Db::empty(&db.cluster);
    let mut superuser = empty.superuser();
    run(
        &mut superuser,
        "CREATE TABLE public.seen (who text); GRANT ALL ON public.seen TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC",
    );
    let mut planter = empty.outsider();
    for (index, (name, left, right)) in [
        ("=", "oid", "regclass"),
        ("<>", "oid", "regtype"),
        ("=", "oid", "regtype"),
        ("=", "name", "unknown"),
        ("=", "\"char\"", "text"),
    ]
    .into_iter()
    .enumerate()
    {
        let planted = planter.batch_execute(&format!(
            "CREATE FUNCTION public.p{index}({left}, {right}) RETURNS boolean LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN true; END $$;
             CREATE OPERATOR public.{name} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = public.p{index})"
        ));
        assert!(planted.is_ok() || right == "unknown", "{planted:?}");
    }
    run(
        &mut planter,
        "CREATE FUNCTION public.format(text, anyelement) RETURNS text LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN 'SELECT 1'; END $$",
    );
    run(&mut superuser, "CREATE EXTENSION fluxbase_tenant");
    assert_eq!(reached(&mut superuser, "public.seen"), 0);
    run(&mut superuser, "SELECT tenant_create('acme', 'Acme'), tenant_check()");
    assert_eq!(reached(&mut superuser, "public.seen"), 0);
    run(&mut superuser, "SELECT 'pg_class'::regclass::oid = 'pg_class'::regclass");
    let granted = "SELECT has_function_privilege('fluxbase_tenant_user', 'tenant_list_mine()', 'EXECUTE')
                   AND NOT has_function_privilege('app_outsider', 'tenant_list_mine()', 'EXECUTE')";
    assert!(one::<bool>(&mut superuser, granted, &[]));
}

fn schema_planted_before_create_extension(db: &Db) {
    let empty = Db::empty(&db.cluster);
    let mut superuser = empty.superuser();
    run(&mut superuser, "CREATE SCHEMA fluxbase_tenant AUTHORIZATION app_outsider");
    expect_error(superuser.batch_execute("CREATE EXTENSION fluxbase_tenant"), "42P06");
    run(
        &mut superuser,
        "DROP SCHEMA fluxbase_tenant; CREATE FUNCTION public.tenant_list_mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    );
    assert!(superuser.batch_execute("CREATE EXTENSION fluxbase_tenant").is_err());
    run(&mut superuser, "DROP FUNCTION public.tenant_list_mine(); CREATE EXTENSION fluxbase_tenant");
}

/// A schema that existed before the tenant is not used for it, and a role that existed may have unknown members.
fn schemas_and_roles_planted_before_a_tenant(db: &Db) {
    let scene = Scene::set(db);
    run(&mut db.superuser(), &format!("CREATE SCHEMA tenant_coming AUTHORIZATION {}", scene.role));
    run(&mut scene.thief(), "CREATE TABLE tenant_coming.notes (body text)");
    let id = db.new_tenant("coming", scene.owner);
    let schema = db.schema_of(id);
    assert_ne!(schema, "tenant_coming");
    assert_eq!(reached(&mut scene.owner(), &format!("{schema}.notes")), 3);
    let planned = Uuid::new_v4();
    let role = Db::owner_role(planned);
    run(&mut db.superuser(), &format!("CREATE ROLE {role}; GRANT {role} TO {}", scene.role));
    expect_error(db.admin().query("SELECT tenant_create('next', 'Next', id => $1)", &[&planned]), "55000");
    run(&mut db.superuser(), &format!("DROP ROLE {role}"));
    db.admin().query("SELECT tenant_create('next', 'Next', id => $1)", &[&planned]).unwrap();
}

fn hostile_names(db: &Db) {
    let scene = Scene::set(db);
    let mut superuser = db.superuser();
    run(&mut superuser, r#"SET fluxbase_tenant.schema_prefix = 'o"; DROP SCHEMA lair CASCADE; --''$1%I%s '"#);
    for (index, name) in
        ["'; DROP TABLE notes; --", "\"", "%I%s$1\\", "pg_catalog", "a\u{202e}b", "{\"status\":1}"].iter().enumerate()
    {
        let slug = format!("hostile-{index}");
        let sql = "SELECT id FROM tenant_create(slug => $1, name => $2, admin_user_id => $3)";
        let id: Uuid = one(&mut superuser, sql, &[&slug, name, &scene.owner]);
        run(&mut scene.owner(), &format!("SELECT * FROM tenant_set_current('{slug}'); SELECT * FROM notes"));
        run(&mut superuser, &format!("SELECT tenant_repair('{id}'), tenant_delete('{id}')"));
    }
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM tenant_check() WHERE object LIKE '%hostile%'", &[]), 0);
    for slug in ["a\"b", "a';--", "../x", "A", "", "a b", "pg_catalog", "tenant_$1"] {
        expect_error(superuser.query("SELECT tenant_create($1, 'x')", &[&slug]), "22023");
    }
    run(&mut scene.thief(), r#"CREATE TABLE lair."t""; DROP TABLE x" ("n'%I" int)"#);
    let protect = r#"SELECT count(*) FROM tenant_protect('lair."t""; DROP TABLE x"', 'c"; DROP SCHEMA lair; --')"#;
    assert!(one::<i64>(&mut superuser, protect, &[]) > 3);
    scene.victim_is_unharmed();
}

/// What all roles of a database share: the extension sends no notifications, and only its owner can read a large
/// object.
fn large_objects_and_notifications_reveal_nothing(db: &Db) {
    let scene = Scene::set(db);
    let mut owner = scene.owner();
    let object: u32 = one(&mut owner, "SELECT lo_from_bytea(0, 'secret')", &[]);
    let mut client = scene.thief();
    expect_error(client.query("SELECT lo_get($1)", &[&object]), "42501");
    run(&mut client, "LISTEN fluxbase_tenant");
    run(&mut owner, "UPDATE tenant_victim.notes SET body = body");
    one::<Uuid>(&mut owner, "SELECT id FROM tenant_update($1, 'new')", &[&scene.victim]);
    run(&mut client, "SELECT 1");
    use postgres::fallible_iterator::FallibleIterator;
    assert_eq!(client.notifications().iter().count().unwrap(), 0);
    assert_eq!(one::<Vec<u8>>(&mut owner, "SELECT lo_get($1)", &[&object]), b"secret");
}
