//! Code of a migration that runs while a tenant is cloned: it can access one of the two tenants at a time.

use crate::cases;
use crate::support::Db;
use crate::support::people::{column, one, run};
use crate::support::scene::Scene;

cases![code_of_the_copy_cannot_access_the_source, casts_of_the_source_cannot_access_the_copy];

/// A CHECK runs for each row that is inserted into the copy.
fn code_of_the_copy_cannot_access_the_source(db: &Db) {
    let scene = Scene::set(db);
    db.add_migration(
        "2",
        "CREATE TABLE secrets (kind text, body text) PARTITION BY LIST (kind);
         CREATE TABLE papers (body text); CREATE TABLE log (line text); CREATE FUNCTION helper() RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION chk(b text) RETURNS boolean LANGUAGE plpgsql AS $f$
         DECLARE me name := (SELECT n.nspname FROM pg_namespace n WHERE n.nspowner = current_user::regrole LIMIT 1); attempt text; BEGIN
             IF b <> 'go' OR me = 'tenant_victim' OR me IS NULL THEN RETURN true; END IF;
             FOREACH attempt IN ARRAY ARRAY[
                 'DELETE FROM tenant_victim.papers', 'SELECT count(*) FROM tenant_victim.papers',
                 'ALTER FUNCTION tenant_victim.helper() OWNER TO ' || current_user,
                 'ALTER TABLE tenant_victim.papers OWNER TO ' || current_user,
                 'GRANT ALL ON SEQUENCE tenant_victim.notes_id_seq TO PUBLIC', 'SELECT setval(''tenant_victim.notes_id_seq'', 99)',
                 'CREATE POLICY open ON tenant_victim.papers USING (true)',
                 format('CREATE TABLE %I.trap (kind text, body text)', me),
                 format('ALTER TABLE tenant_victim.secrets ATTACH PARTITION %I.trap DEFAULT', me)] LOOP
                 BEGIN EXECUTE attempt; EXECUTE format('INSERT INTO %I.log VALUES (%L)', me, attempt);
                 EXCEPTION WHEN OTHERS THEN EXECUTE format('INSERT INTO %I.log VALUES (%L)', me, SQLSTATE); END;
             END LOOP;
             RETURN true; END $f$;
         ALTER TABLE notes ADD CHECK (chk(body)) NOT VALID",
    );
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
    run(
        &mut scene.owner(),
        "INSERT INTO tenant_victim.notes (body) VALUES ('go'); INSERT INTO tenant_victim.papers VALUES ('one'), ('two')",
    );
    run(&mut db.superuser(), &format!("SELECT tenant_clone('{}', 'copy', with_data => true)", scene.victim));
    let lines: Vec<String> = column(&mut db.superuser(), "SELECT line FROM tenant_copy.log", &[]);
    assert_eq!(lines.len(), 9, "{lines:?}");
    assert!(lines.iter().all(|line| line == "42501" || line.contains("CREATE TABLE tenant_copy.trap")), "{lines:?}");
    assert_eq!(one::<i64>(&mut scene.owner(), "SELECT count(*) FROM tenant_victim.papers", &[]), 2);
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM tenant_copy.papers", &[]), 2);
    run(&mut scene.owner(), "INSERT INTO tenant_victim.notes (body) VALUES ('later')");
    let temporary = "SELECT count(*) FROM pg_class WHERE relpersistence = 't'";
    assert_eq!(one::<i64>(&mut db.superuser(), temporary, &[]), 0);
}

/// A value of a type of the schema is read as text, which a cast of the type's owner can turn into a call.
fn casts_of_the_source_cannot_access_the_copy(db: &Db) {
    let scene = Scene::set(db);
    db.add_migration(
        "2",
        "CREATE TYPE mood AS (name text); CREATE TABLE seen (who text);
         CREATE FUNCTION told(mood) RETURNS text LANGUAGE plpgsql SET search_path FROM CURRENT AS
         $f$ BEGIN INSERT INTO seen VALUES (current_user); RETURN '(' || ($1).name || ')'; END $f$;
         CREATE CAST (mood AS text) WITH FUNCTION told(mood); CREATE TABLE days (n int, mood mood)",
    );
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", scene.victim));
    run(&mut scene.owner(), "INSERT INTO tenant_victim.days VALUES (1, ROW('fine'))");
    run(&mut db.superuser(), &format!("SELECT tenant_clone('{}', 'copy', with_data => true)", scene.victim));
    let roles: Vec<String> = column(&mut db.superuser(), "SELECT DISTINCT who FROM tenant_victim.seen", &[]);
    assert_eq!(roles, [Db::owner_role(scene.victim)]);
    assert_eq!(one::<String>(&mut db.superuser(), "SELECT (mood).name FROM tenant_copy.days", &[]), "fine");
}
