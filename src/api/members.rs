//! Members and admins of tenants.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use super::required;
use super::rows::returns_members;
use crate::access::{See, authorize, authorize_user};
use crate::catalog::{self, Catalog};
use crate::model::Role;
use crate::people::members;

returns_members! {
    /// Makes a user tenant admin. Returns the existing row if the user is one already.
    #[pg_extern(sql = false)]
    fn tenant_assign_admin(tenant_id: Option<Uuid>, user_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let (tenant_id, user_id) = (required("tenant_id", tenant_id)?, required("user_id", user_id)?);
        let permit = authorize(&catalog, Some(tenant_id), "assign an admin")?;
        members::promote(&catalog, &permit, user_id).map(Some)
    }

    /// Ends the membership of a tenant admin.
    #[pg_extern(sql = false)]
    fn tenant_remove_admin(tenant_id: Option<Uuid>, user_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let (tenant_id, user_id) = (required("tenant_id", tenant_id)?, required("user_id", user_id)?);
        let permit = authorize(&catalog, Some(tenant_id), "remove an admin")?;
        members::remove(&catalog, &permit, user_id, Some(Role::Admin)).map(Some)
    }

    /// Returns the tenant's admins, oldest membership first.
    #[pg_extern(sql = false)]
    fn tenant_list_admins(tenant_id: Option<Uuid>) {
        let catalog = Catalog::read()?;
        let permit = authorize::<See>(&catalog, tenant_id, "list the tenant's admins")?;
        catalog::members::list(&catalog, permit.tenant().id, Some(Role::Admin))
    }

    /// Adds a user to a tenant, or changes the role of a member.
    #[pg_extern(sql = false)]
    fn tenant_add_member(
        tenant_id: Option<Uuid>,
        user_id: Option<Uuid>,
        role: Option<String>
    ) {
        let catalog = Catalog::write()?;
        let (tenant_id, user_id) = (required("tenant_id", tenant_id)?, required("user_id", user_id)?);
        let role = required("role", role)?;
        let permit = authorize(&catalog, Some(tenant_id), "add a member")?;
        members::add(&catalog, &permit, user_id, &role).map(Some)
    }

    /// Ends a user's membership, whatever the user's role is.
    #[pg_extern(sql = false)]
    fn tenant_remove_member(tenant_id: Option<Uuid>, user_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let (tenant_id, user_id) = (required("tenant_id", tenant_id)?, required("user_id", user_id)?);
        let permit = authorize(&catalog, Some(tenant_id), "remove a member")?;
        members::remove(&catalog, &permit, user_id, None).map(Some)
    }

    /// Returns all members, oldest membership first.
    #[pg_extern(sql = false)]
    fn tenant_list_members(tenant_id: Option<Uuid>) {
        let catalog = Catalog::read()?;
        let permit = authorize::<See>(&catalog, tenant_id, "list the tenant's members")?;
        catalog::members::list(&catalog, permit.tenant().id, None)
    }

    /// Ends the current user's membership.
    #[pg_extern(sql = false)]
    fn tenant_leave(tenant_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let user = authorize_user(&catalog)?;
        let permit = authorize(&catalog, tenant_id, "leave this tenant")?;
        members::leave(&catalog, &permit, &user).map(Some)
    }
}
