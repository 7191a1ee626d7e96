//! Permits: Rust values that prove authorization. The functions that `api` calls to change something take a permit as
//! an argument, and only `rules` can construct one, so a missing authorization check does not compile. Functions that
//! background workers and other authorized functions call, such as `tenants::destroy`, take none.

use std::marker::PhantomData;

use pgrx::Uuid;

use super::caller::Caller;
use crate::catalog::tenants::Tenant;
use crate::model::Role;

/// What an operation on a tenant requires of its caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    See,
    Manage,
    SoftDelete,
    Leave,
    Instance,
    Repair,
}

/// A `Need` as a type parameter.
pub trait Permission {
    const NEED: Need;
}

/// The right to read about a tenant.
pub struct See;
/// The right to change a tenant or its members.
pub struct Manage;
/// The right to soft-delete a tenant. Like `Manage`, but also granted if the tenant is already deleted, so that a
/// repeated call succeeds.
pub struct SoftDelete;
/// The right to end one's own membership.
pub struct Leave;
/// The right to do what only instance admins may do with a tenant.
pub struct Instance;
/// The right to repair a tenant. Like `Instance`, but also for a spare tenant.
pub struct Repair;

impl Permission for See {
    const NEED: Need = Need::See;
}
impl Permission for Manage {
    const NEED: Need = Need::Manage;
}
impl Permission for SoftDelete {
    const NEED: Need = Need::SoftDelete;
}
impl Permission for Leave {
    const NEED: Need = Need::Leave;
}
impl Permission for Repair {
    const NEED: Need = Need::Repair;
}
impl Permission for Instance {
    const NEED: Need = Need::Instance;
}

/// Proves that the caller may do `P` with this tenant. For every `P` except `See`, the tenant's row is locked.
pub struct Permit<P> {
    caller: Caller,
    tenant: Tenant,
    role: Role,
    permission: PhantomData<P>,
}

impl<P> Permit<P> {
    pub(super) fn new(caller: Caller, tenant: Tenant, role: Role) -> Self {
        Permit { caller, tenant, role, permission: PhantomData }
    }

    pub fn caller(&self) -> Caller {
        self.caller
    }

    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    pub fn into_tenant(self) -> Tenant {
        self.tenant
    }

    /// Returns the caller's role in the tenant. Instance admins and service contexts count as tenant admins.
    pub fn role(&self) -> Role {
        self.role
    }
}

/// Proves that the caller is an instance admin.
pub struct InstancePermit {
    caller: Caller,
}

impl InstancePermit {
    pub(super) fn new(caller: Caller) -> Self {
        InstancePermit { caller }
    }

    /// Returns the caller's user, or `None` if the database role makes the caller an instance admin.
    pub fn user(&self) -> Option<Uuid> {
        self.caller.user()
    }
}

/// Proves that the caller may create a tenant with this id and this tenant admin, as far as they are specified.
pub struct CreatePermit {
    caller: Caller,
    id: Option<Uuid>,
    admin_user_id: Option<Uuid>,
}

impl CreatePermit {
    pub(super) fn new(caller: Caller, id: Option<Uuid>, admin_user_id: Option<Uuid>) -> Self {
        CreatePermit { caller, id, admin_user_id }
    }

    pub fn user(&self) -> Option<Uuid> {
        self.caller.user()
    }

    pub fn id(&self) -> Option<Uuid> {
        self.id
    }

    /// Returns the user that becomes tenant admin of the new tenant.
    pub fn admin(&self) -> Option<Uuid> {
        self.admin_user_id.or(self.caller.user())
    }
}

/// Proves that there is a current user.
pub struct UserPermit {
    user: Uuid,
}

impl UserPermit {
    pub(super) fn new(user: Uuid) -> Self {
        UserPermit { user }
    }

    pub fn user(&self) -> Uuid {
        self.user
    }
}
