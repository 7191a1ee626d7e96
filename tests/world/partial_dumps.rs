//! Dumps of a part of the database, and by roles that are not superusers.

use crate::cases;
use crate::support::Db;
use crate::support::people::{column, new_user, one, reached, run};

cases![one_tenant_is_restored_from_its_own_dump, an_instance_admin_dumps_everything];

fn one_tenant_is_restored_from_its_own_dump(db: &Db) {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    db.add_migration(
        "1",
        "CREATE FUNCTION norm(t text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN lower(t); END';
         CREATE TABLE notes (id bigserial PRIMARY KEY, body text); CREATE UNIQUE INDEX ON notes (norm(body));
         CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n FROM notes;
         CREATE POLICY no_deletes ON notes AS RESTRICTIVE FOR DELETE USING (false)",
    );
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let other = db.new_tenant("globex", new_user());
    run(
        &mut db.superuser(),
        "INSERT INTO tenant_acme.notes (body) VALUES ('x'); REFRESH MATERIALIZED VIEW tenant_acme.total",
    );
    let file = tempfile::NamedTempFile::new().expect("a file for the dump");
    let path = file.path().to_string_lossy().into_owned();
    db.tool("pg_dump", &["--format=custom", "--schema=tenant_acme", "--file", &path, db.name()]);
    for options in [
        &["--clean", "--if-exists", "--single-transaction"][..],
        &["--clean", "--if-exists", "--exit-on-error"],
        &["--clean", "--if-exists", "--exit-on-error", "--no-owner"],
    ] {
        run(&mut db.superuser(), "DELETE FROM tenant_acme.notes");
        db.tool("pg_restore", &[options, &["--dbname", db.name(), &path]].concat());
        assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM tenant_acme.notes", &[]), 1, "{options:?}");
        let mut member = db.as_user(user);
        assert_eq!(one::<i64>(&mut member, "SELECT n FROM tenant_acme.total", &[]), 1);
        run(&mut member, "BEGIN; INSERT INTO tenant_acme.notes (body) VALUES ('y'); ROLLBACK");
        assert_eq!(reached(&mut db.as_user(new_user()), "tenant_acme.notes"), 0);
        let found: Vec<String> = column(
            &mut db.superuser(),
            "SELECT object || ' ' || problem FROM tenant_check() WHERE severity = 'error'",
            &[],
        );
        let repaired: Vec<String> =
            column(&mut db.superuser(), "SELECT object || ' ' || problem FROM tenant_repair($1)", &[&id]);
        if !options.contains(&"--no-owner") {
            assert_eq!((found, repaired), (vec![], vec![]), "{options:?}");
        }
        let drift: Vec<String> = column(&mut db.superuser(), "SELECT object FROM tenant_drift()", &[]);
        assert_eq!(drift, [""; 0], "{options:?}");
    }
    assert_eq!(one::<i64>(&mut db.superuser(), "SELECT count(*) FROM tenant_list() WHERE id = $1", &[&other]), 1);
}

/// A managed service gives no superuser.
fn an_instance_admin_dumps_everything(db: &Db) {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    db.add_migration("1", "CREATE TABLE notes (n serial); INSERT INTO notes DEFAULT VALUES");
    let (gone, paused) = (db.new_tenant("gone", new_user()), db.new_tenant("paused", new_user()));
    db.new_tenant("acme", new_user());
    run(
        &mut db.superuser(),
        &format!("SELECT tenant_soft_delete('{gone}'), tenant_suspend('{paused}'); SELECT tenant_spares_fill(1)"),
    );
    let role = format!("backup_of_{}", db.name());
    run(&mut db.superuser(), &format!("CREATE ROLE {role} LOGIN IN ROLE fluxbase_tenant_admin, pg_read_all_data"));
    let dump = db.tool("pg_dump", &["--username", &role, "--enable-row-security", "--schema=tenant_*", db.name()]);
    assert_eq!(dump.matches("COPY tenant_").count(), 4, "acme, gone, paused and the spare");
    assert_eq!(dump.lines().filter(|line| *line == "1").count(), 4);
    // A role that is no instance admin gets nothing.
    let other = format!("other_of_{}", db.name());
    run(&mut db.superuser(), &format!("CREATE ROLE {other} LOGIN IN ROLE pg_read_all_data"));
    let refused = db
        .command("pg_dump")
        .args(["--username", &other, "--enable-row-security", "--schema=tenant_*", db.name()])
        .output();
    let refused = refused.expect("pg_dump runs");
    assert!(!refused.status.success() && !String::from_utf8_lossy(&refused.stdout).contains("\n1\n"));
    run(&mut db.superuser(), &format!("DROP ROLE {role}, {other}"));
}
