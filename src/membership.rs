//! Who belongs to a tenant: each change authorized, then made under the tenant's lock, and never without an admin left.

use pgrx::Uuid;

use crate::access::{Access, Need, Role, authorize, require_user};
use crate::catalog::Catalog;
use crate::catalog::members::{self, Assignment};
use crate::error::{Error, Result};

pub fn promote(catalog: &Catalog, tenant_id: Uuid, user_id: Uuid) -> Result<Assignment> {
    let access = authorize(catalog, Need::Manage, Some(tenant_id), "assign an admin")?;
    assign(catalog, &access, user_id, Role::Admin)
}

/// Also the way to change a role; the last admin stays one.
pub fn add(catalog: &Catalog, tenant_id: Uuid, user_id: Uuid, role: &str) -> Result<Assignment> {
    let access = authorize(catalog, Need::Manage, Some(tenant_id), "add a member")?;
    let role = Role::parse(role)?;
    if role > access.role {
        return Err(Error::forbidden("grant a role above the own", "Ask a tenant_admin of the tenant."));
    }
    if role < Role::Admin {
        keep_an_admin(catalog, tenant_id, user_id)?;
    }
    assign(catalog, &access, user_id, role)
}

/// Only from `role`, where one is given.
pub fn remove(catalog: &Catalog, tenant_id: Uuid, user_id: Uuid, role: Option<Role>) -> Result<Assignment> {
    let action = if role == Some(Role::Admin) { "remove an admin" } else { "remove a member" };
    authorize(catalog, Need::Manage, Some(tenant_id), action)?;
    let what = if role == Some(Role::Admin) { "admin" } else { "member" };
    match members::get(catalog, tenant_id, user_id)? {
        Some(member) if role.is_none_or(|role| role == member.role) => {}
        _ => return Err(Error::NotFound { what }),
    }
    end(catalog, tenant_id, user_id, what)
}

pub fn leave(catalog: &Catalog, tenant_id: Option<Uuid>) -> Result<Assignment> {
    let user_id = require_user(catalog)?;
    let access = authorize(catalog, Need::Leave, tenant_id, "leave this tenant")?;
    end(catalog, access.tenant.id, user_id, "member")
}

fn assign(catalog: &Catalog, access: &Access, user_id: Uuid, role: Role) -> Result<Assignment> {
    members::assign(catalog, access.tenant.id, user_id, role, access.caller.user())?
        .ok_or_else(|| Error::internal("an assignment returned no row"))
}

fn end(catalog: &Catalog, tenant_id: Uuid, user_id: Uuid, what: &'static str) -> Result<Assignment> {
    keep_an_admin(catalog, tenant_id, user_id)?;
    members::remove(catalog, tenant_id, user_id)?.ok_or(Error::NotFound { what })
}

/// Refuses if the user is the tenant's last admin.
fn keep_an_admin(catalog: &Catalog, tenant_id: Uuid, user_id: Uuid) -> Result<()> {
    let admins = members::lock_admins(catalog, tenant_id)?;
    let is_admin = members::get(catalog, tenant_id, user_id)?.is_some_and(|member| member.role == Role::Admin);
    if is_admin && admins <= 1 {
        return Err(Error::conflict(
            "the last admin of a tenant must stay",
            "Assign another admin first, with tenant_assign_admin().",
        ));
    }
    Ok(())
}
