//! Table `members`: which user has which role in which tenant.

use pgrx::Uuid;
use pgrx::datum::TimestampWithTimeZone;

use super::{Catalog, changes};
use crate::error::Result;
use crate::model::Role;
use crate::model::ids;
use crate::pg::scan::{self, Index, Key};
use crate::pg::{Row, query};

/// The membership of a user in a tenant, as the SQL functions return it.
pub struct Member {
    pub id: Uuid,
    pub tenant_id: Uuid,
    pub user_id: Uuid,
    /// Reserved for a user directory. There is none yet, so this is always `None`.
    pub email: Option<String>,
    pub role: Role,
    pub assigned_by: Option<Uuid>,
    pub created_at: TimestampWithTimeZone,
}

macro_rules! columns {
    () => {
        "m.id, m.tenant_id, m.user_id, NULL::text, m.role, m.assigned_by, m.created_at"
    };
}

fn member(row: &Row) -> Result<Member> {
    Ok(Member {
        id: row.need(1)?,
        tenant_id: row.need(2)?,
        user_id: row.need(3)?,
        email: row.get(4),
        role: Role::parse(&row.need::<String>(5)?)?,
        assigned_by: row.get(6),
        created_at: row.need(7)?,
    })
}

fn only(rows: Vec<Member>) -> Option<Member> {
    rows.into_iter().next()
}

const BY_TENANT_AND_USER: Index =
    Index { schema: c"fluxbase_tenant", table: c"members", index: c"members_tenant_user_key" };

/// Returns the role of a user in a tenant, as committed now. Runs no SQL.
pub fn role(tenant: Uuid, user: Uuid) -> Result<Option<Role>> {
    let keys = [Key::uuid(2, tenant)?, Key::uuid(3, user)?];
    scan::committed(&BY_TENANT_AND_USER, &keys, |row| Role::parse(&row.need::<String>(4)?))
}

/// Returns the membership of a user in a tenant, if there is one.
pub fn get(catalog: &Catalog, tenant: Uuid, user: Uuid) -> Result<Option<Member>> {
    query(
        catalog.scope(),
        concat!("SELECT ", columns!(), " FROM fluxbase_tenant.members m WHERE m.tenant_id = $1 AND m.user_id = $2"),
        &[tenant.into(), user.into()],
        member,
    )
    .map(only)
}

/// Returns the memberships of a tenant, oldest first. If `role` is set, returns only those with that role.
pub fn list(catalog: &Catalog, tenant: Uuid, role: Option<Role>) -> Result<Vec<Member>> {
    query(
        catalog.scope(),
        concat!(
            "SELECT ",
            columns!(),
            " FROM fluxbase_tenant.members m WHERE m.tenant_id = $1 AND ($2 IS NULL OR m.role = $2)
             ORDER BY m.created_at, m.id"
        ),
        &[tenant.into(), role.map(Role::as_str).into()],
        member,
    )
}

/// Adds the user or changes the role. If the user already has the role, the membership stays unchanged.
pub fn assign(
    catalog: &Catalog,
    tenant: Uuid,
    user: Uuid,
    role: Role,
    assigned_by: Option<Uuid>,
) -> Result<Option<Member>> {
    changes::announce();
    query(
        catalog.scope(),
        concat!(
            "INSERT INTO fluxbase_tenant.members AS m (id, tenant_id, user_id, role, assigned_by)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT ON CONSTRAINT members_tenant_user_key DO UPDATE SET role = excluded.role,
             assigned_by = CASE WHEN m.role = excluded.role THEN m.assigned_by ELSE excluded.assigned_by END
             RETURNING ",
            columns!()
        ),
        &[ids::new().into(), tenant.into(), user.into(), role.as_str().into(), assigned_by.into()],
        member,
    )
    .map(only)
}

/// Deletes a membership and returns it, or `None` if there was none.
pub fn remove(catalog: &Catalog, tenant: Uuid, user: Uuid) -> Result<Option<Member>> {
    changes::announce();
    query(
        catalog.scope(),
        concat!(
            "DELETE FROM fluxbase_tenant.members m WHERE m.tenant_id = $1 AND m.user_id = $2 RETURNING ",
            columns!()
        ),
        &[tenant.into(), user.into()],
        member,
    )
    .map(only)
}

/// Locks the rows of the tenant's admins and returns their number. It counts the locked rows, because a count of
/// visible rows in a REPEATABLE READ transaction could include an admin who has been removed since. The lock raises a
/// serialization failure instead.
pub fn lock_admins(catalog: &Catalog, tenant: Uuid) -> Result<usize> {
    let admins = query(
        catalog.scope(),
        "SELECT user_id FROM fluxbase_tenant.members WHERE tenant_id = $1 AND role = 'tenant_admin'
         ORDER BY id FOR UPDATE",
        &[tenant.into()],
        |_| Ok(()),
    )?;
    Ok(admins.len())
}
