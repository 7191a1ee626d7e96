//! A dump is complete: after a restore, tenants, members, ledgers and data are unchanged, and tenants are isolated as
//! before.

use std::sync::Arc;

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::{Cluster, Db};

cases![restored_with_roles, restored_without_owners_and_repaired, restored_into_the_same_cluster];

const SCHEMA: &str = "
    CREATE TYPE state AS ENUM ('open', 'done');
    CREATE TABLE projects (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, title text NOT NULL);
    CREATE TABLE tasks (id serial PRIMARY KEY, project int REFERENCES projects DEFERRABLE INITIALLY DEFERRED,
                        state state DEFAULT 'open', tenant uuid DEFAULT tenant_current_id());
    CREATE TABLE events (at date) PARTITION BY RANGE (at);
    CREATE TABLE events_all PARTITION OF events DEFAULT;
    CREATE VIEW open_tasks AS SELECT * FROM tasks WHERE state = 'open';
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER touch BEFORE UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE POLICY no_deletes ON tasks AS RESTRICTIVE FOR DELETE USING (tenant_has_role(tenant, 'tenant_admin'))";

struct World {
    admin: Uuid,
    acme: Uuid,
    beta: Uuid,
}

fn populate(db: &Db) -> World {
    db.add_migration("1", SCHEMA);
    let (admin, instance_admin) = (new_user(), new_user());
    let (acme, beta) = (db.new_tenant("acme", admin), db.new_tenant("beta", new_user()));
    let (gone, paused) = (db.new_tenant("gone", admin), db.new_tenant("paused", admin));
    db.new_member(beta);
    db.add_migration("2", "ALTER TABLE tasks ADD note text");
    run(
        &mut db.admin(),
        &format!(
            "SELECT tenant_migrate('{acme}'), tenant_soft_delete('{gone}'), tenant_suspend('{paused}'),
             tenant_grant_instance_admin('{instance_admin}'), tenant_set_default('{beta}'),
             tenant_update('{acme}', 'Acme ''Inc''', '{{\"n\": 0.10, \"quote\": \"\\\"\"}}')"
        ),
    );
    for (tenant, slug) in [(acme, "acme"), (beta, "beta")] {
        let mut service = db.as_service(tenant);
        run(
            &mut service,
            &format!(
                "INSERT INTO tenant_{slug}.projects (title) VALUES ('one of {slug}'), ('two');
                 INSERT INTO tenant_{slug}.tasks (project) VALUES (1), (2), (2);
                 INSERT INTO tenant_{slug}.events VALUES ('2026-01-01')"
            ),
        );
    }
    World { admin, acme, beta }
}

/// Lists everything that the catalog and the tenant schemas contain, optionally with owners and grants.
fn everything(db: &Db, with_owners: bool) -> Vec<String> {
    let mut superuser = db.superuser();
    let mut all = Vec::new();
    for table in ["tenants", "members", "instance_admins", "migrations", "applied_migrations"] {
        let rows = format!("SELECT '{table}: ' || t::text FROM fluxbase_tenant.{table} t ORDER BY 1");
        all.extend(column::<String>(&mut superuser, &rows, &[]));
    }
    let relations: Vec<String> = column(
        &mut superuser,
        "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname LIKE 'tenant\\_%' AND c.relkind IN ('r', 'p', 'v') ORDER BY 1",
        &[],
    );
    for relation in relations {
        let rows = format!("SELECT '{relation}: ' || t::text FROM {relation} t ORDER BY 1");
        all.extend(column::<String>(&mut superuser, &rows, &[]));
    }
    let policies =
        "SELECT format('%s %s %s %s %s %s %s', schemaname, tablename, policyname, permissive, roles, cmd, qual)
                    FROM pg_policies ORDER BY 1";
    all.extend(column::<String>(&mut superuser, policies, &[]));
    let shape =
        "SELECT format('%s %s %s %s %s', c.oid::regclass, relkind, relrowsecurity, relforcerowsecurity, reloptions)
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname LIKE 'tenant\\_%' AND relkind <> 't' ORDER BY 1";
    all.extend(column::<String>(&mut superuser, shape, &[]));
    if with_owners {
        let owners = "SELECT format('%s of %s: %s', name, owner::regrole, one)
                      FROM (SELECT c.oid::regclass::text, relowner, relacl,
                                   acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", relowner)
                            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                            WHERE n.nspname LIKE 'tenant\\_%' AND relkind IN ('r', 'p', 'v', 'S')
                            UNION ALL SELECT nspname, nspowner, nspacl, acldefault('n', nspowner)
                            FROM pg_namespace WHERE nspname LIKE 'tenant\\_%') AS o (name, owner, acl, standard)
                      CROSS JOIN LATERAL unnest(coalesce(acl, standard)) AS one ORDER BY 1";
        all.extend(column::<String>(&mut superuser, owners, &[]));
    }
    all
}

#[track_caller]
fn assert_same(before: &[String], after: &[String]) {
    let lost: Vec<_> = before.iter().filter(|one| !after.contains(one)).collect();
    let new: Vec<_> = after.iter().filter(|one| !before.contains(one)).collect();
    let few = |lines: &[&String]| lines.iter().take(5).map(|line| line.to_string()).collect::<Vec<_>>();
    assert!(
        lost.is_empty() && new.is_empty(),
        "lost, first of {}: {:#?}\nnew, first of {}: {:#?}",
        lost.len(),
        few(&lost),
        new.len(),
        few(&new)
    );
    assert_eq!(before.len(), after.len());
}

