//! The rules of authorization: which functions a caller may call for a tenant, and whether the tenant is accessible.
//! Who the caller is, `caller` decides; which relations and functions of PostgreSQL the caller may use,
//! `isolation::check` decides.
//!
//! | caller | sees a tenant | changes it | can access its data | may call functions for all tenants |
//! | --- | --- | --- | --- | --- |
//! | instance admin | any, even if deleted | yes | yes | yes |
//! | user | as a member, unless it is deleted | as a tenant admin, unless it is suspended | as a member, if it is active | only tenant_create(), depending on the create policy |
//! | service context | its own, unless it is deleted | its own, unless it is suspended | its own, if it is active | no |
//! | anonymous caller | no | no | no | no |
//!
//! Exceptions: a tenant admin may soft-delete a suspended tenant, and repeat the call. A member may leave a suspended
//! tenant.

use std::rc::Rc;

use pgrx::{Uuid, pg_sys};

use super::caller::{self, Caller};
use super::permit::{CreatePermit, InstancePermit, Need, Permission, Permit, See, UserPermit};
use super::sandbox_identity::{is_sandbox_of, is_sandboxed};
use super::{cache, owner_roles, security_definers};
use crate::catalog::tenants::Tenant;
use crate::catalog::{Catalog, members, tenants};
use crate::error::{Error, Result};
use crate::model::{Role, Standing, Status};
use crate::pg::{roles, security_context};
use crate::settings::{self, CreatePolicy, DefaultTenant};

/// Authorizes an operation on a tenant. Every function that acts on one tenant calls this first. `None` means the
/// current tenant. Raises not_found if the caller may not see the tenant, as for an unknown id.
pub fn authorize<P: Permission>(catalog: &Catalog, tenant_id: Option<Uuid>, action: &str) -> Result<Permit<P>> {
    let caller = Caller::current(catalog)?;
    if caller == Caller::Anonymous {
        return Err(Error::Unauthenticated);
    }
    let tenant_id = match tenant_id {
        Some(id) => id,
        // A destructive operation requires a tenant that was chosen explicitly. The user's oldest membership is not
        // used as the default.
        None if matches!(P::NEED, Need::SoftDelete | Need::Leave) => chosen_tenant_id()?,
        None => current_tenant_id(catalog, caller)?.ok_or_else(no_current_tenant)?,
    };
    if !may_know_of(caller, tenant_id)? {
        return Err(Error::tenant_not_found());
    }
    let permit = decide(catalog, caller, tenants::by_id(catalog, tenant_id)?, action)?;
    if P::NEED == Need::See {
        return Ok(permit);
    }
    // Lock only a tenant that the caller may change, so that other callers can neither hold the lock nor wait for it.
    // Then decide again, because the answer may have changed during the wait.
    decide(catalog, caller, tenants::lock(catalog, tenant_id)?, action)
}

/// Reports whether the caller may know about the tenant if it exists. Does not read the tenant's row, so that the time
/// this takes does not reveal whether the tenant exists.
fn may_know_of(caller: Caller, tenant_id: Uuid) -> Result<bool> {
    Ok(match caller {
        Caller::InstanceAdmin { .. } => true,
        Caller::User(user) => members::role(tenant_id, user)?.is_some(),
        Caller::Service(id) => id == tenant_id,
        Caller::Anonymous => false,
    })
}

/// Checks whether the caller may do `P` with this tenant, whose row is `None` if it does not exist.
fn decide<P: Permission>(catalog: &Catalog, caller: Caller, tenant: Option<Tenant>, action: &str) -> Result<Permit<P>> {
    let need = P::NEED;
    let is_known =
        |tenant: &Tenant| tenant.status != Status::Spare || (need == Need::Repair && is_instance_admin(caller));
    let tenant = tenant.filter(is_known).ok_or_else(Error::tenant_not_found)?;
    let role = role_in(catalog, caller, need, &tenant)?.ok_or_else(Error::tenant_not_found)?;
    if tenant.status == Status::Deleted && !is_instance_admin(caller) {
        let repeated = need == Need::SoftDelete && role == Role::Admin;
        return if repeated { Ok(Permit::new(caller, tenant, role)) } else { Err(Error::tenant_not_found()) };
    }
    let allowed = match need {
        Need::See | Need::Leave => true,
        Need::Manage | Need::SoftDelete => role == Role::Admin,
        Need::Instance | Need::Repair => is_instance_admin(caller),
    };
    if !allowed {
        let whom = if matches!(need, Need::Instance | Need::Repair) {
            "an instance admin"
        } else {
            "a tenant_admin of the tenant"
        };
        return Err(Error::forbidden(action, format!("Ask {whom}.")));
    }
    if need == Need::Manage {
        require_usable_status(caller, &tenant)?;
    }
    Ok(Permit::new(caller, tenant, role))
}

