//! Looks up the standing of a user in a tenant, as committed now. Runs no SQL.

use pgrx::Uuid;

use super::{members, tenants};
use crate::error::Result;
use crate::model::Standing;

/// Returns the standing of `user` in `tenant`, or `None` if the tenant does not exist or the user is not a member.
/// Without a user, only the tenant's status is looked up.
///
/// If the user is not a member, the tenant's row is not read: the statistics counters of the table would reveal that it
/// exists.
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
