//! A protected table of a tenant remains protected: its owner cannot weaken the protection, and a superuser who does
//! gets a warning.

use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::{Db, expect_error};

cases![
    migrations_cannot_weaken_a_table,
    migrations_cannot_weaken_a_partition,
    migrations_cannot_disable_the_event_triggers,
    migrations_cannot_move_a_table_out,
    migrations_cannot_give_a_table_away,
    migrations_cannot_turn_a_table_into_a_view,
    renamed_policy_leaves_no_gap,
    ordinary_changes_go_through,
    superusers_are_warned_and_repair_restores_the_policy,
    moving_out_warns_a_superuser,
    users_cannot_change_tables,
];

const WEAKENING: &[&str] = &[
    "ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY",
    "ALTER TABLE notes NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE IF EXISTS ONLY notes ADD COLUMN more int, DISABLE ROW LEVEL SECURITY",
    "DROP POLICY tenant_isolation ON notes",
    "DROP POLICY IF EXISTS tenant_isolation ON notes CASCADE",
    "ALTER POLICY tenant_isolation ON notes USING (true)",
    "ALTER POLICY tenant_isolation ON notes USING (fluxbase_tenant.accessible(gen_random_uuid()))",
    "ALTER POLICY tenant_isolation ON notes WITH CHECK (true)",
    "ALTER POLICY tenant_isolation ON notes TO CURRENT_USER",
];

fn acme(db: &Db) -> (Uuid, Uuid) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    db.migrate(
        id,
        "CREATE TABLE notes AS SELECT 1 AS n;
         CREATE TABLE split (n int) PARTITION BY LIST (n); CREATE TABLE part PARTITION OF split DEFAULT",
    );
    (id, user)
}

/// Asserts that the statement is refused at top level, in a DO block and in a function.
#[track_caller]
fn refused(db: &Db, tenant: Uuid, statement: &str) {
    let forms = [
        statement.to_owned(),
        format!("DO $do$ BEGIN EXECUTE $run${statement}$run$; END $do$"),
        format!("CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN {statement}; END $f$; SELECT f()"),
    ];
    for form in forms {
        let result = db.try_migration(tenant, &form);
        assert!(result.is_err(), "{form}");
        expect_error(result, "42501");
        db.assert_tables_are_protected(tenant);
    }
}

fn migrations_cannot_weaken_a_table(db: &Db) {
    let (id, _) = acme(db);
    for statement in WEAKENING {
        refused(db, id, statement);
    }
}

fn migrations_cannot_weaken_a_partition(db: &Db) {
    let (id, _) = acme(db);
    for table in ["split", "part"] {
        for statement in [WEAKENING[0], WEAKENING[4], WEAKENING[6]] {
            refused(db, id, &statement.replace("notes", table));
        }
    }
    refused(db, id, "ALTER TABLE split DETACH PARTITION part; ALTER TABLE part DISABLE ROW LEVEL SECURITY");
}

fn migrations_cannot_disable_the_event_triggers(db: &Db) {
    let (id, _) = acme(db);
    let mut statements = vec![
        "SET LOCAL session_replication_role = replica",
        "ALTER EVENT TRIGGER fluxbase_tenant_after_command DISABLE",
        "DROP EVENT TRIGGER fluxbase_tenant_after_drop",
        "DROP FUNCTION fluxbase_tenant.after_command()",
        "UPDATE pg_class SET relrowsecurity = false WHERE relname = 'notes'",
        "DELETE FROM pg_policy",
    ];
    if db.major() >= 17 {
        statements.push("SET LOCAL event_triggers = off");
    }
    for statement in statements {
        refused(db, id, statement);
    }
}

/// The installation lets every role create in schema public, as was the default before PostgreSQL 15.
fn migrations_cannot_move_a_table_out(db: &Db) {
    let (id, _) = acme(db);
    refused(db, id, "ALTER TABLE notes SET SCHEMA public");
    run(&mut db.superuser(), "GRANT CREATE ON SCHEMA public TO PUBLIC");
    for table in ["notes", "split", "part"] {
        refused(db, id, &format!("ALTER TABLE {table} SET SCHEMA public"));
    }
    assert_eq!(db.tables_of(id), ["notes", "part", "split"]);
}

fn migrations_cannot_give_a_table_away(db: &Db) {
    let (id, _) = acme(db);
    for role in ["app_user", "postgres", "fluxbase_tenant_user", "fluxbase_tenant_owner"] {
        refused(db, id, &format!("ALTER TABLE notes OWNER TO {role}"));
    }
    // The only role that the owner role is a member of. All other owner roles are members of it as well.
    let role = "fluxbase_tenant_owner";
    refused(db, id, &format!("GRANT CREATE ON SCHEMA tenant_acme TO {role}; ALTER TABLE notes OWNER TO {role}"));
    let owner: String = one(
        &mut db.superuser(),
        "SELECT relowner::regrole::text FROM pg_class WHERE oid = 'tenant_acme.notes'::regclass",
        &[],
    );
    assert_eq!(owner, Db::owner_role(id));
}

fn migrations_cannot_turn_a_table_into_a_view(db: &Db) {
    let (id, _) = acme(db);
    let rule = "CREATE TABLE bare (n int); CREATE RULE \"_RETURN\" AS ON SELECT TO bare DO INSTEAD SELECT 1 AS n";
    let error = db.try_migration(id, rule).unwrap_err();
    assert!(["55000", "42809"].contains(&error.code().unwrap().code()), "{error:?}");
    db.assert_tables_are_protected(id);
}

