//! Who may do what: every rule of authorization is in this file.
//!
//! | caller | sees a tenant | manages it | instance-wide |
//! | --- | --- | --- | --- |
//! | instance admin | every one, deleted ones too | yes | yes |
//! | user | as a member, unless it is deleted | as a tenant_admin | no |
//! | service context | its own, unless it is deleted | its own | no |
//! | nobody | no | no | no |

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

/// The first line of every function that names a tenant. `None` means the current tenant.
pub fn authorize<P: Permission>(catalog: &Catalog, tenant_id: Option<Uuid>, action: &str) -> Result<Permit<P>> {
    let caller = Caller::current(catalog)?;
    if caller == Caller::Anonymous {
        return Err(Error::Unauthenticated);
    }
    let tenant_id = match tenant_id {
        Some(id) => id,
        // Nothing is destroyed by omission: there the tenant has to be chosen, not found.
        None if matches!(P::NEED, Need::SoftDelete | Need::Leave) => chosen_tenant_id()?,
        None => current_tenant_id(catalog, caller)?.ok_or_else(no_current_tenant)?,
    };
    if !is_concerned(caller, tenant_id)? {
        return Err(Error::tenant_not_found());
    }
    let permit = decide(catalog, caller, tenants::by_id(catalog, tenant_id)?, action)?;
    if P::NEED == Need::See {
        return Ok(permit);
    }
    // Lock only what the caller may change, so that an outsider can neither hold nor feel a lock; then decide again, for
    // what was true before the wait may not be true after it.
    decide(catalog, caller, tenants::lock(catalog, tenant_id)?, action)
}

/// Whether the tenant, if it is there, may be the caller's to know. The answer takes as long for one that is there as for one that is
/// not: nothing of it is read.
fn is_concerned(caller: Caller, tenant_id: Uuid) -> Result<bool> {
    Ok(match caller {
        Caller::InstanceAdmin { .. } => true,
        Caller::User(user) => members::role(tenant_id, user)?.is_some(),
        Caller::Service(id) => id == tenant_id,
        Caller::Anonymous => false,
    })
}

fn decide<P: Permission>(catalog: &Catalog, caller: Caller, tenant: Option<Tenant>, action: &str) -> Result<Permit<P>> {
    let need = P::NEED;
    let tenant = tenant.filter(|tenant| tenant.status != Status::Spare).ok_or_else(Error::tenant_not_found)?;
    let role = role_in(catalog, caller, need, &tenant)?.ok_or_else(Error::tenant_not_found)?;
    if tenant.status == Status::Deleted && !is_instance_admin(caller) {
        let repeated = need == Need::SoftDelete && role == Role::Admin;
        return if repeated { Ok(Permit::new(caller, tenant, role)) } else { Err(Error::tenant_not_found()) };
    }
    let allowed = match need {
        Need::See | Need::Leave => true,
        Need::Manage | Need::SoftDelete => role == Role::Admin,
        Need::Instance => is_instance_admin(caller),
    };
    if !allowed {
        let who = if need == Need::Instance { "an instance admin" } else { "a tenant_admin of the tenant" };
        return Err(Error::forbidden(action, format!("Ask {who}.")));
    }
    if need == Need::Manage {
        require_data_access(caller, &tenant)?;
    }
    Ok(Permit::new(caller, tenant, role))
}

/// For functions that concern the whole instance.
pub fn authorize_instance(catalog: &Catalog, action: &str) -> Result<InstancePermit> {
    match Caller::current(catalog)? {
        caller @ Caller::InstanceAdmin { .. } => Ok(InstancePermit::new(caller)),
        Caller::Anonymous => Err(Error::Unauthenticated),
        Caller::User(_) | Caller::Service(_) => Err(Error::forbidden(action, "Ask an instance admin.")),
    }
}

/// For `tenant_create`. Self-service callers create for themselves, and choose no id: whether an id is taken is not theirs to
/// learn.
pub fn authorize_create(catalog: &Catalog, id: Option<Uuid>, admin_user_id: Option<Uuid>) -> Result<CreatePermit> {
    let caller = Caller::current(catalog)?;
    match caller {
        Caller::Anonymous => Err(Error::Unauthenticated),
        Caller::InstanceAdmin { .. } => Ok(CreatePermit::new(caller, id, admin_user_id)),
        Caller::User(user) if settings::create_policy() == CreatePolicy::Authenticated => {
            if id.is_some() {
                return Err(Error::forbidden("choose the id of a new tenant", "Leave out id."));
            }
            if admin_user_id.is_some_and(|admin| admin != user) {
                return Err(Error::forbidden(
                    "create a tenant for another user",
                    "Leave out admin_user_id, then add the user with tenant_assign_admin().",
                ));
            }
            Ok(CreatePermit::new(caller, id, admin_user_id))
        }
        Caller::User(_) | Caller::Service(_) => Err(Error::forbidden(
            "create a tenant",
            "Ask an instance admin, or have fluxbase_tenant.create_policy set to authenticated.",
        )),
    }
}

/// For functions that read files of the server, as its own ask. Who the user is does not matter: files are the database
/// role's.
pub fn require_server_files(catalog: &Catalog, action: &str) -> Result<()> {
    if roles::is_member(catalog.caller_role(), c"pg_read_server_files") {
        return Ok(());
    }
    Err(Error::forbidden(action, "Have a superuser grant pg_read_server_files to the database role that calls."))
}

/// For functions that concern the calling user.
pub fn authorize_user(catalog: &Catalog) -> Result<UserPermit> {
    Caller::current(catalog)?.user().map(UserPermit::new).ok_or(Error::Unauthenticated)
}

