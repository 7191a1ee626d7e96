//! Privileges of the extension's roles and on tenants' objects. No role can revoke them for everyone else, or lock an
//! object with a grant that it may not make.

use postgres::Client;

use crate::cases;
use crate::support::fleet::until;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error, expect_refusal};

cases![
    drop_owned_by_a_role_of_the_extension,
    drop_owned_in_a_migration,
    drop_owned_by_a_role_named_in_policies,
    grants_without_effect,
    grants_by_owners,
    commands_that_lock_before_they_check,
    foreign_key_name_that_resolves_to_a_tenants_table,
    locked_spares_are_skipped,
    changed_catalog_policies_are_found_and_repaired,
    locked_role_names_block_no_call,
    policies_to_an_owner_role,
];

/// Returns everything that DROP OWNED would change.
#[track_caller]
fn privileges(db: &Db) -> Vec<String> {
    column(
        &mut db.superuser(),
        "SELECT format('%s %s', polrelid::regclass, polname) FROM pg_policy
         UNION ALL SELECT format('%s %s', oid::regclass, relacl) FROM pg_class WHERE relacl IS NOT NULL
         UNION ALL SELECT format('%s %s', oid::regnamespace, nspacl) FROM pg_namespace WHERE nspacl IS NOT NULL
         UNION ALL SELECT format('%s %s', oid::regprocedure, proacl) FROM pg_proc WHERE proacl IS NOT NULL
         UNION ALL SELECT format('%s %s', defaclnamespace::regnamespace, defaclacl) FROM pg_default_acl
         UNION ALL SELECT format('%s %s', parname, paracl) FROM pg_parameter_acl ORDER BY 1",
        &[],
    )
}

fn drop_owned_by_a_role_of_the_extension(db: &Db) {
    let scene = Scene::set(db);
    let before = privileges(db);
    let role = &scene.role;
    for statement in [
        "DROP OWNED BY fluxbase_tenant_user",
        "DROP OWNED BY fluxbase_tenant_user CASCADE",
        &format!("DROP OWNED BY {role}, fluxbase_tenant_user"),
        &format!("REASSIGN OWNED BY fluxbase_tenant_user TO {role}"),
        "SET ROLE fluxbase_tenant_user; DROP OWNED BY CURRENT_USER",
        "SET ROLE fluxbase_tenant_user; DROP OWNED BY CURRENT_ROLE",
        "DO $$ BEGIN DROP OWNED BY fluxbase_tenant_user; END $$",
        "DO $$ BEGIN EXECUTE 'DROP OWNED BY fluxbase_tenant_user'; END $$",
    ] {
        let mut thief = scene.thief();
        run(&mut thief, "BEGIN; SAVEPOINT s");
        let refusal = expect_refusal(thief.batch_execute(statement), "forbidden");
        refusal.message_has("OWNED BY fluxbase_tenant_user");
        run(&mut thief, "ROLLBACK TO s");
        // The refused command keeps no lock in the open transaction.
        let mut owner = scene.owner();
        run(&mut owner, "SET lock_timeout = '500ms'");
        assert_eq!(reached(&mut owner, "fluxbase_tenant.tenants"), 1);
        run(&mut db.superuser(), "SET lock_timeout = '500ms'; BEGIN; SELECT tenant_create('x', 'X'); ROLLBACK");
    }
    for group in ["fluxbase_tenant_server", "fluxbase_tenant_admin", "fluxbase_tenant_owner"] {
        let statement = format!("DROP OWNED BY {group}");
        expect_error(scene.thief().batch_execute(&statement), "42501");
        // A superuser is refused too. DROP EXTENSION is the way to remove these roles.
        expect_refusal(db.superuser().batch_execute(&statement), "forbidden").hint_has("DROP EXTENSION");
    }
    run(&mut db.superuser(), &format!("SET session_replication_role = replica; GRANT fluxbase_tenant_owner TO {role}"));
    expect_error(scene.thief().batch_execute("DROP OWNED BY fluxbase_tenant_owner"), "42501");
    run(&mut db.superuser(), &format!("REVOKE fluxbase_tenant_owner FROM {role}"));
    let mut replica = db.superuser();
    run(&mut replica, "SET session_replication_role = replica");
    expect_error(replica.batch_execute("DROP OWNED BY fluxbase_tenant_user"), "42501");
    assert!(privileges(db) == before, "privileges changed");
    // A role can drop its own objects.
    run(&mut scene.thief(), &format!("CREATE TABLE lair.t (n int); DROP OWNED BY {role} CASCADE"));
    assert!(!one::<bool>(&mut db.superuser(), "SELECT to_regnamespace('lair') IS NOT NULL", &[]));
    let others: Vec<String> = before.into_iter().filter(|line| !line.starts_with("lair ")).collect();
    assert!(privileges(db) == others, "other privileges changed");
}

