//! Tenants, users, sessions and queries, with the short names that the cases use.

use postgres::Client;
use postgres::error::SqlState;
use postgres::types::{FromSqlOwned, ToSql};
use uuid::Uuid;

use super::Db;

pub type Args<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Returns the single value of the single row.
#[track_caller]
pub fn one<T: FromSqlOwned>(client: &mut Client, sql: &str, args: Args) -> T {
    let row = client.query_one(sql, args).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    row.get(0)
}

/// Returns the first column of all rows.
#[track_caller]
pub fn column<T: FromSqlOwned>(client: &mut Client, sql: &str, args: Args) -> Vec<T> {
    let rows = client.query(sql, args).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// Runs statements, which must succeed.
#[track_caller]
pub fn run(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

/// Returns how many rows of a tenant's table the session can read. Permission denied counts as none.
#[track_caller]
pub fn reached(client: &mut Client, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    match client.query_one(&sql, &[]) {
        Ok(row) => row.get(0),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => 0,
        Err(error) => panic!("{sql}: {error:?}"),
    }
}

pub fn new_user() -> Uuid {
    Uuid::new_v4()
}

impl Db {
    /// Connects as the application's back end, with this current user.
    pub fn as_user(&self, user: Uuid) -> Client {
        let mut client = self.server();
        self.act_as(&mut client, Some(user));
        client
    }

    /// Connects as the application's back end in a service context: this current tenant and no user.
    pub fn as_service(&self, tenant: Uuid) -> Client {
        let mut client = self.server();
        run(&mut client, &format!("SET fluxbase_tenant.tenant_id = '{tenant}'"));
        client
    }

    /// Creates a tenant as an instance admin. The slug is its name as well.
    #[track_caller]
    pub fn new_tenant(&self, slug: &str, admin: Uuid) -> Uuid {
        let sql = "SELECT id FROM tenant_create(slug => $1, name => $1, admin_user_id => $2)";
        one(&mut self.admin(), sql, &[&slug, &admin])
    }

    /// Adds a new user to the tenant as a plain member, and returns the user's id.
    #[track_caller]
    pub fn new_member(&self, tenant: Uuid) -> Uuid {
        let user = new_user();
        one(&mut self.admin(), "SELECT user_id FROM tenant_add_member($1, $2)", &[&tenant, &user])
    }

    #[track_caller]
    pub fn add_migration(&self, version: &str, up: &str) {
        let sql = "SELECT version FROM tenant_migration_add($1, 'change ' || $1, $2)";
        one::<String>(&mut self.admin(), sql, &[&version, &up]);
    }

    /// Changes a setting for every session that starts later.
    #[track_caller]
    pub fn configure(&self, setting: &str, value: &str) {
        let quoted = value.replace('\'', "''");
        run(&mut self.superuser(), &format!("ALTER DATABASE {} SET {setting} = '{quoted}'", self.name()));
    }

    pub fn owner_role(tenant: Uuid) -> String {
        format!("fluxbase_tenant_{}", tenant.simple())
    }

    #[track_caller]
    pub fn schema_of(&self, tenant: Uuid) -> String {
        one(&mut self.superuser(), "SELECT schema_name FROM fluxbase_tenant.tenants WHERE id = $1", &[&tenant])
    }

    /// Does what `traces` does after the catalog has been dropped.
    #[track_caller]
    pub fn traces_without_catalog(&self, tenant: Uuid, schema: &str) -> i64 {
        one(
            &mut self.superuser(),
            "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = $1)
                  + (SELECT count(*) FROM pg_roles WHERE rolname = $2)",
            &[&schema, &Db::owner_role(tenant)],
        )
    }

    /// Counts catalog row, schema and owner role of a tenant: 3 for an intact tenant, 0 for one that is deleted.
    #[track_caller]
    pub fn traces(&self, tenant: Uuid, schema: &str) -> i64 {
        one(
            &mut self.superuser(),
            "SELECT (SELECT count(*) FROM fluxbase_tenant.tenants WHERE id = $1)
                  + (SELECT count(*) FROM pg_namespace WHERE nspname = $2)
                  + (SELECT count(*) FROM pg_roles WHERE rolname = $3)",
            &[&tenant, &schema, &Db::owner_role(tenant)],
        )
    }
}