/// Asserts that the application works in the restored database.
#[track_caller]
fn assert_usable(db: &Db, world: &World) {
    let mut client: Client = db.as_user(world.admin);
    run(&mut client, "SELECT tenant_set_current('acme')");
    assert_eq!(reached(&mut client, "tasks"), 3);
    run(&mut client, "INSERT INTO projects (title) VALUES ('new'); INSERT INTO tasks (project) VALUES (3)");
    assert_eq!(one::<i32>(&mut client, "SELECT max(id) FROM tasks", &[]), 4, "sequences continue");
    for table in ["projects", "tasks", "open_tasks", "events", "events_all"] {
        assert_eq!(reached(&mut client, &format!("tenant_beta.{table}")), 0, "{table}");
        assert_eq!(reached(&mut db.as_user(new_user()), &format!("tenant_acme.{table}")), 0, "{table}");
        assert_eq!(reached(&mut db.user_role(), &format!("tenant_acme.{table}")), 0, "{table}");
    }
    assert_eq!(reached(&mut db.as_service(world.beta), "tenant_beta.tasks"), 3);

    let mut admin = db.admin();
    let pending: i64 = one(&mut admin, "SELECT pending FROM tenant_migration_status() WHERE slug = 'acme'", &[]);
    assert_eq!(pending, 0);
    run(&mut admin, &format!("SELECT tenant_migrate('{}')", world.beta));
    run(&mut admin, "SELECT tenant_restore(id) FROM tenant_list_deleted()");
    run(&mut admin, "SELECT tenant_create('fresh', 'Fresh')");
    let broken: Vec<String> = column(
        &mut admin,
        "SELECT slug || ' ' || r::text FROM tenant_list() CROSS JOIN LATERAL tenant_repair(id) r",
        &[],
    );
    assert!(broken.is_empty(), "{broken:#?}");
    run(&mut admin, &format!("SELECT tenant_delete('{}')", world.acme));
    assert_eq!(db.traces(world.acme, "tenant_acme"), 0);
}

fn dump(db: &Db, options: &[&str]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file for the dump");
    let path = file.path().to_string_lossy().into_owned();
    let options: Vec<&str> = [&["--format=custom", "--file", &path], options].concat();
    db.tool("pg_dump", &options);
    file
}

fn restore(db: &Db, file: &tempfile::NamedTempFile, options: &[&str]) {
    let path = file.path().to_string_lossy().into_owned();
    let all = [&["--exit-on-error", "--dbname", db.name()], options, &[path.as_str()]].concat();
    db.tool("pg_restore", &all);
}

/// Starts a cluster that has none of the extension's roles, and returns it with an empty database.
fn other_cluster(db: &Db) -> (Arc<Cluster>, Db) {
    let cluster = Cluster::start(db.install(), &[]);
    let target = Db::bare(&cluster);
    (cluster, target)
}

fn restored_with_roles(db: &Db) {
    // pg_dumpall dumps all roles of the cluster, so this case needs a cluster in which no other case creates or drops
    // roles.
    let db = &Db::new(&Cluster::start(db.install(), &[]));
    let world = populate(db);
    let before = everything(db, true);
    let file = dump(db, &[]);
    let roles = db.tool("pg_dumpall", &["--roles-only", "--database", db.name()]);
    let (_cluster, target) = other_cluster(db);
    // Only the superuser exists already.
    let played = target.psql("postgres", &["-v", "ON_ERROR_STOP=0"], &roles);
    let errors = String::from_utf8_lossy(&played.stderr);
    for line in errors.lines().filter(|line| line.contains("ERROR")) {
        assert!(line.contains("role \"postgres\" already exists"), "{errors}");
    }
    restore(&target, &file, &[]);
    assert_same(&before, &everything(&target, true));
    assert_usable(&target, &world);
}

fn restored_without_owners_and_repaired(db: &Db) {
    let world = populate(db);
    let before = everything(db, true);
    let file = dump(db, &["--no-owner", "--no-acl"]);
    let (_cluster, target) = other_cluster(db);
    restore(&target, &file, &["--no-owner", "--no-acl"]);
    assert_same(&everything(db, false), &everything(&target, false));
    let mut superuser = target.superuser();
    for id in column::<Uuid>(&mut superuser, "SELECT id FROM fluxbase_tenant.tenants", &[]) {
        let repaired: Vec<String> =
            column(&mut superuser, "SELECT object || ': ' || problem FROM tenant_repair($1)", &[&id]);
        assert!(repaired.contains(&format!("role {}: missing", Db::owner_role(id))), "{repaired:?}");
    }
    assert_same(&before, &everything(&target, true));
    run(
        &mut superuser,
        "CREATE ROLE app_server LOGIN IN ROLE fluxbase_tenant_server;
         CREATE ROLE app_user LOGIN IN ROLE fluxbase_tenant_user;
         CREATE ROLE app_admin LOGIN IN ROLE fluxbase_tenant_admin",
    );
    assert_usable(&target, &world);
}

/// The copy and the original share the owner roles, and deleting a tenant in the copy leaves the original's intact.
fn restored_into_the_same_cluster(db: &Db) {
    let world = populate(db);
    let before = everything(db, true);
    let file = dump(db, &[]);
    let copy = Db::empty(&db.cluster);
    restore(&copy, &file, &[]);
    assert_same(&before, &everything(&copy, true));
    run(&mut copy.admin(), &format!("SELECT tenant_delete('{}')", world.acme));
    assert_eq!(copy.traces(world.acme, "tenant_acme"), 1, "the role, which the original still needs");
    assert_usable(db, &world);
}
