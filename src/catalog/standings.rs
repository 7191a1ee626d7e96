//! What a user is to a tenant, as committed now; runs no SQL.

use pgrx::Uuid;

use super::{members, tenants};
use crate::error::Result;
use crate::model::Standing;

pub fn get(user: Option<Uuid>, tenant: Uuid) -> Result<Option<Standing>> {
    let Some(status) = tenants::status(tenant)? else {
        return Ok(None);
    };
    let role = user.map_or(Ok(None), |user| members::role(tenant, user))?;
    Ok(Some(Standing { status, role }))
}
