//! The status of a tenant.

use crate::error::{Error, Result};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Active,
    Suspended,
    Deleted,
    /// Created in advance for tenant_create() and not assigned to a customer yet. SQL functions treat it as
    /// nonexistent.
    Spare,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Active => "active",
            Status::Suspended => "suspended",
            Status::Deleted => "deleted",
            Status::Spare => "spare",
        }
    }

    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "active" => Ok(Status::Active),
            "suspended" => Ok(Status::Suspended),
            "deleted" => Ok(Status::Deleted),
            "spare" => Ok(Status::Spare),
            other => Err(Error::internal(format!("unknown tenant status \"{other}\""))),
        }
    }
}