/// Authorizes an operation on the whole instance.
pub fn authorize_instance(catalog: &Catalog, action: &str) -> Result<InstancePermit> {
    match Caller::current(catalog)? {
        caller @ Caller::InstanceAdmin { .. } => Ok(InstancePermit::new(caller)),
        Caller::Anonymous => Err(Error::Unauthenticated),
        Caller::User(_) | Caller::Service(_) => Err(Error::forbidden(action, "Ask an instance admin.")),
    }
}

/// Authorizes `tenant_create`. A user who is not an instance admin can create a tenant only for themselves and cannot
/// choose its id, because an error would reveal that the id is in use.
pub fn authorize_create(catalog: &Catalog, id: Option<Uuid>, admin_user_id: Option<Uuid>) -> Result<CreatePermit> {
    let caller = Caller::current(catalog)?;
    match caller {
        Caller::Anonymous => Err(Error::Unauthenticated),
        Caller::InstanceAdmin { .. } => Ok(CreatePermit::new(caller, id, admin_user_id)),
        Caller::User(user) if settings::create_policy() == CreatePolicy::Authenticated => {
            if id.is_some() {
                return Err(Error::forbidden("choose the id of a new tenant", "Omit id."));
            }
            if admin_user_id.is_some_and(|admin| admin != user) {
                return Err(Error::forbidden(
                    "create a tenant for another user",
                    "Omit admin_user_id, then add the user with tenant_assign_admin().",
                ));
            }
            Ok(CreatePermit::new(caller, id, admin_user_id))
        }
        Caller::User(_) | Caller::Service(_) => Err(Error::forbidden(
            "create a tenant",
            "Ask an instance admin to create it, or to set fluxbase_tenant.create_policy to authenticated.",
        )),
    }
}

/// Requires the privilege to read the server's files, as PostgreSQL's own functions do. The privilege belongs to the
/// database role, so the current user does not matter.
pub fn require_server_files(catalog: &Catalog, action: &str) -> Result<()> {
    if roles::is_member(catalog.caller_role(), c"pg_read_server_files") {
        return Ok(());
    }
    Err(Error::forbidden(action, "Ask a superuser to grant pg_read_server_files to the current database role."))
}

/// Authorizes an operation that concerns the current user. Raises unauthenticated if there is none.
pub fn authorize_user(catalog: &Catalog) -> Result<UserPermit> {
    Caller::current(catalog)?.user().map(UserPermit::new).ok_or(Error::Unauthenticated)
}

/// Returns the current tenant's row, or `None` if there is no current tenant or the caller is anonymous. Raises
/// not_found if the caller may not see it.
pub fn current_tenant(catalog: &Catalog) -> Result<Option<Tenant>> {
    let caller = Caller::current(catalog)?;
    if caller == Caller::Anonymous {
        // The session may still have a tenant that was chosen for a user.
        return Ok(None);
    }
    let Some(id) = current_tenant_id(catalog, caller)? else {
        return Ok(None);
    };
    authorize::<See>(catalog, Some(id), "see this tenant").map(|permit| Some(permit.into_tenant()))
}

/// Reports whether the caller can access the tenant's data with at least this role in it. Does not raise an error if
/// there is no identity, because policies call it. Answers come from the cache.
pub fn has_access(database_role: pg_sys::Oid, tenant_id: Uuid, role: Role) -> Result<bool> {
    has_access_as(Caller::of(database_role)?, tenant_id, role)
}

