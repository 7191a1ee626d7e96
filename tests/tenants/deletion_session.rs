//! Which rows of shared tables are deleted in the transaction that deletes a tenant, and which ones after it.

use postgres::Client;

use crate::cases;
use crate::support::Db;
use crate::support::people::{column, new_user, one, run};
use crate::support::removal::{bait, left, removed};
use crate::support::scene::Scene;

cases![
    plain_tables_are_cleared_in_the_callers_transaction,
    tables_of_untrusted_owners_are_left_to_the_worker,
    rows_locked_one_after_another,
    owner_roles_with_many_grants,
    publications_of_all_tables,
];

/// The rows are deleted in the caller's transaction, and a rollback restores them.
fn plain_tables_are_cleared_in_the_callers_transaction(db: &Db) {
    let doomed = db.new_tenant("doomed", new_user());
    let mut superuser = db.superuser();
    run(
        &mut superuser,
        &format!(
            "CREATE TABLE projects (id int PRIMARY KEY, stamp timestamptz); SELECT tenant_protect('projects');
             ALTER TABLE projects ADD UNIQUE (tenant_id, id);
             CREATE TABLE tasks (id int, project int) PARTITION BY LIST (id); CREATE TABLE tasks_all PARTITION OF tasks DEFAULT;
             SELECT tenant_protect('tasks');
             ALTER TABLE tasks ADD FOREIGN KEY (tenant_id, project) REFERENCES projects (tenant_id, id);
             CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.stamp = now(); RETURN NEW; END $$;
             CREATE TRIGGER stamp BEFORE UPDATE ON projects FOR EACH ROW EXECUTE FUNCTION stamp();
             INSERT INTO projects VALUES (1, NULL, '{doomed}'); INSERT INTO tasks VALUES (1, 1, '{doomed}')"
        ),
    );
    let rows = |client: &mut Client| -> [i64; 2] {
        ["projects", "tasks"].map(|table| one(client, &format!("SELECT count(*) FROM {table}"), &[]))
    };
    run(&mut superuser, &format!("BEGIN; SELECT tenant_delete('{doomed}')"));
    assert_eq!(
        rows(&mut superuser),
        [1, 0],
        "before the commit: rows of a table that a key refers to are left to the worker"
    );
    run(&mut superuser, "ROLLBACK");
    assert_eq!(rows(&mut superuser), [1, 1]);
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM fluxbase_tenant.removals", &[]), 0);
    run(&mut superuser, &format!("SELECT tenant_delete('{doomed}')"));
    removed(db);
    assert_eq!(rows(&mut superuser), [0, 0]);
    assert_eq!(
        column::<String>(&mut superuser, "SELECT problem FROM tenant_check() WHERE severity = 'error'", &[]),
        [""; 0]
    );
}

/// The deleting session does not touch a table of an untrusted owner, whatever the owner does to it concurrently.
fn tables_of_untrusted_owners_are_left_to_the_worker(db: &Db) {
    let scene = Scene::set(db);
    let (doomed, other) = (db.new_tenant("doomed", scene.crook), db.new_tenant("other", scene.crook));
    bait(&scene, "lair.bait", &[doomed, other]);
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE plain (id int PRIMARY KEY); SELECT tenant_protect('plain'); CREATE TABLE parent (id int PRIMARY KEY);
             SELECT tenant_protect('parent'); GRANT REFERENCES ON parent TO {};
             INSERT INTO plain VALUES (1, '{doomed}'), (2, '{other}'); INSERT INTO parent VALUES (1, '{doomed}'), (2, '{other}')",
            scene.role
        ),
    );
    // An untrusted role's foreign key, and an index that does not speed up its check.
    run(
        &mut scene.thief(),
        "CREATE TABLE lair.child (a int, b int REFERENCES public.parent ON DELETE CASCADE); CREATE INDEX ON lair.child USING brin (b);
         INSERT INTO lair.child SELECT 1, 2 FROM generate_series(1, 10)",
    );
    let mut deleting = db.superuser();
    run(&mut deleting, &format!("BEGIN; SELECT tenant_delete('{doomed}')"));
    let here = |table: &str| format!("SELECT count(*) FROM {table} WHERE tenant_id = '{doomed}'");
    assert_eq!(one::<i64>(&mut deleting, &here("plain"), &[]), 0);
    for table in ["parent", "lair.bait"] {
        assert_eq!(one::<i64>(&mut deleting, &here(table), &[]), 1, "{table}");
    }
    run(&mut deleting, "COMMIT");
    removed(db);
    for table in ["parent", "lair.bait"] {
        assert_eq!(left(db, table, doomed), 0);
        assert_eq!(left(db, table, other), 1);
    }
}

