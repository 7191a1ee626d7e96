//! The role of a member in a tenant.

use crate::error::{Error, Result};

/// Ordered by privilege: an admin may do everything that a member may do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Role {
    Member,
    Admin,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Member => "tenant_member",
            Role::Admin => "tenant_admin",
        }
    }

    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "tenant_member" => Ok(Role::Member),
            "tenant_admin" => Ok(Role::Admin),
            other => Err(Error::invalid(format!("unknown role \"{other}\""), "Use tenant_admin or tenant_member.")),
        }
    }
}
