//! Deletes tenants, permanently or so that they can be restored.

use super::removal;
use crate::access::{Instance, Permit, SoftDelete};
use crate::catalog::Catalog;
use crate::catalog::tenants::{self, Tenant};
use crate::error::{Error, Result};
use crate::model::Status;
use crate::{migrations, schema};

/// Deletes a tenant permanently.
pub fn delete(catalog: &Catalog, permit: Permit<Instance>) -> Result<Tenant> {
    destroy(catalog, permit.into_tenant())
}

/// Deletes a tenant permanently. The caller must have locked it. Deletes its catalog rows first: the objects that are
/// removed after that, now or by the removal worker, are then no longer accessible.
pub fn destroy(catalog: &Catalog, tenant: Tenant) -> Result<Tenant> {
    refuse_default(&tenant)?;
    if schema::owner_role_oid(&tenant)?.is_some() {
        migrations::take_lock(&tenant)?;
    }
    tenants::delete(catalog, tenant.id)?;
    if schema::drop_with_dependents(catalog, &tenant)? {
        removal::remove_owner_role(catalog, tenant.id)?;
    } else {
        schema::revoke_access(catalog, &tenant)?;
        removal::request_schema_removal(catalog, tenant.id)?;
    }
    removal::remove_shared_rows(catalog, tenant.id)?;
    Ok(tenant)
}

/// Marks a tenant as deleted. Does nothing if it is deleted already.
pub fn soft_delete(catalog: &Catalog, permit: Permit<SoftDelete>) -> Result<Tenant> {
    let tenant = permit.into_tenant();
    if tenant.status == Status::Deleted {
        return Ok(tenant);
    }
    refuse_default(&tenant)?;
    tenants::mark_deleted(catalog, tenant.id)?.ok_or_else(Error::tenant_not_found)
}

fn refuse_default(tenant: &Tenant) -> Result<()> {
    if tenant.is_default {
        return Err(Error::conflict(
            "cannot delete the default tenant",
            "Make another tenant the default first with tenant_set_default().",
        ));
    }
    Ok(())
}