/// Another session releases each row lock before the lock wait limit is reached. The deletion must not wait for all
/// rows in turn.
fn rows_locked_one_after_another(db: &Db) {
    let doomed = db.new_tenant("doomed", new_user());
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE notes (id int); SELECT tenant_protect('notes');
             INSERT INTO notes SELECT n, '{doomed}' FROM generate_series(1, 20) n"
        ),
    );
    let mut holder = db.superuser();
    run(&mut holder, "BEGIN");
    for id in (1..=20).rev() {
        run(&mut holder, &format!("SAVEPOINT s{id}; SELECT FROM notes WHERE id = {id} FOR UPDATE"));
    }
    let mut deleting = db.superuser();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 1..=20 {
                run(&mut holder, &format!("SELECT pg_sleep(0.15); ROLLBACK TO s{id}"));
            }
            run(&mut holder, "COMMIT");
        });
        run(&mut deleting, &format!("BEGIN; SELECT tenant_delete('{doomed}')"));
    });
    assert_eq!(one::<i64>(&mut deleting, "SELECT count(*) FROM notes", &[]), 20);
    run(&mut deleting, "COMMIT");
    removed(db);
    assert_eq!(left(db, "notes", doomed), 0);
}

/// Another session may have locked the object of a grant. With few grants the role is dropped at once, with more the
/// worker drops it.
fn owner_roles_with_many_grants(db: &Db) {
    let scene = Scene::set(db);
    for (grants, is_left) in [(2, false), (5, true)] {
        let doomed = db.new_tenant("doomed", scene.crook);
        let role = format!("fluxbase_tenant_{}", doomed.simple());
        for number in 0..grants {
            let table = format!("lair.t{grants}{number}");
            run(&mut scene.thief(), &format!("CREATE TABLE {table} (n int)"));
            run(&mut db.superuser(), &format!("GRANT SELECT ON {table} TO {role}"));
        }
        let mut deleting = db.superuser();
        let exists = format!("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}')");
        run(&mut deleting, &format!("BEGIN; SELECT tenant_delete('{doomed}')"));
        assert_eq!(one::<bool>(&mut deleting, &exists, &[]), is_left, "{grants} grants");
        run(&mut deleting, "COMMIT");
        removed(db);
        assert!(!one::<bool>(&mut deleting, &exists, &[]));
    }
}

/// Publishing all tables, as for a logical replica, forbids UPDATE and DELETE on tables that have no replica identity.
fn publications_of_all_tables(db: &Db) {
    let scene = Scene::set(db);
    let doomed = db.new_tenant("doomed", scene.crook);
    run(&mut scene.thief(), "CREATE TABLE lair.keyed (n int PRIMARY KEY)");
    run(
        &mut db.superuser(),
        &format!(
            "SELECT tenant_protect('lair.keyed'); CREATE PUBLICATION every FOR ALL TABLES; CREATE TABLE more (n int);
             SELECT tenant_protect('more'); SELECT tenant_protect('more', 'tenant_id'); SELECT tenant_unprotect('more');
             INSERT INTO lair.keyed VALUES (1, '{doomed}'); SELECT tenant_delete('{doomed}')"
        ),
    );
    removed(db);
    assert_eq!(left(db, "lair.keyed", doomed), 0);
    run(&mut db.superuser(), "DROP PUBLICATION every");
}
