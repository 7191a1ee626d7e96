//! The scene of the attacks: a victim, and a thief who may run any SQL.

use postgres::Client;
use uuid::Uuid;

use super::people::{new_user, one, reached, run};
use super::{Db, expect_error};

/// Tenants `victim` and `thief` with a table each, and the thief's database role, which may run any SQL. The role has
/// no privilege except `fluxbase_tenant_user`, an identity that a superuser has set, and a schema `lair` to create
/// objects in.
pub struct Scene<'a> {
    pub db: &'a Db,
    pub victim: Uuid,
    pub thief: Uuid,
    /// The admin of the tenant `victim`.
    pub owner: Uuid,
    /// The admin of the tenant `thief`.
    pub crook: Uuid,
    pub role: String,
}

const NOTES: &str = "CREATE TABLE notes (id serial PRIMARY KEY, body text, email text UNIQUE);
     INSERT INTO notes (body, email) SELECT current_schema() || ' secret', n || '@' || current_schema()
     FROM generate_series(1, 3) n";

impl<'a> Scene<'a> {
    pub fn set(db: &'a Db) -> Self {
        db.add_migration("1", NOTES);
        let (owner, crook) = (new_user(), new_user());
        let (victim, thief) = (db.new_tenant("victim", owner), db.new_tenant("thief", crook));
        let role = format!("thief_of_{}", db.name());
        run(
            &mut db.superuser(),
            &format!(
                "CREATE ROLE {role} LOGIN IN ROLE fluxbase_tenant_user; CREATE SCHEMA lair AUTHORIZATION {role};
                 GRANT USAGE ON SCHEMA lair TO PUBLIC; SELECT tenant_is_instance_admin();
                 ALTER ROLE {role} IN DATABASE {} SET fluxbase_tenant.user_id = '{crook}';
                 ALTER DATABASE {0} SET session_preload_libraries = fluxbase_tenant",
                db.name()
            ),
        );
        Scene { db, victim, thief, owner, crook, role }
    }

    /// Connects as the thief's database role.
    pub fn thief(&self) -> Client {
        self.db.connect_as(&self.role, "")
    }

    /// Connects as the application's back end, with the victim's admin as the current user.
    pub fn owner(&self) -> Client {
        self.db.as_user(self.owner)
    }

    /// Asserts that the statement is refused on the victim's table and succeeds on the thief's own, which proves that
    /// the role can run it. `{}` is replaced by the schema.
    #[track_caller]
    pub fn assert_refused_on_victim_only(&self, statement: &str) {
        let mut client = self.thief();
        expect_error(client.batch_execute(&statement.replace("{}", "tenant_victim")), "42501");
        let _ = client.batch_execute("ROLLBACK");
        run(&mut client, &statement.replace("{}", "tenant_thief"));
        let _ = client.batch_execute("ROLLBACK");
        self.victim_is_unharmed();
    }

    /// Asserts that the victim's rows are unchanged, and not accessible to the thief.
    #[track_caller]
    pub fn victim_is_unharmed(&self) {
        assert_eq!(reached(&mut self.thief(), "tenant_victim.notes"), 0);
        let sql = "SELECT count(*) FROM tenant_victim.notes WHERE body = 'tenant_victim secret'";
        assert_eq!(one::<i64>(&mut self.owner(), sql, &[]), 3);
    }

    /// Creates functions that record the role that they run as: `lair.spy()` does so in each call, `lair.quiet()`
    /// claims to be immutable, `lair.on_row()` is a trigger function.
    pub fn plant_spies(&self) {
        run(
            &mut self.thief(),
            "CREATE TABLE lair.seen (who text, boss boolean); GRANT INSERT ON lair.seen TO PUBLIC;
             CREATE FUNCTION lair.spy() RETURNS boolean LANGUAGE plpgsql AS
             $$ BEGIN INSERT INTO lair.seen VALUES (current_user, public.tenant_is_instance_admin()); RETURN true;
                EXCEPTION WHEN insufficient_privilege THEN INSERT INTO lair.seen VALUES (current_user, false); RETURN true; END $$;
             CREATE FUNCTION lair.quiet() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS
             $$ BEGIN RETURN lair.spy(); END $$;
             CREATE FUNCTION lair.on_row() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM lair.spy(); RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END; END $$",
        );
    }

    /// Returns the roles other than the thief's that the spies ran as. At least one spy must have run.
    #[track_caller]
    pub fn other_roles_of_spies(&self) -> Vec<(String, bool)> {
        let rows = self.db.superuser().query("SELECT DISTINCT who, boss FROM lair.seen ORDER BY 1", &[]).unwrap();
        assert!(!rows.is_empty(), "no spy ran: the test tests nothing");
        let seen = rows.iter().map(|row| (row.get(0), row.get(1)));
        seen.filter(|(who, boss)| *who != self.role || *boss).collect()
    }

    /// Deletes what the spies recorded.
    #[track_caller]
    pub fn forget_spies(&self) {
        run(&mut self.db.superuser(), "TRUNCATE lair.seen");
    }

    /// Runs the script as a nontransactional migration of the thief's tenant, and returns its status, number of
    /// migrations applied and SQLSTATE.
    #[track_caller]
    pub fn run_nontransactional(&self, script: &str) -> String {
        let version: String =
            one(&mut self.db.admin(), "SELECT (count(*) + 1)::text FROM tenant_migration_list()", &[]);
        self.db.add_nontransactional(&version, script);
        let lines = self.db.migrate_all("tenants => '{thief}', retries => 0, parallel => 1");
        let [line] = lines.as_slice() else { panic!("{script}: {lines:?}") };
        if !line.contains("migrated") {
            run(&mut self.db.admin(), &format!("SELECT tenant_migration_remove('{version}')"));
        }
        self.db.assert_no_workers();
        line.replace("thief ", "")
    }
}
