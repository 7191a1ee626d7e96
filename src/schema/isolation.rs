//! The policies that keep tenants apart, on every table from its birth.

use std::cell::Cell;

use pgrx::Uuid;

use crate::catalog::Catalog;
use crate::error::Result;
use crate::pg::{execute, query};

/// The table of a tenant that a DDL command made or changed.
pub struct TenantTable {
    /// Qualified and quoted.
    pub table: String,
    pub tenant: Uuid,
}

thread_local! {
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Marks the extension's own DDL, which must not set off the event trigger again.
struct Busy(bool);

impl Busy {
    fn enter() -> Self {
        Busy(BUSY.replace(true))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.set(self.0);
    }
}

/// Called by the event trigger at the end of DDL: gives new tables of tenants their policies.
pub fn after_ddl() -> Result<()> {
    if BUSY.get() {
        return Ok(());
    }
    let _busy = Busy::enter();
    let catalog = Catalog::write()?;
    for table in unprotected(&catalog)? {
        protect(&catalog, &table)?;
    }
    Ok(())
}

/// Row-level security, also for the owner, and two policies: `tenant_isolation` is restrictive, so that no policy that
/// a migration adds can let others in; `tenant_access` lets members in, and a migration may replace it by finer ones.
pub fn protect(catalog: &Catalog, TenantTable { table, tenant }: &TenantTable) -> Result<()> {
    execute(catalog.scope(), &format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"))?;
    execute(
        catalog.scope(),
        &format!(
            "CREATE POLICY tenant_isolation ON {table} AS RESTRICTIVE \
             USING ((SELECT fluxbase_tenant.reachable('{tenant}'::uuid)))"
        ),
    )?;
    execute(catalog.scope(), &format!("CREATE POLICY tenant_access ON {table} USING (true)"))
}

/// How the server prints the expression of `tenant_isolation`.
pub fn expected_policy(tenant: Uuid) -> String {
    format!("( SELECT fluxbase_tenant.reachable('{tenant}'::uuid) AS reachable)")
}

/// Tables of tenants that the DDL command just run made, and that have no policy yet.
fn unprotected(catalog: &Catalog) -> Result<Vec<TenantTable>> {
    query(
        catalog.scope(),
        "SELECT DISTINCT format('%I.%I', n.nspname, c.relname), t.id
         FROM pg_event_trigger_ddl_commands() d
         JOIN pg_class c ON c.oid = d.objid
         JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN fluxbase_tenant.tenants t ON t.schema_name = n.nspname
         WHERE d.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p') AND NOT EXISTS (
             SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant_isolation')",
        &[],
        |row| Ok(TenantTable { table: row.need(1)?, tenant: row.need(2)? }),
    )
}
