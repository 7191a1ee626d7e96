//! What a user is to a tenant, in one look at `tenants` and `members`.

use pgrx::Uuid;

use super::Catalog;
use super::tenants::Status;
use crate::access::{Role, Standing};
use crate::error::Result;
use crate::pg::query;

pub fn get(catalog: &Catalog, user: Option<Uuid>, tenant: Uuid) -> Result<Option<Standing>> {
    let rows = query(
        catalog.scope(),
        "SELECT t.status, m.role FROM fluxbase_tenant.tenants t
         LEFT JOIN fluxbase_tenant.members m ON m.tenant_id = t.id AND m.user_id = $1 WHERE t.id = $2",
        &[user.into(), tenant.into()],
        |row| {
            let role = row.get::<String>(2).map(|role| Role::parse(&role)).transpose()?;
            Ok(Standing { status: Status::parse(&row.need::<String>(1)?)?, role })
        },
    )?;
    Ok(rows.into_iter().next())
}