/// DROP OWNED would lock every tenant's tables whose policies name the role.
fn drop_owned_by_a_role_named_in_policies(db: &Db) {
    let scene = Scene::set(db);
    run(&mut scene.thief(), "CREATE TABLE lair.own (i int); DROP OWNED BY CURRENT_USER");
    run(&mut db.superuser(), &format!("GRANT fluxbase_tenant_user TO {}", scene.role));
    db.add_migration("2", &format!("CREATE POLICY finer ON notes AS RESTRICTIVE TO {} USING (true)", scene.role));
    for tenant in [scene.victim, scene.thief] {
        run(&mut db.admin(), &format!("SELECT tenant_migrate('{tenant}')"));
    }
    expect_refusal(scene.thief().batch_execute("DROP OWNED BY CURRENT_USER"), "forbidden")
        .message_has("named in policy finer");
    run(&mut db.superuser(), &format!("DROP OWNED BY {}", scene.role));
    // The same holds for grants to the role.
    run(&mut scene.thief(), "DROP OWNED BY CURRENT_USER");
    let on_schema = "DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO {}', current_schema()); END $$";
    for (version, grant) in [("3", "GRANT SELECT ON notes TO {}"), ("4", on_schema)] {
        db.add_migration(version, &grant.replace("{}", &scene.role));
        run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
        expect_refusal(scene.thief().batch_execute("DROP OWNED BY CURRENT_USER"), "forbidden").message_has("named in");
        run(&mut db.superuser(), &format!("DROP OWNED BY {}", scene.role));
    }
}

fn drop_owned_in_a_migration(db: &Db) {
    let scene = Scene::set(db);
    let before = privileges(db);
    let role = Db::owner_role(scene.thief);
    for script in [
        "DROP OWNED BY fluxbase_tenant_owner".to_string(),
        "REASSIGN OWNED BY fluxbase_tenant_owner TO CURRENT_USER".to_string(),
        "REASSIGN OWNED BY CURRENT_USER TO fluxbase_tenant_owner".to_string(),
        format!("DROP OWNED BY {role}"),
        format!("DROP OWNED BY {}", Db::owner_role(scene.victim)),
    ] {
        expect_error(db.try_migration(scene.thief, &script).map(drop), "42501");
    }
    assert!(privileges(db) == before, "privileges changed");
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE fluxbase_tenant_{:032x}; DROP OWNED BY fluxbase_tenant_{0:032x}; DROP ROLE fluxbase_tenant_{0:032x}",
            7
        ),
    );
}

/// PostgreSQL would update and lock the object's row, and only warn that no privileges were granted.
fn grants_without_effect(db: &Db) {
    let scene = Scene::set(db);
    db.migrate(
        scene.victim,
        "CREATE TYPE mood AS ENUM ('ok'); CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1'; CREATE DOMAIN d AS int; CREATE VIEW v AS SELECT 1 AS n",
    );
    for statement in [
        "GRANT SELECT ON tenant_victim.notes TO PUBLIC",
        "GRANT SELECT (body) ON tenant_victim.notes TO PUBLIC",
        "GRANT SELECT ON tenant_victim.v TO PUBLIC",
        "REVOKE SELECT ON tenant_victim.notes FROM fluxbase_tenant_user",
        "REVOKE GRANT OPTION FOR SELECT ON tenant_victim.notes FROM fluxbase_tenant_user",
        "GRANT USAGE ON SCHEMA tenant_victim TO PUBLIC",
        "GRANT USAGE ON SCHEMA lair, tenant_victim TO PUBLIC",
        "GRANT SELECT ON ALL TABLES IN SCHEMA tenant_victim TO PUBLIC",
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tenant_victim TO PUBLIC",
        "GRANT EXECUTE ON FUNCTION tenant_victim.f(int) TO PUBLIC",
        "GRANT EXECUTE ON FUNCTION tenant_victim.f TO PUBLIC",
        "GRANT EXECUTE ON ROUTINE tenant_victim.f TO PUBLIC",
        "GRANT EXECUTE ON PROCEDURE tenant_victim.p() TO PUBLIC",
        "GRANT USAGE ON TYPE tenant_victim.mood TO PUBLIC",
        "GRANT USAGE ON DOMAIN tenant_victim.d TO PUBLIC",
        "DO $$ BEGIN GRANT SELECT ON tenant_victim.notes TO PUBLIC; END $$",
        "GRANT SELECT ON fluxbase_tenant.tenants TO PUBLIC",
        "GRANT USAGE ON SCHEMA fluxbase_tenant TO PUBLIC",
    ] {
        let mut thief = scene.thief();
        run(&mut thief, "BEGIN; SAVEPOINT s");
        expect_error(thief.batch_execute(statement), "42501");
        run(&mut thief, "ROLLBACK TO s");
        let locked = "SELECT count(*) FROM pg_class WHERE oid = 'tenant_victim.notes'::regclass";
        assert_eq!(one::<i64>(&mut db.superuser(), locked, &[]), 1);
        run(
            &mut db.superuser(),
            "SET lock_timeout = '500ms'; BEGIN; ALTER TABLE tenant_victim.notes ADD COLUMN more int;
             ALTER TYPE tenant_victim.mood RENAME TO m; ALTER SCHEMA tenant_victim RENAME TO s; ROLLBACK",
        );
    }
}

