//! What a user is to a tenant, as committed now; runs no SQL.

use pgrx::Uuid;

use super::{members, tenants};
use crate::error::Result;
use crate::model::Standing;

/// Nothing is read of a tenant that the user is no member of: counters of rows would tell that it is there.
pub fn get(user: Option<Uuid>, tenant: Uuid) -> Result<Option<Standing>> {
    let role = match user {
        None => None,
        Some(user) => match members::role(tenant, user)? {
            None => return Ok(None),
            role => role,
        },
    };
    Ok(tenants::status(tenant)?.map(|status| Standing { status, role }))
}
