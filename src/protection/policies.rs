//! The policies on a tenant's tables.

use pgrx::{Uuid, pg_sys};

use super::own_ddl::execute_pinned;
use crate::catalog::Catalog;
use crate::catalog::relations::{self, LockedTable};
use crate::error::Result;
use crate::pg::{execute, guc};

/// True, at no cost, for as long as the extension is there: DROP EXTENSION ... CASCADE takes this policy along with
/// `tenant_isolation`, and leaves row-level security without a policy, which lets nobody in.
const ACCESS: &str = "fluxbase_tenant.installed()";

/// A table in a tenant's schema.
pub struct TenantTable {
    pub oid: pg_sys::Oid,
    /// Qualified and quoted.
    pub table: String,
    pub tenant: Uuid,
}

/// Row-level security, also for the owner, and two policies: `tenant_isolation` is restrictive, so that no policy that
/// a migration adds can let others in; `tenant_access` lets members in, and a migration may replace it by finer ones.
pub fn protect(catalog: &Catalog, TenantTable { oid, table, tenant }: &TenantTable) -> Result<()> {
    execute(catalog.scope(), &format!("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"))?;
    execute(
        catalog.scope(),
        &format!(
            "CREATE POLICY tenant_isolation ON {table} AS RESTRICTIVE \
             USING (fluxbase_tenant.reachable('{tenant}'::uuid))"
        ),
    )?;
    if relations::has_permissive_policy(catalog, *oid)? {
        return Ok(());
    }
    execute(catalog.scope(), &format!("CREATE POLICY tenant_access ON {table} USING ({ACCESS})"))
}

/// As `protect`, after taking away what is there of `tenant_isolation`.
pub fn protect_again(catalog: &Catalog, table: &TenantTable) -> Result<()> {
    let quiet = guc::Scope::open();
    quiet.set(c"client_min_messages", "warning")?;
    execute(catalog.scope(), &format!("DROP POLICY IF EXISTS tenant_isolation ON {}", table.table))?;
    protect(catalog, table)
}

/// The same for a shared table, by the tenant in each row; whether there was anything to do. The column is quoted.
pub fn protect_shared(catalog: &Catalog, table: &LockedTable, column: &str) -> Result<bool> {
    if relations::is_protected(catalog, table.oid, column)? {
        return Ok(false);
    }
    let name = &table.name;
    let execute = |command: &str| execute_pinned(catalog, table, command);
    execute(&format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"))?;
    if relations::has_policy(catalog, table.oid, "tenant_isolation")? {
        execute(&format!("DROP POLICY tenant_isolation ON {name}"))?;
    }
    // The sub-select is evaluated once per query, and its answer can be looked up in an index.
    let reached = format!("{column} = ANY ((SELECT fluxbase_tenant.reachable_tenant_ids())::uuid[])");
    execute(&format!("CREATE POLICY tenant_isolation ON {name} AS RESTRICTIVE USING ({reached})"))?;
    if !relations::has_permissive_policy(catalog, table.oid)? {
        execute(&format!("CREATE POLICY tenant_access ON {name} USING ({ACCESS})"))?;
    }
    Ok(true)
}

/// The other way round; whether there was anything to do.
pub fn unprotect_shared(catalog: &Catalog, table: &LockedTable) -> Result<bool> {
    if !relations::has_policy(catalog, table.oid, "tenant_isolation")? {
        return Ok(false);
    }
    let name = &table.name;
    let execute = |command: &str| execute_pinned(catalog, table, command);
    execute(&format!("DROP POLICY tenant_isolation ON {name}"))?;
    if relations::has_policy(catalog, table.oid, "tenant_access")? {
        execute(&format!("DROP POLICY tenant_access ON {name}"))?;
    }
    if !relations::has_any_policy(catalog, table.oid)? {
        execute(&format!("ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY"))?;
    }
    Ok(true)
}
