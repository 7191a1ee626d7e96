//! Table `instance_admins`: the users who are instance admins.

use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;

use super::{Catalog, changes};
use crate::error::Result;
use crate::pg::scan::{self, Index, Key};
use crate::pg::{Row, query};

pub struct InstanceAdmin {
    pub user_id: Uuid,
    pub granted_by: Option<Uuid>,
    pub created_at: TimestampWithTimeZone,
}

fn instance_admin(row: &Row) -> Result<InstanceAdmin> {
    Ok(InstanceAdmin { user_id: row.need(1)?, granted_by: row.get(2), created_at: row.need(3)? })
}

const BY_USER: Index = Index { schema: c"fluxbase_tenant", table: c"instance_admins", index: c"instance_admins_pkey" };

/// Reports whether the user is an instance admin, as committed now. Runs no SQL.
pub fn contains(user: Uuid) -> Result<bool> {
    Ok(scan::committed(&BY_USER, &[Key::uuid(1, user)?], |_| Ok(()))?.is_some())
}

/// Returns all instance admins, oldest first.
pub fn list(catalog: &Catalog) -> Result<Vec<InstanceAdmin>> {
    query(
        catalog.scope(),
        "SELECT user_id, granted_by, created_at FROM fluxbase_tenant.instance_admins ORDER BY created_at, user_id",
        &[],
        instance_admin,
    )
}

/// Adds the user and returns the row. If the user already is an instance admin, returns the existing row unchanged.
pub fn grant(catalog: &Catalog, user: Uuid, granted_by: Option<Uuid>) -> Result<Option<InstanceAdmin>> {
    changes::announce();
    query(
        catalog.scope(),
        "INSERT INTO fluxbase_tenant.instance_admins (user_id, granted_by) VALUES ($1, $2)
         ON CONFLICT (user_id) DO UPDATE SET granted_by = fluxbase_tenant.instance_admins.granted_by
         RETURNING user_id, granted_by, created_at",
        &[user.into(), granted_by.into()],
        instance_admin,
    )
    .map(|rows| rows.into_iter().next())
}

/// Deletes the user's row and returns it, or `None` if the user was not an instance admin.
pub fn revoke(catalog: &Catalog, user: Uuid) -> Result<Option<InstanceAdmin>> {
    changes::announce();
    query(
        catalog.scope(),
        "DELETE FROM fluxbase_tenant.instance_admins WHERE user_id = $1 RETURNING user_id, granted_by, created_at",
        &[user.into()],
        instance_admin,
    )
    .map(|rows| rows.into_iter().next())
}
