//! Table `removals`: what a background worker must still remove of deleted tenants.

use pgrx::{Uuid, pg_sys};

use super::Catalog;
use crate::error::Result;
use crate::pg::{any_row, query};

/// The time at which the next attempt is due. After a failed attempt, it is 2 s, 4 s, 8 s and so on later, up to 68
/// minutes.
macro_rules! due_at {
    () => {
        "coalesce(r.tried_at + make_interval(secs => power(2, least(r.attempts, 12))), '-infinity')"
    };
}

/// What must be removed: a deleted tenant's rows in one shared table or, without a table, its owner role and what is
/// left of its schema.
pub struct Removal {
    pub tenant_id: Uuid,
    pub table: Option<pg_sys::Oid>,
}

/// Adds a removal. Does nothing if it already exists.
pub fn request(catalog: &Catalog, tenant: Uuid, table: Option<pg_sys::Oid>) -> Result<()> {
    query(
        catalog.scope(),
        "INSERT INTO fluxbase_tenant.removals (tenant_id, relation) VALUES ($1, $2::oid::fluxbase_tenant.relation) ON CONFLICT DO NOTHING",
        &[tenant.into(), table.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Reports whether any removal exists.
pub fn any(catalog: &Catalog) -> Result<bool> {
    any_row(catalog.scope(), "SELECT 1 FROM fluxbase_tenant.removals LIMIT 1", &[])
}

/// Reports whether any removal of the tenant exists.
pub fn any_of(catalog: &Catalog, tenant: Uuid) -> Result<bool> {
    any_row(catalog.scope(), "SELECT 1 FROM fluxbase_tenant.removals WHERE tenant_id = $1 LIMIT 1", &[tenant.into()])
}

/// Returns a removal that is due, and records an attempt at it. It picks the removal with the fewest attempts, so that
/// one that never succeeds does not hold up the others.
pub fn next(catalog: &Catalog) -> Result<Option<Removal>> {
    // A relation of 0 is a table that did not exist when a dump was restored, so there is nothing to remove.
    query(catalog.scope(), "DELETE FROM fluxbase_tenant.removals WHERE relation::oid = 0", &[], |_| Ok(()))?;
    let due = query(
        catalog.scope(),
        concat!(
            "UPDATE fluxbase_tenant.removals SET attempts = attempts + 1, tried_at = clock_timestamp(),
                 error = 'the attempt did not end'
             WHERE ctid = (SELECT r.ctid FROM fluxbase_tenant.removals r WHERE ",
            due_at!(),
            " <= clock_timestamp() ORDER BY r.attempts, r.requested_at LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING tenant_id, relation::oid"
        ),
        &[],
        |row| Ok(Removal { tenant_id: row.need(1)?, table: row.get(2) }),
    )?;
    Ok(due.into_iter().next())
}

/// Reports whether an attempt is due within a minute.
pub fn is_due_soon(catalog: &Catalog) -> Result<bool> {
    any_row(
        catalog.scope(),
        concat!(
            "SELECT 1 FROM fluxbase_tenant.removals r WHERE ",
            due_at!(),
            " <= clock_timestamp() + interval '1 minute' LIMIT 1"
        ),
        &[],
    )
}

/// Deletes a removal that is complete.
pub fn done(catalog: &Catalog, removal: &Removal) -> Result<()> {
    query(
        catalog.scope(),
        "DELETE FROM fluxbase_tenant.removals
         WHERE tenant_id = $1 AND relation::oid IS NOT DISTINCT FROM $2::oid",
        &[removal.tenant_id.into(), removal.table.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Records why an attempt failed. The text is truncated to 1000 characters, because code of the table's owner may have
/// produced it.
pub fn failed(catalog: &Catalog, removal: &Removal, error: &str) -> Result<()> {
    query(
        catalog.scope(),
        "UPDATE fluxbase_tenant.removals SET error = left($3, 1000)
         WHERE tenant_id = $1 AND relation::oid IS NOT DISTINCT FROM $2::oid",
        &[removal.tenant_id.into(), removal.table.into(), error.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Deletes the removals of a table that is no longer a shared table.
pub fn forget(catalog: &Catalog, table: pg_sys::Oid) -> Result<()> {
    query(
        catalog.scope(),
        "DELETE FROM fluxbase_tenant.removals WHERE relation::oid = $1::oid",
        &[table.into()],
        |_| Ok(()),
    )?;
    Ok(())
}
