//! The policies on a tenant's tables.

use pgrx::{Uuid, pg_sys};

use super::own_ddl::execute_pinned;
use crate::catalog::Catalog;
use crate::catalog::relations::{self, LockedTable};
use crate::error::Result;
use crate::pg::sql::{Ident, QualifiedName, command};
use crate::pg::{execute, guc};

/// True, at no cost, for as long as the extension is there: DROP EXTENSION ... CASCADE takes this policy along with
/// `tenant_isolation`, and leaves row-level security without a policy, which lets nobody in.
const ACCESS: &str = "fluxbase_tenant.installed()";

/// A table in a tenant's schema.
pub struct TenantTable {
    pub oid: pg_sys::Oid,
    pub table: QualifiedName,
    pub tenant: Uuid,
}

/// Row-level security, also for the owner, and two policies: `tenant_isolation` is restrictive, so that no policy that
/// a migration adds can let others in; `tenant_access` lets members in, and a migration may replace it by finer ones.
pub fn protect(catalog: &Catalog, TenantTable { oid, table, tenant }: &TenantTable) -> Result<()> {
    let execute = |command| execute(catalog.scope(), &command);
    execute(command!("ALTER TABLE {} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", table))?;
    execute(command!(
        "CREATE POLICY tenant_isolation ON {} AS RESTRICTIVE USING (fluxbase_tenant.accessible('{}'::uuid))",
        table,
        tenant
    ))?;
    if relations::has_permissive_policy(catalog, *oid)? {
        return Ok(());
    }
    execute(command!("CREATE POLICY tenant_access ON {} USING ({})", table, ACCESS))
}

/// As `protect`, after taking away what is there of `tenant_isolation`.
pub fn protect_again(catalog: &Catalog, table: &TenantTable) -> Result<()> {
    let quiet = guc::Scope::open();
    quiet.set(c"client_min_messages", "warning")?;
    execute(catalog.scope(), &command!("DROP POLICY IF EXISTS tenant_isolation ON {}", &table.table))?;
    protect(catalog, table)
}

/// The same for a shared table, by the tenant in each row; whether there was anything to do.
pub fn protect_shared(catalog: &Catalog, table: &LockedTable, column: &Ident) -> Result<bool> {
    if relations::is_protected(catalog, table.oid, column)? {
        return Ok(false);
    }
    let name = &table.name;
    let execute = |command| execute_pinned(catalog, table, &command);
    execute(command!("ALTER TABLE {} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY", name))?;
    if relations::has_policy(catalog, table.oid, "tenant_isolation")? {
        execute(command!("DROP POLICY tenant_isolation ON {}", name))?;
    }
    // The sub-select is evaluated once per query, and its answer can be looked up in an index.
    execute(command!(
        "CREATE POLICY tenant_isolation ON {} AS RESTRICTIVE \
         USING ({} = ANY ((SELECT fluxbase_tenant.accessible_tenant_ids())::uuid[]))",
        name,
        column
    ))?;
    if !relations::has_permissive_policy(catalog, table.oid)? {
        execute(command!("CREATE POLICY tenant_access ON {} USING ({})", name, ACCESS))?;
    }
    Ok(true)
}

/// The other way round; whether there was anything to do.
pub fn unprotect_shared(catalog: &Catalog, table: &LockedTable) -> Result<bool> {
    if !relations::has_policy(catalog, table.oid, "tenant_isolation")? {
        return Ok(false);
    }
    let name = &table.name;
    let execute = |command| execute_pinned(catalog, table, &command);
    execute(command!("DROP POLICY tenant_isolation ON {}", name))?;
    if relations::has_policy(catalog, table.oid, "tenant_access")? {
        execute(command!("DROP POLICY tenant_access ON {}", name))?;
    }
    if !relations::has_any_policy(catalog, table.oid)? {
        execute(command!("ALTER TABLE {} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY", name))?;
    }
    Ok(true)
}
