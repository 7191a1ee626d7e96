//! Table `applied_migrations`: the ledger of the migrations that each tenant has applied.

use pgrx::Uuid;

use super::Catalog;
use super::migrations::{self, Migration};
use crate::error::{Error, Result};
use crate::pg::{any_row, query};

/// The migration status of one tenant, as `tenant_migration_status()` returns it.
pub struct Progress {
    pub tenant_id: Uuid,
    pub slug: String,
    pub version: Option<String>,
    pub pending: i64,
    /// The unfinished migration, if there is one.
    pub unfinished: Option<String>,
    /// The error of the last visit of a fleet run, if that visit failed.
    pub last_error: Option<String>,
}

/// Records that a tenant has applied a migration, and replaces the entry of a repeatable migration that it had applied
/// before. Locks the migration's row, so that the migration stays registered until the transaction ends. Raises
/// conflict if it is no longer registered.
pub fn record(catalog: &Catalog, tenant: Uuid, migration: &Migration, applied_by: Option<Uuid>) -> Result<()> {
    let recorded = query(
        catalog.scope(),
        "INSERT INTO fluxbase_tenant.applied_migrations (tenant_id, version, checksum, applied_by)
         SELECT $1, m.version, $3, $4 FROM fluxbase_tenant.migrations m WHERE m.version = $2 FOR KEY SHARE
         ON CONFLICT (tenant_id, version) DO UPDATE
         SET checksum = excluded.checksum, applied_by = excluded.applied_by, applied_at = now() RETURNING 1",
        &[tenant.into(), migration.version.as_str().into(), migration.checksum.as_str().into(), applied_by.into()],
        |_| Ok(()),
    )?;
    if recorded.is_empty() { Err(migrations::removed(&migration.version)) } else { Ok(()) }
}

/// Returns the status of every tenant that is not deleted, oldest first.
pub fn progress(catalog: &Catalog) -> Result<Vec<Progress>> {
    query(
        catalog.scope(),
        "SELECT t.id, t.slug, t.schema_version,
                CASE WHEN t.applied < (SELECT sum(revision) FROM fluxbase_tenant.migrations) THEN
                    (SELECT count(*) FROM fluxbase_tenant.migrations m WHERE NOT EXISTS (
                        SELECT 1 FROM fluxbase_tenant.applied_migrations a
                        WHERE a.tenant_id = t.id AND a.version = m.version
                        AND (a.checksum = m.checksum OR NOT m.repeatable))) ELSE 0 END,
                (SELECT format('%s, %s of %s statements done', u.version, u.statements_done, u.statements)
                 FROM fluxbase_tenant.unfinished_migrations u WHERE u.tenant_id = t.id),
                (SELECT CASE r.status WHEN 'failed' THEN concat_ws(', at ', r.error, r.place) END
                 FROM fluxbase_tenant.fleet_results r WHERE r.tenant_id = t.id ORDER BY r.finished_at DESC LIMIT 1)
         FROM fluxbase_tenant.tenants t WHERE t.deleted_at IS NULL AND NOT t.spare ORDER BY t.created_at, t.id",
        &[],
        |row| {
            Ok(Progress {
                tenant_id: row.need(1)?,
                slug: row.need(2)?,
                version: row.get(3),
                pending: row.need(4)?,
                unfinished: row.get(5),
                last_error: row.get(6),
            })
        },
    )
}

/// Reports whether the tenant has applied the migration with its current checksum.
pub fn has(catalog: &Catalog, tenant: Uuid, migration: &Migration) -> Result<bool> {
    any_row(
        catalog.scope(),
        "SELECT 1 FROM fluxbase_tenant.applied_migrations WHERE tenant_id = $1 AND version = $2 AND checksum = $3",
        &[tenant.into(), migration.version.as_str().into(), migration.checksum.as_str().into()],
    )
}

/// An entry of a tenant's ledger.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    pub version: String,
    /// The checksum of the script that was applied.
    pub checksum: String,
    /// The checksum of the script that is registered now.
    pub registered: String,
}

impl Entry {
    /// Reports whether the applied script is the registered one.
    pub fn is_current(&self) -> bool {
        self.checksum == self.registered
    }
}

/// Returns a tenant's ledger, in the order of versions.
pub fn ledger(catalog: &Catalog, tenant: Uuid) -> Result<Vec<Entry>> {
    query(
        catalog.scope(),
        "SELECT a.version, a.checksum, m.checksum FROM fluxbase_tenant.applied_migrations a
         JOIN fluxbase_tenant.migrations m ON m.version = a.version WHERE a.tenant_id = $1 ORDER BY m.sort_key",
        &[tenant.into()],
        |row| Ok(Entry { version: row.need(1)?, checksum: row.need(2)?, registered: row.need(3)? }),
    )
}

/// Deletes an entry of a tenant's ledger.
pub fn remove(catalog: &Catalog, tenant: Uuid, version: &str) -> Result<()> {
    query(
        catalog.scope(),
        "DELETE FROM fluxbase_tenant.applied_migrations WHERE tenant_id = $1 AND version = $2",
        &[tenant.into(), version.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Returns the number of tenants, spare ones included, that have applied the version.
pub fn tenants_with(catalog: &Catalog, version: &str) -> Result<i64> {
    let counts = query(
        catalog.scope(),
        "SELECT count(*) FROM fluxbase_tenant.applied_migrations WHERE version = $1",
        &[version.into()],
        |row| row.need(1),
    )?;
    counts.into_iter().next().ok_or_else(|| Error::internal("count(*) returned no row"))
}

/// Returns the highest applied version after the sort key, and the number of tenants that have applied any version
/// after it. Repeatable migrations do not count. Returns `None` if no tenant has applied one.
pub fn newest_after(catalog: &Catalog, sort_key: &str) -> Result<Option<(String, i64)>> {
    let found = query(
        catalog.scope(),
        "SELECT (array_agg(m.version ORDER BY m.sort_key DESC))[1], count(DISTINCT a.tenant_id)
         FROM fluxbase_tenant.migrations m JOIN fluxbase_tenant.applied_migrations a ON a.version = m.version
         WHERE m.sort_key > $1 AND NOT m.repeatable",
        &[sort_key.into()],
        |row| Ok((row.get(1), row.need(2)?)),
    )?;
    Ok(found.into_iter().find_map(|(version, tenants)| Some((version?, tenants))))
}
