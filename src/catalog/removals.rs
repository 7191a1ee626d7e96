//! Table `removals`: what is left to remove of tenants that were deleted.

use pgrx::{Uuid, pg_sys};

use super::Catalog;
use crate::error::Result;
use crate::pg::{any_row, query};

/// When the next attempt is due, after one that failed: 2 s, 4 s, 8 s, and so on up to 68 minutes.
macro_rules! due_at {
    () => {
        "coalesce(r.tried_at + make_interval(secs => power(2, least(r.attempts, 12))), '-infinity')"
    };
}

pub struct Removal {
    pub tenant_id: Uuid,
    /// `None`: the owner role.
    pub table: Option<pg_sys::Oid>,
}

pub fn request(catalog: &Catalog, tenant: Uuid, table: Option<pg_sys::Oid>) -> Result<()> {
    query(
        catalog.scope(),
        "INSERT INTO fluxbase_tenant.removals (tenant_id, relation) VALUES ($1, $2::oid::fluxbase_tenant.relation) ON CONFLICT DO NOTHING",
        &[tenant.into(), table.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

pub fn any(catalog: &Catalog) -> Result<bool> {
    any_row(catalog.scope(), "SELECT 1 FROM fluxbase_tenant.removals LIMIT 1", &[])
}

pub fn any_of(catalog: &Catalog, tenant: Uuid) -> Result<bool> {
    any_row(catalog.scope(), "SELECT 1 FROM fluxbase_tenant.removals WHERE tenant_id = $1 LIMIT 1", &[tenant.into()])
}

/// What is due, marked as tried; what was tried least often goes first, so that nothing that never ends holds others up.
pub fn next(catalog: &Catalog) -> Result<Option<Removal>> {
    // Of tables that a restored dump did not have, there is nothing to remove.
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

/// Whether an attempt is due within a minute.
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

/// Of a text that somebody's code chose, the beginning.
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

/// Those of one table, which is shared no longer.
pub fn forget(catalog: &Catalog, table: pg_sys::Oid) -> Result<()> {
    query(
        catalog.scope(),
        "DELETE FROM fluxbase_tenant.removals WHERE relation::oid = $1::oid",
        &[table.into()],
        |_| Ok(()),
    )?;
    Ok(())
}