fn has_access_as(caller: Caller, tenant_id: Uuid, role: Role) -> Result<bool> {
    let is_active = |standing: &Standing| standing.status == Status::Active;
    Ok(match caller {
        // Of any status, spare tenants included, so that an instance admin can dump the whole database.
        Caller::InstanceAdmin { .. } => cache::standing(None, tenant_id)?.is_some(),
        // While an instance admin migrates a suspended tenant, the migration can access the tenant's data.
        Caller::Service(id) => {
            let is_migrating = is_sandbox_of(tenant_id);
            let is_open = |s: &Standing| is_active(s) || (is_migrating && s.status == Status::Suspended);
            id == tenant_id && cache::standing(None, tenant_id)?.as_ref().is_some_and(is_open)
        }
        Caller::User(user) => {
            cache::standing(Some(user), tenant_id)?.is_some_and(|standing| standing.gives_access(role))
        }
        Caller::Anonymous => false,
    })
}

/// Reports whether the caller can access the tenant's tables now: the caller has access, and the current tenant, if
/// there is one, is this tenant.
pub fn is_accessible(database_role: pg_sys::Oid, tenant_id: Uuid) -> Result<bool> {
    is_accessible_to_code(database_role, security_context::calling_role(), tenant_id)
}

/// Reports the same as `is_accessible`, for code that runs as the role `code`.
pub fn is_accessible_to_code(database_role: pg_sys::Oid, code: pg_sys::Oid, tenant_id: Uuid) -> Result<bool> {
    // An owner role's code can access its own tenant only, also through a view of another role.
    if !is_sandboxed()
        && code != roles::outer()
        && let Some(owned) = owner_roles::tenant_of_owner_role(code)
    {
        return Ok(owned == tenant_id && is_accessible_to_session(code, tenant_id)?);
    }
    match owner_roles::tenant_of_current(database_role) {
        None => {}
        Some(owned) if owned != tenant_id => return Ok(false),
        // The session must have access too. Other roles can make their code run as the owner role, for example through
        // a trigger that does not qualify the name of the table that it writes to.
        Some(_) => return is_accessible_to_session(database_role, tenant_id),
    }
    let now = cache::Moment::now();
    if !is_sandboxed()
        && !security_context::is_maintenance_of_others()
        && let Some(known) = cache::verdict(now, tenant_id)
    {
        return Ok(known);
    }
    if caller::tenant()?.is_some_and(|current| current != tenant_id) {
        return Ok(false);
    }
    let caller = Caller::of_code(database_role, code)?;
    let is_accessible = has_access_as(caller, tenant_id, Role::Member)?;
    if caller.is_by_own_settings() && !security_context::is_maintenance_of_others() {
        cache::keep_verdict(now, tenant_id, is_accessible);
    }
    Ok(is_accessible)
}

/// Reports whether code that runs as a tenant's owner role can access its tenant: the session can access the tenant, or
/// the session's role is the owner role itself.
pub fn is_accessible_to_session(owner_role: pg_sys::Oid, tenant_id: Uuid) -> Result<bool> {
    let session = roles::outer();
    if session == owner_role {
        return Ok(true);
    }
    if roles::bypasses_policies(session) && !is_sandboxed() {
        return Ok(security_definers::may_use_session_access(owner_role));
    }
    let caller = Caller::of_session()?;
    let chosen = caller::tenant()?;
    if chosen.is_some_and(|chosen| chosen != tenant_id) {
        return Ok(false);
    }
    // In a foreign-key action, an instance admin's session lends its access only if it works for this tenant.
    if is_instance_admin(caller) && chosen.is_none() && !is_sandboxed() && roles::are_policies_unforced() {
        return Ok(false);
    }
    has_access_as(caller, tenant_id, Role::Member)
}

