//! Untrusted code that would run with the privileges of a table's owner while rows of a deleted tenant are removed.

use crate::cases;
use crate::support::Db;
use crate::support::fleet::until;
use crate::support::people::{column, one, run};
use crate::support::removal::{left, removed, reported};
use crate::support::scene::Scene;

cases![
    functions_planted_before_create_was_revoked,
    triggers_of_a_partitioned_table,
    defaults_and_types_of_a_referring_table
];

/// Creates a role that is not a superuser and that will own shared tables, and a log of what code ran as which role.
fn keeper(db: &Db) -> String {
    let keeper = format!("keeper_of_{}", db.name());
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE {keeper}; CREATE TABLE log (line text, role name DEFAULT current_user);
             GRANT SELECT, INSERT ON log TO PUBLIC"
        ),
    );
    keeper
}

fn lines(db: &Db) -> Vec<String> {
    column(&mut db.superuser(), "SELECT line || ' as ' || role FROM public.log ORDER BY line", &[])
}

/// The function was created while every role could create functions in the schema. It matches the call better than the
/// built-in one.
fn functions_planted_before_create_was_revoked(db: &Db) {
    let scene = Scene::set(db);
    let keeper = keeper(db);
    run(
        &mut db.superuser(),
        &format!(
            "CREATE SCHEMA common AUTHORIZATION {keeper}; GRANT ALL ON SCHEMA common TO PUBLIC;
             CREATE TABLE events (n int); SELECT tenant_protect('events'); ALTER TABLE events OWNER TO {keeper};
             CREATE FUNCTION kept() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO public.log VALUES (''kept '' || to_jsonb(OLD)::text); RETURN OLD; END';
             CREATE TRIGGER kept BEFORE DELETE ON events FOR EACH ROW EXECUTE FUNCTION kept();
             ALTER DATABASE {} SET search_path = common, public",
            db.name()
        ),
    );
    run(
        &mut scene.thief(),
        "CREATE FUNCTION common.to_jsonb(public.events) RETURNS jsonb LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO public.log VALUES ('evil'); RETURN '{}'; END $$",
    );
    run(&mut db.superuser(), "REVOKE ALL ON SCHEMA common FROM PUBLIC");
    let insert = "INSERT INTO events VALUES (1, $1)";
    let doomed = db.new_tenant("doomed", scene.crook);
    // A manual DELETE resolves names on the deleting role's search_path.
    for tenant in [doomed, scene.thief] {
        db.superuser().execute(insert, &[&tenant]).unwrap();
    }
    db.superuser().execute("DELETE FROM events WHERE tenant_id = $1", &[&scene.thief]).unwrap();
    assert!(lines(db)[0].starts_with("evil as "), "the planted function matches: {:?}", lines(db));
    run(&mut db.superuser(), &format!("TRUNCATE public.log; SELECT tenant_delete('{doomed}')"));
    removed(db);
    assert_eq!(left(db, "public.events", doomed), 0);
    let lines = lines(db);
    assert!(lines.len() == 1 && lines[0].starts_with("kept {"), "{lines:?}");
    assert!(lines[0].ends_with(&keeper), "{lines:?}");
}

/// A partition inherits the triggers of its root, which another role owns. They may call any function, before or after
/// a row is deleted.
fn triggers_of_a_partitioned_table(db: &Db) {
    let scene = Scene::set(db);
    let keeper = keeper(db);
    run(
        &mut db.superuser(),
        &format!(
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN INSERT INTO public.log VALUES (TG_NAME); RETURN OLD; END';
             ALTER FUNCTION note() OWNER TO {keeper}"
        ),
    );
    run(
        &mut scene.thief(),
        &format!(
            "CREATE TABLE lair.root (n int) PARTITION BY LIST (n); GRANT USAGE, CREATE ON SCHEMA lair TO {keeper};
             CREATE TRIGGER strange BEFORE DELETE ON lair.root FOR EACH ROW EXECUTE FUNCTION note()"
        ),
    );
    let doomed = db.new_tenant("doomed", scene.crook);
    run(
        &mut db.superuser(),
        &format!(
            "SELECT tenant_protect('lair.root'); CREATE TABLE lair.part PARTITION OF lair.root FOR VALUES IN (1);
             ALTER TABLE lair.part OWNER TO {keeper};
             CREATE TRIGGER own BEFORE DELETE ON lair.part FOR EACH ROW EXECUTE FUNCTION note();
             INSERT INTO lair.root VALUES (1, '{doomed}'); SELECT tenant_delete('{doomed}')"
        ),
    );
    removed(db);
    assert_eq!(left(db, "lair.root", doomed), 0);
    assert_eq!(lines(db), [format!("own as {keeper}")]);
}

/// ON DELETE SET DEFAULT evaluates the default and writes a row, whose types, checks and indexes may call functions.
fn defaults_and_types_of_a_referring_table(db: &Db) {
    let scene = Scene::set(db);
    let keeper = keeper(db);
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        &format!(
            "CREATE TABLE jobs (n int PRIMARY KEY); SELECT tenant_protect('jobs'); ALTER TABLE jobs OWNER TO {keeper};
             GRANT REFERENCES ON jobs TO fluxbase_tenant_user"
        ),
    );
    let mut thief = scene.thief();
    run(
        &mut thief,
        "CREATE FUNCTION lair.evil(text) RETURNS boolean LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.log VALUES ($1); RETURN true; END';
         CREATE FUNCTION lair.number() RETURNS int LANGUAGE sql AS 'SELECT CASE WHEN lair.evil(''default'') THEN NULL::int END';
         CREATE FUNCTION lair.quiet(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
         CREATE DOMAIN lair.word AS text CHECK (lair.evil('domain'))",
    );
    let children = [
        "(n int DEFAULT lair.number() REFERENCES jobs ON DELETE SET DEFAULT)",
        "(n int REFERENCES jobs ON DELETE SET NULL, word lair.word)",
        "(n int REFERENCES jobs ON DELETE SET NULL, CHECK (lair.evil('check ' || coalesce(n, 0))))",
    ];
    for child in children {
        let doomed = db.new_tenant("doomed", scene.crook);
        run(&mut superuser, &format!("INSERT INTO jobs VALUES (1, '{doomed}')"));
        run(&mut thief, &format!("CREATE TABLE lair.child {child}; INSERT INTO lair.child (n) VALUES (1)"));
        run(&mut superuser, &format!("TRUNCATE log; SELECT tenant_delete('{doomed}')"));
        let problem = reported(db, "table public.jobs");
        assert!(problem.contains("code in table lair.child"), "{problem}");
        assert_eq!(lines(db), [""; 0], "{child}");
        run(&mut thief, "DROP TABLE lair.child");
        run(&mut superuser, "SELECT tenant_purge('100 years')");
        removed(db);
        assert_eq!(left(db, "jobs", doomed), 0);
    }
    // A plain referencing table does not prevent the removal.
    let doomed = db.new_tenant("doomed", scene.crook);
    run(&mut superuser, &format!("INSERT INTO jobs VALUES (1, '{doomed}')"));
    run(
        &mut thief,
        "CREATE TABLE lair.child (n int REFERENCES jobs ON DELETE SET NULL); INSERT INTO lair.child VALUES (1)",
    );
    run(&mut superuser, &format!("SELECT tenant_delete('{doomed}')"));
    until("the row is deleted", || left(db, "jobs", doomed) == 0);
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM lair.child WHERE n IS NULL", &[]), 1);
}