/// The current tenant's row, if the caller may see it; `None` where no tenant is current.
pub fn visible_tenant(catalog: &Catalog) -> Result<Option<Tenant>> {
    let caller = Caller::current(catalog)?;
    let Some(id) = current_tenant_id(catalog, caller)? else {
        return Ok(None);
    };
    authorize::<See>(catalog, Some(id), "see this tenant").map(|permit| Some(permit.into_tenant()))
}

/// Whether the caller reaches the tenant's data, with at least `role` in it. Never an error for want of an identity:
/// policies ask this. Answers come from the cache.
pub fn has_access(database_role: pg_sys::Oid, tenant_id: Uuid, role: Role) -> Result<bool> {
    has_access_as(Caller::of(database_role)?, tenant_id, role)
}

fn has_access_as(caller: Caller, tenant_id: Uuid, role: Role) -> Result<bool> {
    let active = |standing: &Standing| standing.status == Status::Active;
    Ok(match caller {
        Caller::InstanceAdmin { .. } => {
            cache::standing(None, tenant_id)?.is_some_and(|standing| standing.status != Status::Spare)
        }
        // An instance admin's migration of a suspended tenant has its data to work on.
        Caller::Service(id) => {
            let migrated = is_sandbox_of(tenant_id);
            let open = |s: &Standing| active(s) || (migrated && s.status == Status::Suspended);
            id == tenant_id && cache::standing(None, tenant_id)?.as_ref().is_some_and(open)
        }
        Caller::User(user) => {
            cache::standing(Some(user), tenant_id)?.is_some_and(|standing| standing.gives_access(role))
        }
        Caller::Anonymous => false,
    })
}

/// Whether the caller reaches the tenant's tables now: with access, and where a tenant is current, it is this one.
pub fn is_accessible(database_role: pg_sys::Oid, tenant_id: Uuid) -> Result<bool> {
    is_accessible_to_code(database_role, security_context::calling_role(), tenant_id)
}

/// The same where code of `code` is what runs.
pub fn is_accessible_to_code(database_role: pg_sys::Oid, code: pg_sys::Oid, tenant_id: Uuid) -> Result<bool> {
    match owner_roles::tenant_of(database_role) {
        None => {}
        Some(owned) if owned != tenant_id => return Ok(false),
        // Others may get code of theirs to run as the owner role, by a trigger that does not say whose table it writes to.
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
    let reaches = has_access_as(caller, tenant_id, Role::Member)?;
    if caller.is_by_own_settings() && !security_context::is_maintenance_of_others() {
        cache::keep_verdict(now, tenant_id, reaches);
    }
    Ok(reaches)
}

/// For code that runs as a tenant's owner role: whether the session that it runs for reaches the tenant, or is that role.
pub fn is_accessible_to_session(owner_role: pg_sys::Oid, tenant_id: Uuid) -> Result<bool> {
    let session = roles::outer();
    if session == owner_role {
        return Ok(true);
    }
    if roles::bypasses_policies(session) && !is_sandboxed() {
        return Ok(security_definers::is_own_doing(owner_role));
    }
    has_access_as(Caller::of_session()?, tenant_id, Role::Member)
}

/// The tenants whose rows of shared tables the caller reaches now.
pub fn accessible_tenant_ids(catalog: &Catalog) -> Result<Vec<Uuid>> {
    if let Some(current) = caller::tenant()? {
        let reached = has_access(catalog.caller_role(), current, Role::Member)?;
        return Ok(if reached { vec![current] } else { Vec::new() });
    }
    Ok(match Caller::current(catalog)? {
        Caller::InstanceAdmin { .. } => tenants::ids(catalog)?,
        Caller::User(user) => tenants::active_ids_of_user(catalog, user)?,
        // A service context has a current tenant.
        Caller::Service(_) | Caller::Anonymous => Vec::new(),
    })
}

/// The tenants whose data a caller reaches, whichever is current; for an instance admin, who reaches all, none are listed.
pub fn tenants_of(caller: Caller) -> Result<Rc<[Uuid]>> {
    match caller {
        Caller::User(user) => cache::active_tenants(user),
        Caller::Service(id) if has_access_as(caller, id, Role::Member)? => Ok([id].into()),
        Caller::Service(_) | Caller::InstanceAdmin { .. } | Caller::Anonymous => Ok([].into()),
    }
}

/// The tenants whose rows in the catalog the caller may see; instance admins see all and are not asked.
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
        // Reading goes by the cache, as policies do; changing looks again under the lock.
        Caller::User(user) if need == Need::See => {
            cache::standing(Some(user), tenant.id)?.and_then(|standing| standing.role)
        }
        Caller::User(user) => members::get(catalog, tenant.id, user)?.map(|member| member.role),
        Caller::Anonymous => None,
    })
}

/// The setting; the claim; for a user, the oldest membership, if that is the default.
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

/// Suspended tenants are open to instance admins alone, deleted ones to nobody.
pub fn require_data_access(caller: Caller, tenant: &Tenant) -> Result<()> {
    match tenant.status {
        Status::Active => Ok(()),
        Status::Suspended if is_instance_admin(caller) => Ok(()),
        Status::Suspended => {
            Err(Error::conflict("tenant is suspended", "Ask an instance admin to resume it with tenant_resume()."))
        }
        Status::Deleted => Err(Error::conflict("tenant is deleted", "Restore it first, with tenant_restore().")),
        Status::Spare => Err(Error::tenant_not_found()),
    }
}