/// Returns the tenants whose rows in shared tables the caller can access now.
pub fn accessible_tenant_ids(catalog: &Catalog) -> Result<Vec<Uuid>> {
    if let Some(current) = caller::tenant()? {
        let is_accessible = has_access(catalog.caller_role(), current, Role::Member)?;
        return Ok(if is_accessible { vec![current] } else { Vec::new() });
    }
    Ok(match Caller::current(catalog)? {
        Caller::InstanceAdmin { .. } => tenants::ids(catalog)?,
        Caller::User(user) => tenants::active_ids_of_user(catalog, user)?,
        // A service context always has a current tenant, so it returned above.
        Caller::Service(_) | Caller::Anonymous => Vec::new(),
    })
}

/// Returns the tenants whose data the caller can access, regardless of the current tenant, so that a stored cursor can
/// be shut when they change. Returns an empty list for an instance admin, who can access all tenants.
pub fn tenants_of(caller: Caller) -> Result<Rc<[Uuid]>> {
    match caller {
        Caller::User(user) => cache::active_tenants(user),
        Caller::Service(id) if has_access_as(caller, id, Role::Member)? => Ok([id].into()),
        Caller::Service(_) | Caller::InstanceAdmin { .. } | Caller::Anonymous => Ok([].into()),
    }
}

/// Returns the tenants whose rows in the catalog the caller may see. Not called for instance admins, who may see all
/// rows.
pub fn visible_tenant_ids(catalog: &Catalog) -> Result<Vec<Uuid>> {
    Ok(match Caller::current(catalog)? {
        Caller::User(user) => tenants::list_of_user(catalog, user)?.into_iter().map(|(tenant, _)| tenant.id).collect(),
        Caller::Service(id) => tenants::by_id(catalog, id)?
            .filter(|tenant| !matches!(tenant.status, Status::Deleted | Status::Spare))
            .map(|t| t.id)
            .into_iter()
            .collect(),
        Caller::InstanceAdmin { .. } | Caller::Anonymous => Vec::new(),
    })
}

fn is_instance_admin(caller: Caller) -> bool {
    matches!(caller, Caller::InstanceAdmin { .. })
}

fn role_in(catalog: &Catalog, caller: Caller, need: Need, tenant: &Tenant) -> Result<Option<Role>> {
    Ok(match caller {
        Caller::InstanceAdmin { .. } => Some(Role::Admin),
        Caller::Service(id) => (id == tenant.id).then_some(Role::Admin),
        // Reading uses the cache, as policies do. Changing reads the row again under the lock.
        Caller::User(user) if need == Need::See => {
            cache::standing(Some(user), tenant.id)?.and_then(|standing| standing.role)
        }
        Caller::User(user) => members::get(catalog, tenant.id, user)?.map(|member| member.role),
        Caller::Anonymous => None,
    })
}

/// Returns the current tenant: the one that a setting or claim names, or the user's oldest membership if
/// `default_tenant` allows it.
fn current_tenant_id(catalog: &Catalog, caller: Caller) -> Result<Option<Uuid>> {
    if let Some(id) = caller::tenant()? {
        return Ok(Some(id));
    }
    match caller.user().filter(|_| settings::default_tenant() == DefaultTenant::OldestMembership) {
        Some(user) => Ok(tenants::list_of_user(catalog, user)?.into_iter().next().map(|(tenant, _)| tenant.id)),
        None => Ok(None),
    }
}

fn chosen_tenant_id() -> Result<Uuid> {
    caller::tenant()?.ok_or_else(no_current_tenant)
}

fn no_current_tenant() -> Error {
    Error::NotFound { what: "current tenant" }
}

/// Requires that the caller may work on a tenant with this status: not a deleted tenant, and a suspended one only as an
/// instance admin. This is not the rule for access to its tables (`has_access`): an instance admin can also read the
/// tables of a deleted tenant.
pub fn require_usable_status(caller: Caller, tenant: &Tenant) -> Result<()> {
    match tenant.status {
        Status::Active => Ok(()),
        Status::Suspended if is_instance_admin(caller) => Ok(()),
        Status::Suspended => {
            Err(Error::conflict("tenant is suspended", "Ask an instance admin to resume it with tenant_resume()."))
        }
        Status::Deleted => Err(Error::conflict("tenant is deleted", "Restore it first with tenant_restore().")),
        Status::Spare => Err(Error::tenant_not_found()),
    }
}
