//! Table `applied_migrations`: the ledger.

use pgrx::Uuid;

use super::Catalog;
use super::migrations::Migration;
use crate::error::Result;
use crate::pg::query;

/// How far one tenant has come.
pub struct Progress {
    pub tenant_id: Uuid,
    pub slug: String,
    pub version: Option<String>,
    pub pending: i64,
}

pub fn record(catalog: &Catalog, tenant: Uuid, migration: &Migration, applied_by: Option<Uuid>) -> Result<()> {
    query(
        catalog.scope(),
        "INSERT INTO fluxbase_tenant.applied_migrations (tenant_id, version, checksum, applied_by)
         VALUES ($1, $2, $3, $4)",
        &[tenant.into(), migration.version.as_str().into(), migration.checksum.as_str().into(), applied_by.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Every tenant that is not deleted, oldest first.
pub fn progress(catalog: &Catalog) -> Result<Vec<Progress>> {
    query(
        catalog.scope(),
        "SELECT t.id, t.slug, t.schema_version,
                (SELECT count(*) FROM fluxbase_tenant.migrations)
                - (SELECT count(*) FROM fluxbase_tenant.applied_migrations a WHERE a.tenant_id = t.id)
         FROM fluxbase_tenant.tenants t WHERE t.deleted_at IS NULL ORDER BY t.created_at, t.id",
        &[],
        |row| Ok(Progress { tenant_id: row.need(1)?, slug: row.need(2)?, version: row.get(3), pending: row.need(4)? }),
    )
}