fn grants_by_owners(db: &Db) {
    let scene = Scene::set(db);
    db.migrate(scene.thief, "GRANT SELECT ON notes TO app_outsider; REVOKE SELECT ON notes FROM app_outsider");
    run(
        &mut db.superuser(),
        "GRANT SELECT ON tenant_thief.notes TO app_outsider; REVOKE SELECT ON tenant_thief.notes FROM app_outsider",
    );
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.t (n int); GRANT SELECT ON lair.t TO PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA lair TO PUBLIC;
         CREATE FUNCTION lair.f() RETURNS int LANGUAGE sql AS 'SELECT 1'; GRANT EXECUTE ON FUNCTION lair.f TO PUBLIC;
         GRANT USAGE ON SCHEMA lair TO PUBLIC; CREATE DOMAIN lair.d AS int; GRANT USAGE ON DOMAIN lair.d TO PUBLIC",
    );
    expect_error(scene.thief().batch_execute("GRANT SELECT ON lair.no_such_table TO PUBLIC"), "42P01");
}

/// A queued strong lock blocks every later request on the table, including those of readers.
fn commands_that_lock_before_they_check(db: &Db) {
    let scene = Scene::set(db);
    db.migrate(scene.victim, "CREATE VIEW v AS SELECT 1 AS n; CREATE INDEX i ON notes (body)");
    db.migrate(scene.thief, "CREATE TABLE parts (n int) PARTITION BY LIST (n)");
    run(&mut db.superuser(), &format!("GRANT CREATE ON DATABASE {} TO {}", db.name(), scene.role));
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.split (id int, body text, email text) PARTITION BY LIST (id); CREATE TABLE lair.t (id int);
         CREATE FUNCTION lair.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE PUBLICATION lair",
    );
    for relation in ["tenant_victim.notes", "fluxbase_tenant.tenants"] {
        let mut holder = db.superuser();
        run(
            &mut holder,
            &format!("BEGIN; SELECT count(*) FROM {relation}; SELECT tenant_update('{}', 'x')", scene.thief),
        );
        for command in [
            "CREATE RULE r AS ON UPDATE TO {} DO ALSO NOTHING",
            "CREATE TRIGGER t AFTER UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION lair.f()",
            "CREATE CONSTRAINT TRIGGER t AFTER UPDATE ON lair.t FROM {} FOR EACH ROW EXECUTE FUNCTION lair.f()",
            "CREATE TABLE lair.x (id int REFERENCES {})",
            "CREATE TABLE lair.x (id int, FOREIGN KEY (id) REFERENCES {})",
            "CREATE TABLE lair.x () INHERITS ({})",
            "CREATE TABLE lair.x PARTITION OF {} DEFAULT",
            "ALTER TABLE lair.t ADD FOREIGN KEY (id) REFERENCES {}",
            "ALTER TABLE lair.t ADD COLUMN more int REFERENCES {}",
            "ALTER TABLE lair.t INHERIT {}",
            "ALTER TABLE lair.split ATTACH PARTITION {} DEFAULT",
            "COMMENT ON TABLE {} IS 'x'",
            "COMMENT ON COLUMN {}.id IS 'x'",
            "COMMENT ON POLICY p ON {} IS 'x'",
            "CREATE STATISTICS lair.s ON id, slug FROM {}",
            "CREATE PUBLICATION mine FOR TABLE {}",
            "ALTER PUBLICATION lair ADD TABLE {}",
            "ALTER TRIGGER t ON {} DEPENDS ON EXTENSION plpgsql",
            "DO $$ BEGIN CREATE RULE r AS ON UPDATE TO {} DO ALSO NOTHING; END $$",
            "CREATE SCHEMA more CREATE TABLE x (id int REFERENCES {})",
            "CREATE SCHEMA more GRANT SELECT ON {} TO PUBLIC",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA {schema} GRANT SELECT ON TABLES TO PUBLIC",
        ] {
            let schema = relation.split_once('.').expect("a qualified name").0;
            let command = command.replace("{}", relation).replace("{schema}", schema);
            let mut thief = scene.thief();
            run(&mut thief, "SET lock_timeout = '1s'");
            expect_error(thief.batch_execute(&command), "42501");
        }
        run(&mut holder, "COMMIT");
    }
    // The commands work on the role's own tables, and in a migration on the tenant's.
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.p (id int PRIMARY KEY); CREATE TABLE lair.x (id int REFERENCES lair.p) ; COMMENT ON TABLE lair.p IS 'x';
         CREATE TRIGGER t AFTER UPDATE ON lair.p FOR EACH ROW EXECUTE FUNCTION lair.f();
         CREATE TABLE lair.part PARTITION OF lair.split DEFAULT; ALTER PUBLICATION lair ADD TABLE lair.p;
         CREATE SCHEMA more CREATE TABLE x (id int PRIMARY KEY) CREATE TABLE y (id int REFERENCES x) GRANT SELECT ON x TO PUBLIC;
         ALTER DEFAULT PRIVILEGES IN SCHEMA lair GRANT SELECT ON TABLES TO PUBLIC",
    );
    db.migrate(
        scene.thief,
        "CREATE TABLE more (id int PRIMARY KEY, note int REFERENCES notes); CREATE TABLE part PARTITION OF parts DEFAULT;
         COMMENT ON TABLE notes IS 'x'; CREATE RULE r AS ON UPDATE TO more DO ALSO NOTHING; CREATE STATISTICS s ON id, body FROM notes",
    );
}

