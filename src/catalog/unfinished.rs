//! Table `unfinished_migrations`: the progress of nontransactional migrations that are running or were interrupted.

use pgrx::Uuid;

use super::Catalog;
use super::migrations::{self, Migration};
use crate::error::Result;
use crate::pg::query;
use crate::pg::sql::QualifiedName;

pub struct Unfinished {
    pub version: String,
    pub statements: i32,
    pub statements_done: i32,
    /// Whether an attempt at the next statement was canceled or crashed before it recorded its outcome, or is still
    /// running.
    pub interrupted: bool,
}

/// Returns the unfinished migration of a tenant, if there is one.
pub fn get(catalog: &Catalog, tenant: Uuid) -> Result<Option<Unfinished>> {
    let rows = query(
        catalog.scope(),
        "SELECT version, statements, statements_done, sqlstate IS NULL
         FROM fluxbase_tenant.unfinished_migrations WHERE tenant_id = $1",
        &[tenant.into()],
        |row| {
            Ok(Unfinished {
                version: row.need(1)?,
                statements: row.need(2)?,
                statements_done: row.need(3)?,
                interrupted: row.need(4)?,
            })
        },
    )?;
    Ok(rows.into_iter().next())
}

/// Records the start of an attempt. It keeps the progress of an earlier attempt at the same script. Raises conflict if
/// the migration is no longer registered.
pub fn begin(catalog: &Catalog, tenant: Uuid, migration: &Migration, statements: i32) -> Result<()> {
    let begun = query(
        catalog.scope(),
        "INSERT INTO fluxbase_tenant.unfinished_migrations AS u (tenant_id, version, checksum, statements)
         SELECT $1, m.version, $3, $4 FROM fluxbase_tenant.migrations m WHERE m.version = $2 FOR KEY SHARE
         ON CONFLICT (tenant_id) DO UPDATE SET version = excluded.version, checksum = excluded.checksum,
             statements = excluded.statements, sqlstate = NULL, error = NULL, updated_at = now(),
             statements_done = CASE WHEN (u.version, u.checksum) = (excluded.version, excluded.checksum)
                                    THEN u.statements_done ELSE 0 END RETURNING 1",
        &[tenant.into(), migration.version.as_str().into(), migration.checksum.as_str().into(), statements.into()],
        |_| Ok(()),
    )?;
    if begun.is_empty() { Err(migrations::removed(&migration.version)) } else { Ok(()) }
}

/// Records how many statements are done.
pub fn advance(catalog: &Catalog, tenant: Uuid, statements_done: i32) -> Result<()> {
    query(
        catalog.scope(),
        "UPDATE fluxbase_tenant.unfinished_migrations SET statements_done = $2, updated_at = now() WHERE tenant_id = $1",
        &[tenant.into(), statements_done.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Records a failure. `sqlstate` is `None` if it remains uncertain whether an earlier attempt executed the statement.
pub fn fail(catalog: &Catalog, tenant: Uuid, sqlstate: Option<&str>, error: &str) -> Result<()> {
    query(
        catalog.scope(),
        "UPDATE fluxbase_tenant.unfinished_migrations SET sqlstate = $2, error = $3, updated_at = now()
         WHERE tenant_id = $1",
        &[tenant.into(), sqlstate.into(), error.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Deletes the record of a tenant whose migration is complete.
pub fn end(catalog: &Catalog, tenant: Uuid) -> Result<()> {
    query(
        catalog.scope(),
        "DELETE FROM fluxbase_tenant.unfinished_migrations WHERE tenant_id = $1",
        &[tenant.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Deletes the records of a migration for all tenants. Returns how many tenants had one.
pub fn forget(catalog: &Catalog, version: &str) -> Result<usize> {
    let rows = query(
        catalog.scope(),
        "DELETE FROM fluxbase_tenant.unfinished_migrations WHERE version = $1 RETURNING 1",
        &[version.into()],
        |_| Ok(()),
    )?;
    Ok(rows.len())
}

/// Returns the tenants that have started the migration and not completed it.
pub fn tenants_with(catalog: &Catalog, version: &str) -> Result<Vec<Uuid>> {
    query(
        catalog.scope(),
        "SELECT tenant_id FROM fluxbase_tenant.unfinished_migrations WHERE version = $1 ORDER BY tenant_id",
        &[version.into()],
        |row| row.need(1),
    )
}

pub struct InvalidIndex {
    pub index: QualifiedName,
    pub table: QualifiedName,
}

/// Returns the invalid indexes in the schema: those that an interrupted CREATE INDEX CONCURRENTLY or REINDEX
/// CONCURRENTLY left behind, and those that are still being built.
pub fn invalid_indexes(catalog: &Catalog, schema: &str) -> Result<Vec<InvalidIndex>> {
    query(
        catalog.scope(),
        "SELECT format('%I.%I', n.nspname, c.relname),
                (SELECT format('%I.%I', n.nspname, t.relname) FROM pg_class t WHERE t.oid = i.indrelid)
         FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind = 'i'
         JOIN pg_index i ON i.indexrelid = c.oid WHERE n.nspname = $1::text::name AND NOT i.indisvalid",
        &[schema.into()],
        |row| Ok(InvalidIndex { index: row.need(1)?, table: row.need(2)? }),
    )
}