fn renamed_policy_leaves_no_gap(db: &Db) {
    let (id, _) = acme(db);
    db.migrate(id, "ALTER POLICY tenant_isolation ON notes RENAME TO another");
    db.assert_tables_are_protected(id);
    db.migrate(id, "DROP POLICY another ON notes");
    db.assert_tables_are_protected(id);
    let swap = "ALTER POLICY tenant_isolation ON notes RENAME TO was; ALTER POLICY tenant_access ON notes RENAME TO tenant_isolation";
    expect_error(db.try_migration(id, swap), "42710");
    db.assert_tables_are_protected(id);
}

fn ordinary_changes_go_through(db: &Db) {
    let (id, user) = acme(db);
    for statement in [
        "ALTER TABLE notes ADD COLUMN body text DEFAULT 'x', ADD CHECK (n > 0), ADD PRIMARY KEY (n)",
        "ALTER TABLE notes ALTER COLUMN n TYPE bigint, ALTER COLUMN body DROP DEFAULT",
        "ALTER TABLE notes RENAME COLUMN body TO words; ALTER TABLE notes RENAME TO letters",
        "ALTER TABLE letters RENAME TO notes; CREATE INDEX ON notes (words); CLUSTER notes USING notes_pkey",
        "ALTER TABLE notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "ALTER TABLE notes SET (fillfactor = 90); ALTER TABLE notes SET UNLOGGED; ALTER TABLE notes SET LOGGED",
        "ALTER TABLE split DETACH PARTITION part; ALTER TABLE split ATTACH PARTITION part DEFAULT",
        "CREATE TABLE gone (n int); DROP TABLE gone; COMMENT ON TABLE notes IS 'x'",
        "TRUNCATE notes; INSERT INTO notes VALUES (7, 'seven')",
        "GRANT SELECT ON notes TO fluxbase_tenant_user; ALTER POLICY tenant_access ON notes TO PUBLIC",
    ] {
        db.migrate(id, statement);
        db.assert_tables_are_protected(id);
    }
    assert_eq!(reached(&mut db.as_user(user), "tenant_acme.notes"), 1);
}

fn superusers_are_warned_and_repair_restores_the_policy(db: &Db) {
    let (id, user) = acme(db);
    for statement in WEAKENING {
        let script = format!("SET search_path = tenant_acme, public; {statement};");
        let output = db.psql("postgres", &["-v", "ON_ERROR_STOP=1"], &script);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{statement}: {stderr}");
        assert!(
            stderr.contains("WARNING:  row-level security on table tenant_acme.notes no longer"),
            "{statement}: {stderr}"
        );
        let repaired: Vec<String> =
            column(&mut db.admin(), "SELECT object FROM tenant_repair($1) WHERE object LIKE '%notes'", &[&id]);
        assert_eq!(repaired, ["table tenant_acme.notes"], "{statement}");
        db.assert_tables_are_protected(id);
        assert!(db.admin().query("SELECT * FROM tenant_repair($1)", &[&id]).unwrap().is_empty(), "{statement}");
        assert_eq!(reached(&mut db.as_user(user), "tenant_acme.notes"), 1, "{statement}");
        assert_eq!(reached(&mut db.as_user(new_user()), "tenant_acme.notes"), 0, "{statement}");
    }
}

fn moving_out_warns_a_superuser(db: &Db) {
    let (_, user) = acme(db);
    let output = db.psql("postgres", &[], "ALTER TABLE tenant_acme.notes SET SCHEMA public;");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("WARNING:  table public.notes is no longer in its tenant's schema"), "{stderr}");
    // The executor-start check does not cover the table here, so the policy is evaluated.
    assert_eq!(reached(&mut db.as_user(user), "public.notes"), 1);
    for mut other in [db.as_user(new_user()), db.server(), db.user_role()] {
        assert_eq!(reached(&mut other, "public.notes"), 0);
    }
    let output = db.psql(
        "postgres",
        &[],
        "CREATE SCHEMA s; ALTER TABLE public.notes SET SCHEMA s; ALTER TABLE s.notes SET SCHEMA tenant_acme;",
    );
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(stderr.matches("WARNING").count(), 1, "after the return: {stderr}");
}

fn users_cannot_change_tables(db: &Db) {
    let (id, user) = acme(db);
    let statements = WEAKENING.iter().chain(&[
        "CREATE TABLE tenant_acme.mine (n int)",
        "CREATE POLICY mine ON notes USING (true)",
        "ALTER TABLE notes SET SCHEMA public",
        "DROP TABLE notes",
        "TRUNCATE notes",
        "CREATE TRIGGER t BEFORE INSERT ON notes EXECUTE FUNCTION fluxbase_tenant.catalog_changed()",
        "CREATE INDEX ON notes (n)",
    ]);
    for mut client in [db.as_user(user), db.as_service(id), db.admin()] {
        run(&mut client, "SET search_path = tenant_acme, public");
        for statement in statements.clone() {
            expect_error(client.batch_execute(statement), "42501");
        }
    }
    for statement in statements {
        let statement = statement.replace(" notes", " tenant_acme.notes");
        expect_error(db.user_role().batch_execute(&statement), "42501");
    }
}