/// While ALTER TABLE waits for its own table, the referenced table is dropped. The next table of that name on the path
/// is a tenant's.
fn foreign_key_name_that_resolves_to_a_tenants_table(db: &Db) {
    let scene = Scene::set(db);
    let mut holder = scene.thief();
    run(&mut holder, "CREATE TABLE lair.mine (id int); CREATE TABLE lair.notes (id int PRIMARY KEY)");
    run(&mut holder, "BEGIN; LOCK TABLE lair.mine; DROP TABLE lair.notes");
    let mut thief = scene.thief();
    let pid: i32 = one(&mut thief, "SELECT pg_backend_pid()", &[]);
    let altering = std::thread::spawn(move || {
        thief.batch_execute(
            "SET search_path = lair, tenant_victim; ALTER TABLE mine ADD FOREIGN KEY (id) REFERENCES notes",
        )
    });
    let mut superuser = db.superuser();
    until("the session waits", || {
        altering.is_finished() || one::<bool>(&mut superuser, "SELECT pg_blocking_pids($1) <> '{}'", &[&pid])
    });
    run(&mut holder, "COMMIT");
    let error = altering.join().unwrap().unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("42P01"), "{error:?}");
}

/// tenant_create() uses another spare or creates a schema.
fn locked_spares_are_skipped(db: &Db) {
    run(&mut db.superuser(), "SELECT tenant_spares_fill(1)");
    let mut busy = db.superuser();
    run(&mut busy, "BEGIN; UPDATE fluxbase_tenant.tenants SET name = name WHERE spare");
    let mut admin = db.admin();
    run(&mut admin, "SET lock_timeout = '500ms'; SELECT tenant_create('acme', 'Acme')");
    run(&mut busy, "ROLLBACK");
    run(&mut admin, "SELECT tenant_create('other', 'Other')");
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM fluxbase_tenant.tenants WHERE spare", &[]), 0);
}

