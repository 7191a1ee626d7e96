//! Tenants, users and sessions, in the words of the cases.

use postgres::Client;
use postgres::error::SqlState;
use postgres::types::{FromSqlOwned, ToSql};
use uuid::Uuid;

use super::Db;

pub type Args<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The one value of the one row.
#[track_caller]
pub fn one<T: FromSqlOwned>(client: &mut Client, sql: &str, args: Args) -> T {
    let row = client.query_one(sql, args).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    row.get(0)
}

/// The first column of all rows.
#[track_caller]
pub fn column<T: FromSqlOwned>(client: &mut Client, sql: &str, args: Args) -> Vec<T> {
    let rows = client.query(sql, args).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    rows.iter().map(|row| row.get(0)).collect()
}

/// Statements that must succeed.
#[track_caller]
pub fn run(client: &mut Client, sql: &str) {
    client.batch_execute(sql).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}

/// How many rows of a tenant's table the session reaches; none also where it is refused.
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
    /// The application's back end, acting as this user.
    pub fn as_user(&self, user: Uuid) -> Client {
        let mut client = self.server();
        self.act_as(&mut client, Some(user));
        client
    }

    /// The application's back end, working for this tenant without a user.
    pub fn as_service(&self, tenant: Uuid) -> Client {
        let mut client = self.server();
        run(&mut client, &format!("SET fluxbase_tenant.tenant_id = '{tenant}'"));
        client
    }

    /// A tenant with this slug, which is its name as well, made by an instance admin.
    #[track_caller]
    pub fn new_tenant(&self, slug: &str, admin: Uuid) -> Uuid {
        let sql = "SELECT id FROM tenant_create(slug => $1, name => $1, admin_user_id => $2)";
        one(&mut self.admin(), sql, &[&slug, &admin])
    }

    /// A new user who is a plain member of the tenant.
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

    /// For every session that begins after this.
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

    /// As `traces`, where the catalog is gone.
    #[track_caller]
    pub fn traces_without_catalog(&self, tenant: Uuid, schema: &str) -> i64 {
        one(
            &mut self.superuser(),
            "SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = $1)
                  + (SELECT count(*) FROM pg_roles WHERE rolname = $2)",
            &[&schema, &Db::owner_role(tenant)],
        )
    }

    /// How many of catalog row, schema and owner role of this tenant there are; 3 for a sound one.
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
