//! Roles of members.

use crate::error::{Error, Result};

/// In order of rights: an admin may do all that a member may.
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
