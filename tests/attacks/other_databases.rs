//! Databases without the extension, in which a preloaded library is loaded all the same. There any role that can create
//! a schema can create one named like the catalog.

use postgres::Client;

use crate::cases;
use crate::support::people::{new_user, one, run};
use crate::support::{Db, expect_error};

cases![a_planted_catalog_runs_no_code, a_planted_catalog_of_other_types];

/// A database without the extension whose owner is not a superuser, and a user is set for that owner.
struct Elsewhere {
    db: Db,
    owner: String,
}

impl Elsewhere {
    fn new(db: &Db) -> Self {
        let elsewhere = Db::empty(&db.cluster);
        let owner = format!("owner_of_{}", elsewhere.name());
        let mut superuser = elsewhere.superuser();
        run(
            &mut superuser,
            &format!("CREATE ROLE {owner} LOGIN; ALTER DATABASE {} OWNER TO {owner}", elsewhere.name()),
        );
        elsewhere.configure("session_preload_libraries", "fluxbase_tenant");
        run(
            &mut elsewhere.connect_as(&owner, ""),
            "CREATE SCHEMA lair; CREATE TABLE lair.seen (who text);
             CREATE TABLE lair.t (n int); ALTER TABLE lair.t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
             GRANT USAGE ON SCHEMA lair TO PUBLIC; GRANT ALL ON lair.seen, lair.t TO PUBLIC;
             CREATE FUNCTION lair.spy() RETURNS uuid LANGUAGE plpgsql AS
             'BEGIN INSERT INTO lair.seen VALUES (current_user); RETURN gen_random_uuid(); END'",
        );
        Elsewhere { db: elsewhere, owner }
    }

    fn owner(&self) -> Client {
        self.db.connect_as(&self.owner, "")
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let postgres = format!(
            "ALTER DATABASE {} OWNER TO postgres; DROP OWNED BY {1}; DROP ROLE {1}",
            self.db.name(),
            self.owner
        );
        let _ = self.db.superuser().batch_execute(&format!("DROP OWNED BY {} CASCADE; {postgres}", self.owner));
    }
}

fn a_planted_catalog_runs_no_code(db: &Db) {
    let elsewhere = Elsewhere::new(db);
    run(
        &mut elsewhere.owner(),
        "CREATE SCHEMA fluxbase_tenant; CREATE TABLE fluxbase_tenant.instance_admins (user_id uuid);
         CREATE TABLE fluxbase_tenant.tenants (id uuid, slug text, name text, schema_name name, status text);
         CREATE VIEW fluxbase_tenant.members AS SELECT lair.spy() AS user_id, lair.spy() AS tenant_id;
         CREATE VIEW fluxbase_tenant.isolation_policies AS
             SELECT 'lair.t'::regclass::oid AS relation, 1::smallint AS tenant_column, lair.spy() AS tenant_id, true AS in_force",
    );
    let commands = [
        "BEGIN; LOCK TABLE lair.t IN ACCESS EXCLUSIVE MODE; COMMIT",
        "BEGIN; DECLARE c CURSOR FOR SELECT 1 FROM lair.t; FETCH c; COMMIT",
        "SELECT count(*) FROM lair.t",
        "CREATE TEMP TABLE mine AS TABLE lair.t",
    ];
    let mut superuser = elsewhere.db.superuser();
    let user = new_user();
    for set_user in [String::new(), format!("SET fluxbase_tenant.user_id = '{user}';")] {
        let role = "app_server";
        let mut client = elsewhere.db.connect_as(role, "");
        for command in commands {
            run(
                &mut client,
                &format!("{set_user} {}", command.replace("mine", if set_user.is_empty() { "a" } else { "b" })),
            );
        }
    }
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM lair.seen", &[]), 0);
    // The function does run for a role that reads the view.
    run(&mut elsewhere.owner(), "SELECT * FROM fluxbase_tenant.members");
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM lair.seen", &[]), 2);
    expect_error(superuser.batch_execute("CREATE EXTENSION fluxbase_tenant"), "42P06");
}

/// The library reads the catalog's tables by the columns that they have.
fn a_planted_catalog_of_other_types(db: &Db) {
    let elsewhere = Elsewhere::new(db);
    let mut bystander = db.superuser();
    for tenants in [
        "VIEW fluxbase_tenant.tenants AS SELECT gen_random_uuid() AS id, ''::text AS slug, ''::text AS name, 'lair'::name AS schema_name",
        "TABLE fluxbase_tenant.tenants AS SELECT 4660::bigint AS id, 1 AS slug, 2 AS name, 'lair'::name AS schema_name, 3 AS status",
    ] {
        let mut client = elsewhere.owner();
        run(
            &mut client,
            &format!(
                "DROP SCHEMA IF EXISTS fluxbase_tenant CASCADE; CREATE SCHEMA fluxbase_tenant;
                 CREATE TABLE fluxbase_tenant.instance_admins (user_id bigint); INSERT INTO fluxbase_tenant.instance_admins VALUES (1);
                 CREATE TABLE fluxbase_tenant.members (id bigint); CREATE {tenants}"
            ),
        );
        run(&mut client, "SELECT count(*) FROM lair.t");
        run(&mut elsewhere.owner(), "SELECT count(*) FROM lair.t; BEGIN; LOCK TABLE lair.t; COMMIT");
    }
    assert_eq!(one::<i32>(&mut bystander, "SELECT 1", &[]), 1, "the server has not restarted");
}
