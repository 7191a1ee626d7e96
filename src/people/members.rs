//! Members of a tenant. Each change is made under the lock on the tenant's row, and a tenant always keeps an admin.

use pgrx::Uuid;

use crate::access::{Leave, Manage, Permit, UserPermit};
use crate::catalog::Catalog;
use crate::catalog::members::{self, Member};
use crate::error::{Error, Result};
use crate::model::Role;

/// Makes a user tenant admin.
pub fn promote(catalog: &Catalog, permit: &Permit<Manage>, user_id: Uuid) -> Result<Member> {
    assign(catalog, permit, user_id, Role::Admin)
}

/// Adds a member or changes a member's role. Raises conflict if that would demote the last admin.
pub fn add(catalog: &Catalog, permit: &Permit<Manage>, user_id: Uuid, role: &str) -> Result<Member> {
    let role = Role::parse(role)?;
    if role > permit.role() {
        return Err(Error::forbidden("grant a role above your own", "Ask a tenant_admin of the tenant."));
    }
    if role < Role::Admin {
        refuse_last_admin(catalog, permit.tenant().id, user_id)?;
    }
    assign(catalog, permit, user_id, role)
}

/// Removes a member. With `role`, raises not_found if the member has another role.
pub fn remove(catalog: &Catalog, permit: &Permit<Manage>, user_id: Uuid, role: Option<Role>) -> Result<Member> {
    let tenant_id = permit.tenant().id;
    let what = if role == Some(Role::Admin) { "admin" } else { "member" };
    match members::get(catalog, tenant_id, user_id)? {
        Some(member) if role.is_none_or(|role| role == member.role) => {}
        _ => return Err(Error::NotFound { what }),
    }
    end_membership(catalog, tenant_id, user_id, what)
}

/// Removes the current user from the tenant.
pub fn leave(catalog: &Catalog, permit: &Permit<Leave>, user: &UserPermit) -> Result<Member> {
    end_membership(catalog, permit.tenant().id, user.user(), "member")
}

fn assign(catalog: &Catalog, permit: &Permit<Manage>, user_id: Uuid, role: Role) -> Result<Member> {
    members::assign(catalog, permit.tenant().id, user_id, role, permit.caller().user())?
        .ok_or_else(|| Error::internal("adding a member returned no row"))
}

fn end_membership(catalog: &Catalog, tenant_id: Uuid, user_id: Uuid, what: &'static str) -> Result<Member> {
    refuse_last_admin(catalog, tenant_id, user_id)?;
    members::remove(catalog, tenant_id, user_id)?.ok_or(Error::NotFound { what })
}

/// Raises conflict if the user is the tenant's last admin.
fn refuse_last_admin(catalog: &Catalog, tenant_id: Uuid, user_id: Uuid) -> Result<()> {
    let admins = members::lock_admins(catalog, tenant_id)?;
    let is_admin = members::get(catalog, tenant_id, user_id)?.is_some_and(|member| member.role == Role::Admin);
    if is_admin && admins <= 1 {
        return Err(Error::conflict(
            "cannot remove the last admin of a tenant",
            "Assign another admin first with tenant_assign_admin().",
        ));
    }
    Ok(())
}
