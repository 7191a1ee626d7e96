//! Tables of tenants: migrations create them, and the superuser inspects them.

use postgres::Client;
use uuid::Uuid;

use super::Db;
use super::people::{column, one, run};

impl Db {
    /// Runs the script as a migration of this tenant. A failure leaves nothing behind, not even the registered
    /// migration.
    pub fn try_migration(&self, tenant: Uuid, script: &str) -> Result<(), postgres::Error> {
        let mut admin = self.admin();
        let mut transaction = admin.transaction()?;
        let version = "SELECT (count(*) + 1)::text FROM tenant_migration_list()";
        let version: String = transaction.query_one(version, &[])?.get(0);
        transaction.query("SELECT version FROM tenant_migration_add($1, 'change ' || $1, $2)", &[&version, &script])?;
        transaction.query("SELECT * FROM tenant_migrate($1)", &[&tenant])?;
        transaction.commit()
    }

    #[track_caller]
    pub fn migrate(&self, tenant: Uuid, script: &str) {
        self.try_migration(tenant, script).unwrap_or_else(|e| panic!("{script}: {e:?}"));
    }

    /// Asserts that every table of the tenant's schema has the policies and the grants that it needs.
    #[track_caller]
    pub fn assert_tables_are_protected(&self, tenant: Uuid) {
        let lacking: Vec<String> = column(&mut self.superuser(), UNPROTECTED, &[&tenant]);
        assert!(lacking.is_empty(), "{lacking:#?}");
    }

    /// Returns the names of the tables in the tenant's schema.
    #[track_caller]
    pub fn tables_of(&self, tenant: Uuid) -> Vec<String> {
        let sql = "SELECT relname::text FROM pg_class WHERE relnamespace = $1::text::regnamespace
                   AND relkind IN ('r', 'p') ORDER BY 1";
        column(&mut self.superuser(), sql, &[&self.schema_of(tenant)])
    }
}

/// Returns a line for each policy or grant that is wrong on a table of tenant $1.
const UNPROTECTED: &str = "
    SELECT format('%s %s', c.relname, lacking)
    FROM fluxbase_tenant.tenants t JOIN pg_namespace n ON n.nspname = t.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p'),
    LATERAL (
        SELECT 'has row-level security off or not forced' WHERE NOT (c.relrowsecurity AND c.relforcerowsecurity)
        UNION ALL
        SELECT 'lacks tenant_isolation, or it has been changed' WHERE NOT EXISTS (
            SELECT FROM pg_policies p WHERE p.schemaname = n.nspname AND p.tablename = c.relname
            AND p.policyname = 'tenant_isolation' AND p.permissive = 'RESTRICTIVE' AND p.cmd = 'ALL'
            AND p.roles = '{public}' AND p.qual = format('fluxbase_tenant.accessible(%L::uuid)', t.id)
            AND p.with_check IS NULL)
        UNION ALL
        SELECT 'lacks tenant_access' WHERE NOT EXISTS (
            SELECT FROM pg_policies p WHERE p.schemaname = n.nspname AND p.tablename = c.relname
            AND p.policyname = 'tenant_access' AND p.permissive = 'PERMISSIVE' AND p.qual = 'fluxbase_tenant.installed()')
        UNION ALL
        SELECT format('%s %s to users', CASE WHEN wanted THEN 'lacks the grant of' ELSE 'grants' END, privilege)
        FROM (VALUES ('SELECT', true), ('INSERT', true), ('UPDATE', true), ('DELETE', true), ('TRUNCATE', false),
                     ('REFERENCES', false), ('TRIGGER', false)) AS privileges (privilege, wanted)
        WHERE has_table_privilege('fluxbase_tenant_user', c.oid, privilege) <> wanted
    ) AS lacks (lacking)
    WHERE t.id = $1 ORDER BY 1";

/// Returns the plan of a statement, without costs.
#[track_caller]
pub fn plan(client: &mut Client, statement: &str) -> String {
    let sql = format!("EXPLAIN (COSTS OFF) {statement}");
    column::<String>(client, &sql, &[]).join("\n")
}

/// Sets the current user for the rest of the session. All of the user's tenants are accessible.
#[track_caller]
pub fn act_as(client: &mut Client, user: Uuid) {
    run(client, &format!("SET fluxbase_tenant.user_id = '{user}'"));
}

/// Returns the first column of the first row as text, whatever its type.
#[track_caller]
pub fn text(client: &mut Client, sql: &str) -> String {
    one(client, &format!("SELECT x::text FROM ({sql}) AS q (x)"), &[])
}
