//! The rows of table `tenants` that are spare tenants: created in advance, so that `tenant_create()` only has to rename
//! one.

use pgrx::Uuid;

use super::tenants::{NewTenant, Tenant, columns, tenant};
use super::{Catalog, changes};
use crate::error::Result;
use crate::pg::query;

/// Whether the owner role of the spare `t` owns the schema and its relations, and the users' grants exist. A restore
/// without owners or privileges loses them.
macro_rules! is_whole {
    () => {
        "EXISTS (
             SELECT 1 FROM pg_namespace n
             JOIN pg_roles r ON r.rolname = ('fluxbase_tenant_' || replace(t.id::text, '-', ''))::name AND r.oid = n.nspowner
             WHERE n.nspname = t.schema_name AND has_schema_privilege('fluxbase_tenant_user', n.oid, 'USAGE')
               AND NOT EXISTS (
                   SELECT 1 FROM pg_depend d JOIN pg_class c ON c.oid = d.objid
                   WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.classid = 'pg_class'::regclass
                     AND (c.relowner <> r.oid
                          OR (c.relkind IN ('r', 'p', 'v') AND NOT has_table_privilege('fluxbase_tenant_user', c.oid, 'SELECT')))))"
    };
}

/// Locks and returns a spare tenant that is not whole and that no other transaction has locked.
pub fn take_broken(catalog: &Catalog) -> Result<Option<Tenant>> {
    query(
        catalog.scope(),
        concat!(
            "SELECT ",
            columns!(),
            " FROM fluxbase_tenant.tenants t WHERE t.spare AND NOT ",
            is_whole!(),
            " LIMIT 1 FOR NO KEY UPDATE OF t SKIP LOCKED"
        ),
        &[],
        tenant,
    )
    .map(|rows| rows.into_iter().next())
}

/// Locks and returns a spare tenant that is whole and that no other transaction has locked. Prefers one without pending
/// migrations.
pub fn take(catalog: &Catalog) -> Result<Option<Tenant>> {
    query(
        catalog.scope(),
        concat!(
            "SELECT ",
            columns!(),
            " FROM fluxbase_tenant.tenants t WHERE t.spare AND ",
            is_whole!(),
            " ORDER BY t.applied DESC, t.id LIMIT 1 FOR NO KEY UPDATE OF t SKIP LOCKED"
        ),
        &[],
        tenant,
    )
    .map(|rows| rows.into_iter().next())
}

/// Locks and returns a spare tenant that has pending migrations and that no other transaction has locked.
pub fn take_stale(catalog: &Catalog) -> Result<Option<Tenant>> {
    query(
        catalog.scope(),
        concat!(
            "SELECT ",
            columns!(),
            " FROM fluxbase_tenant.tenants t
             WHERE t.spare AND t.applied < (SELECT sum(revision) FROM fluxbase_tenant.migrations) LIMIT 1
             FOR NO KEY UPDATE SKIP LOCKED"
        ),
        &[],
        tenant,
    )
    .map(|rows| rows.into_iter().next())
}

/// Returns the number of spare tenants.
pub fn count(catalog: &Catalog) -> Result<i64> {
    let counts =
        query(catalog.scope(), "SELECT count(*) FROM fluxbase_tenant.tenants WHERE spare", &[], |row| row.need(1))?;
    Ok(counts.into_iter().next().unwrap_or(0))
}

/// Marks a tenant as spare or as a regular tenant.
pub fn set_spare(catalog: &Catalog, id: Uuid, spare: bool) -> Result<()> {
    changes::announce();
    query(
        catalog.scope(),
        "UPDATE fluxbase_tenant.tenants SET spare = $2 WHERE id = $1 AND spare <> $2",
        &[id.into(), spare.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Turns a spare tenant into a regular one with the name, slug, schema name and metadata of `new`. Returns `None` if
/// the row is not a spare tenant.
pub fn become_tenant(catalog: &Catalog, new: &NewTenant) -> Result<Option<Tenant>> {
    changes::announce();
    query(
        catalog.scope(),
        concat!(
            "UPDATE fluxbase_tenant.tenants t SET spare = false, slug = $2, name = $3, schema_name = $4::text::name,
                 metadata = coalesce($5, '{}'), created_at = now(), updated_at = now()
             WHERE t.id = $1 AND t.spare RETURNING ",
            columns!()
        ),
        &[new.id.into(), new.slug.into(), new.name.into(), new.schema_name.into(), new.metadata.clone().into()],
        tenant,
    )
    .map(|rows| rows.into_iter().next())
}

/// Returns the spare tenants that have applied the version.
pub fn with_migration(catalog: &Catalog, version: &str) -> Result<Vec<Uuid>> {
    query(
        catalog.scope(),
        "SELECT t.id FROM fluxbase_tenant.tenants t JOIN fluxbase_tenant.applied_migrations a ON a.tenant_id = t.id
         WHERE t.spare AND a.version = $1",
        &[version.into()],
        |row| row.need(1),
    )
}
