//! The policies on tenants' tables and on shared tables.

use pgrx::{Uuid, pg_sys};

use super::own_ddl::execute_pinned;
use crate::catalog::Catalog;
use crate::catalog::relations::{self, LockedTable};
use crate::error::Result;
use crate::pg::sql::{Ident, QualifiedName, command};
use crate::pg::{execute, guc};

/// The condition of `tenant_access`. It is true as long as the extension is installed, at no cost. DROP EXTENSION ...
/// CASCADE drops this policy together with `tenant_isolation`. Row-level security then stays enabled without a policy,
/// so that no row is accessible.
const ACCESS: &str = "fluxbase_tenant.installed()";

/// The names of the policies that the extension creates.
pub const NAMES: [&str; 2] = ["tenant_isolation", "tenant_access"];

/// Drops the policy, if it exists.
pub fn drop_named(catalog: &Catalog, table: pg_sys::Oid, name: &str) -> Result<()> {
    if let Some(table) = LockedTable::lock(table)
        && relations::has_policy(catalog, table.oid, name)?
    {
        execute(catalog.scope(), &command!("DROP POLICY {} ON {}", Ident::new(name), &table.name))?;
    }
    Ok(())
}

/// A table in a tenant's schema.
pub struct TenantTable {
    pub oid: pg_sys::Oid,
    pub table: QualifiedName,
    pub tenant: Uuid,
}

/// Enables and forces row-level security and creates two policies. `tenant_isolation` is restrictive, so that a policy
/// which a migration adds cannot let other tenants in. `tenant_access` lets members in. A migration may replace it by
/// more specific policies.
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

/// Drops an existing `tenant_isolation`, then does the same as `protect`.
pub fn protect_again(catalog: &Catalog, table: &TenantTable) -> Result<()> {
    let quiet = guc::Scope::open();
    quiet.set(c"client_min_messages", "warning")?;
    execute(catalog.scope(), &command!("DROP POLICY IF EXISTS tenant_isolation ON {}", &table.table))?;
    protect(catalog, table)
}

/// Protects a shared table, whose policy checks the tenant in each row. Returns whether anything had to be done.
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
    // PostgreSQL evaluates the sub-select once per query and can use its result in an index condition.
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

/// Drops the policies of a shared table. Returns whether anything had to be done.
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