fn changed_catalog_policies_are_found_and_repaired(db: &Db) {
    let acme = db.new_tenant("acme", new_user());
    let mut superuser = db.superuser();
    run(&mut superuser, &format!("ALTER DATABASE {} SET session_preload_libraries = fluxbase_tenant", db.name()));
    let mut superuser = db.superuser();
    let problems = |superuser: &mut Client| -> Vec<String> {
        column(
            superuser,
            "SELECT object || ' ' || problem FROM tenant_check() WHERE problem <> 'is the owner role of no tenant' ORDER BY 1",
            &[],
        )
    };
    assert_eq!(problems(&mut superuser), [""; 0]);
    let roles = "SELECT count(*) FROM pg_policy p JOIN pg_class c ON c.oid = polrelid
                 WHERE c.relnamespace = 'fluxbase_tenant'::regnamespace AND polroles <> '{0}'";
    assert_eq!(one::<i64>(&mut superuser, roles, &[]), 0, "no policy depends on a role");
    for (damage, problem) in [
        (
            "DROP POLICY own_tenants ON fluxbase_tenant.members",
            "policy own_tenants on fluxbase_tenant.members is missing",
        ),
        (
            "ALTER POLICY own_tenants ON fluxbase_tenant.tenants USING (true)",
            "policy own_tenants on fluxbase_tenant.tenants is changed",
        ),
        (
            "ALTER POLICY instance_admins_only ON fluxbase_tenant.migrations TO fluxbase_tenant_user",
            "policy instance_admins_only on fluxbase_tenant.migrations is changed",
        ),
        (
            "REVOKE SELECT ON fluxbase_tenant.members FROM fluxbase_tenant_user",
            "table fluxbase_tenant.members is not granted to fluxbase_tenant_user",
        ),
        (
            "ALTER TABLE fluxbase_tenant.members DISABLE ROW LEVEL SECURITY",
            "table fluxbase_tenant.members row-level security is disabled",
        ),
    ] {
        // Applies first the fix that tenant_check() prints, then tenant_repair().
        run(&mut superuser, damage);
        assert_eq!(problems(&mut superuser), [problem]);
        let fix: String = one(
            &mut superuser,
            "SELECT fix FROM tenant_check() WHERE problem <> 'is the owner role of no tenant'",
            &[],
        );
        run(&mut superuser, &fix);
        assert_eq!(problems(&mut superuser), [""; 0], "{fix}");
        run(&mut superuser, damage);
        assert_eq!(column::<String>(&mut superuser, "SELECT problem FROM tenant_repair($1)", &[&acme]).len(), 1);
        assert_eq!(problems(&mut superuser), [""; 0], "{damage}");
    }
    run(&mut superuser, "CREATE POLICY open ON fluxbase_tenant.tenants USING (true)");
    assert_eq!(problems(&mut superuser), ["policy open on fluxbase_tenant.tenants is not a policy of the catalog"]);
    let fix: String =
        one(&mut superuser, "SELECT fix FROM tenant_check() WHERE problem <> 'is the owner role of no tenant'", &[]);
    run(&mut superuser, &fix);
    assert_eq!(problems(&mut superuser), [""; 0]);
}

/// COMMENT locks the object before PostgreSQL checks whether the caller may comment on it.
fn locked_role_names_block_no_call(db: &Db) {
    let acme = db.new_tenant("acme", new_user());
    let role = format!("fluxbase_tenant_{}", acme.simple());
    db.add_migration("1", "CREATE TABLE more (id int)");
    let mut holder = db.superuser();
    run(&mut holder, &format!("BEGIN; COMMENT ON ROLE {role} IS 'x'; COMMENT ON EXTENSION fluxbase_tenant IS 'x'"));
    let mut admin = db.admin();
    run(&mut admin, "SET lock_timeout = '500ms'");
    let statuses: Vec<String> = column(&mut admin, "SELECT status FROM tenant_migrate($1)", &[&acme]);
    assert_eq!(statuses, ["migrated"]);
    let mut superuser = db.superuser();
    run(&mut superuser, "SET lock_timeout = '500ms'; SELECT tenant_spares_fill(1)");
    run(&mut superuser, &format!("SELECT tenant_delete('{acme}')"));
    run(&mut holder, "ROLLBACK");
}

/// DROP OWNED locks every table with a policy for the role, and the number of locks is limited.
fn policies_to_an_owner_role(db: &Db) {
    let scene = Scene::set(db);
    let role = format!("fluxbase_tenant_{}", scene.victim.simple());
    let mut thief = scene.thief();
    run(&mut thief, "CREATE TABLE lair.t (); CREATE POLICY mine ON lair.t TO PUBLIC USING (true)");
    for command in ["CREATE POLICY p ON lair.t TO {} USING (true)", "ALTER POLICY mine ON lair.t TO PUBLIC, {}"] {
        let refusal = expect_refusal(thief.batch_execute(&command.replace("{}", &role)), "forbidden");
        refusal.message_has(&role);
    }
    run(
        &mut thief,
        "ALTER POLICY mine ON lair.t TO CURRENT_USER; CREATE POLICY other ON lair.t TO fluxbase_tenant_user",
    );
    let owners = format!(
        "CREATE TABLE more (id int); CREATE POLICY p ON more TO fluxbase_tenant_{} USING (true)",
        scene.thief.simple()
    );
    db.migrate(scene.thief, &owners);
}
