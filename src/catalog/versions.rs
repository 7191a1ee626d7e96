//! How far tenants have come, as their rows in table `tenants` count it, so that one query finds who lacks something.

use pgrx::Uuid;

use super::Catalog;
use super::tenants::{Tenant, columns, tenant};
use crate::error::Result;
use crate::pg::query;

pub fn set_schema_version(catalog: &Catalog, id: Uuid) -> Result<Option<Tenant>> {
    query(
        catalog.scope(),
        concat!(
            "UPDATE fluxbase_tenant.tenants t SET updated_at = now(),
             applied = (SELECT count(*) FROM fluxbase_tenant.applied_migrations a
              JOIN fluxbase_tenant.migrations m ON m.version = a.version
              WHERE a.tenant_id = t.id AND (a.checksum = m.checksum OR NOT m.repeatable)),
             schema_version = (SELECT a.version FROM fluxbase_tenant.applied_migrations a
              JOIN fluxbase_tenant.migrations m ON m.version = a.version
              WHERE a.tenant_id = t.id AND NOT m.repeatable ORDER BY m.sort_key DESC LIMIT 1) WHERE t.id = $1 RETURNING ",
            columns!()
        ),
        &[id.into()],
        tenant,
    )
    .map(|rows| rows.into_iter().next())
}

/// Every tenant, as `lock` does; always in one order. Who comes after that at an isolation level that would not see what
/// is done meanwhile is refused by the server.
pub fn lock_all(catalog: &Catalog) -> Result<()> {
    query(catalog.scope(), "SELECT 1 FROM fluxbase_tenant.tenants ORDER BY id FOR NO KEY UPDATE", &[], |_| Ok(()))?;
    Ok(())
}

/// After a repeatable migration has changed, with all tenants locked: those that applied it as it was lack it now.
pub fn recount_applied(catalog: &Catalog) -> Result<()> {
    query(
        catalog.scope(),
        "UPDATE fluxbase_tenant.tenants t SET applied = c.applied
         FROM (SELECT t.id, (SELECT count(*) FROM fluxbase_tenant.applied_migrations a
                             JOIN fluxbase_tenant.migrations m ON m.version = a.version
                             WHERE a.tenant_id = t.id AND (a.checksum = m.checksum OR NOT m.repeatable)) AS applied
               FROM fluxbase_tenant.tenants t) c
         WHERE c.id = t.id",
        &[],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Tenants that are not deleted and lack a migration, of those up to the sort key `up_to` where one is given; oldest
/// first.
pub fn ids_with_pending(catalog: &Catalog, up_to: Option<&str>) -> Result<Vec<Uuid>> {
    query(
        catalog.scope(),
        "SELECT t.id FROM fluxbase_tenant.tenants t
         WHERE t.deleted_at IS NULL AND NOT t.spare AND t.applied < (SELECT count(*) FROM fluxbase_tenant.migrations)
           AND ($1 IS NULL OR EXISTS (
               SELECT 1 FROM fluxbase_tenant.migrations m WHERE m.sort_key <= $1 AND NOT EXISTS (
                   SELECT 1 FROM fluxbase_tenant.applied_migrations a
                   WHERE a.tenant_id = t.id AND a.version = m.version
                   AND (a.checksum = m.checksum OR NOT m.repeatable))))
         ORDER BY t.created_at, t.id",
        &[up_to.into()],
        |row| row.need(1),
    )
}
