//! The columns `schema_version` and `applied` of table `tenants`. They summarize each tenant's ledger, so that one
//! query finds the tenants with pending migrations.

use pgrx::Uuid;

use super::Catalog;
use super::tenants::{Tenant, columns, tenant};
use crate::error::Result;
use crate::pg::query;

/// Recomputes both columns from the tenant's ledger.
pub fn set_schema_version(catalog: &Catalog, id: Uuid) -> Result<Option<Tenant>> {
    query(
        catalog.scope(),
        concat!(
            "UPDATE fluxbase_tenant.tenants t SET updated_at = now(),
             applied = (SELECT coalesce(sum(m.revision), 0) FROM fluxbase_tenant.applied_migrations a
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

/// Recomputes `applied` for a tenant that has nothing pending although its row is out of date. That happens if a
/// repeatable migration is registered again with an earlier script, which the tenant has already applied.
pub fn recount(catalog: &Catalog, id: Uuid) -> Result<()> {
    query(
        catalog.scope(),
        "UPDATE fluxbase_tenant.tenants t SET applied = c.applied
         FROM (SELECT coalesce(sum(m.revision), 0) AS applied FROM fluxbase_tenant.applied_migrations a
               JOIN fluxbase_tenant.migrations m ON m.version = a.version
               WHERE a.tenant_id = $1 AND (a.checksum = m.checksum OR NOT m.repeatable)) c
         WHERE t.id = $1 AND t.applied < c.applied",
        &[id.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Returns the tenants that have pending migrations, oldest first, without deleted and spare ones. If the sort key
/// `up_to` is set, considers only migrations up to and including it.
pub fn ids_with_pending(catalog: &Catalog, up_to: Option<&str>) -> Result<Vec<Uuid>> {
    query(
        catalog.scope(),
        "SELECT t.id FROM fluxbase_tenant.tenants t
         WHERE t.deleted_at IS NULL AND NOT t.spare AND t.applied < (SELECT sum(revision) FROM fluxbase_tenant.migrations)
           -- If a repeatable migration has had several scripts, a lower sum does not prove that something is pending:
           -- the migration may have been registered again with a script that the tenant has applied.
           AND (($1 IS NULL AND NOT EXISTS (SELECT 1 FROM fluxbase_tenant.migrations WHERE revision > 1)) OR EXISTS (
               SELECT 1 FROM fluxbase_tenant.migrations m WHERE ($1 IS NULL OR m.sort_key <= $1) AND NOT EXISTS (
                   SELECT 1 FROM fluxbase_tenant.applied_migrations a
                   WHERE a.tenant_id = t.id AND a.version = m.version
                   AND (a.checksum = m.checksum OR NOT m.repeatable))))
         ORDER BY t.created_at, t.id",
        &[up_to.into()],
        |row| row.need(1),
    )
}
