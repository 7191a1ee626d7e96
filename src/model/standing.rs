//! What a user is to a tenant.

use super::{Role, Status};

#[derive(Clone, Copy)]
pub struct Standing {
    pub status: Status,
    /// `None` without a user, and for a user who is not a member.
    pub role: Option<Role>,
}

impl Standing {
    /// Whether a user with this standing may work with the data of the tenant, as `role` at least.
    pub fn gives_access(&self, role: Role) -> bool {
        self.status == Status::Active && self.role.is_some_and(|has| has >= role)
    }
}
