//! Permits: the proof that somebody asked whether the caller may. What changes something takes one, and `rules` alone makes
//! them, so that forgetting to ask does not compile.

use std::marker::PhantomData;

use pgrx::Uuid;

use super::caller::Caller;
use crate::catalog::tenants::Tenant;
use crate::model::Role;

/// What an operation on a tenant asks of its caller.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    See,
    Manage,
    SoftDelete,
    Leave,
    Instance,
}

/// A `Need` as a type.
pub trait Permission {
    const NEED: Need;
}

/// To read about a tenant.
pub struct See;
/// To change a tenant or its members.
pub struct Manage;
/// To soft-delete a tenant: as `Manage`, but also where that has been done.
pub struct SoftDelete;
/// To end one's own membership.
pub struct Leave;
/// What only instance admins do to a tenant.
pub struct Instance;

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
impl Permission for Instance {
    const NEED: Need = Need::Instance;
}

/// The caller may do `P` to this tenant. For everything but `See` the tenant's row is locked.
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

    /// The caller's role in the tenant: an instance admin or a service context has an admin's.
    pub fn role(&self) -> Role {
        self.role
    }
}

/// The caller is an instance admin.
pub struct InstancePermit {
    caller: Caller,
}

impl InstancePermit {
    pub(super) fn new(caller: Caller) -> Self {
        InstancePermit { caller }
    }

    /// `None` for a database role without a user.
    pub fn user(&self) -> Option<Uuid> {
        self.caller.user()
    }
}

/// The caller may create a tenant with this id and this admin, where they are given.
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

    /// Who becomes the admin of the new tenant.
    pub fn admin(&self) -> Option<Uuid> {
        self.admin_user_id.or(self.caller.user())
    }
}

/// There is a current user.
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
