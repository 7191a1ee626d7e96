//! A user's standing in a tenant.

use super::{Role, Status};

/// The status of a tenant and a user's role in it.
#[derive(Clone, Copy)]
pub struct Standing {
    pub status: Status,
    /// `None` if there is no user, or if the user is not a member.
    pub role: Option<Role>,
}

impl Standing {
    /// Reports whether a user with this standing may access the tenant's data with at least `role`.
    pub fn gives_access(&self, role: Role) -> bool {
        self.status == Status::Active && self.role.is_some_and(|has| has >= role)
    }
}
