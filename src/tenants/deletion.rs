//! Tenants deleted: for good, or so that they can be restored.

use super::removal;
use crate::access::{Instance, Permit, SoftDelete};
use crate::catalog::Catalog;
use crate::catalog::tenants::{self, Tenant};
use crate::error::{Error, Result};
use crate::model::Status;
use crate::{migrations, schema};

pub fn delete(catalog: &Catalog, permit: Permit<Instance>) -> Result<Tenant> {
    destroy(catalog, permit.into_tenant())
}

/// For good, of a tenant that the caller has locked. What the catalog knows of the tenant goes first: nobody reaches what is
/// removed after that, or may be left.
pub fn destroy(catalog: &Catalog, tenant: Tenant) -> Result<Tenant> {
    refuse_default(&tenant)?;
    if schema::owner_role_oid(&tenant)?.is_some() {
        migrations::take_lock(&tenant)?;
    }
    tenants::delete(catalog, tenant.id)?;
    if schema::drop_with_dependents(catalog, &tenant)? {
        removal::remove_owner_role(catalog, tenant.id)?;
    } else {
        schema::close(catalog, &tenant)?;
        removal::leave_schema(catalog, tenant.id)?;
    }
    removal::remove_rows_elsewhere(catalog, tenant.id)?;
    Ok(tenant)
}

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
            "the default tenant cannot be deleted",
            "Make another tenant the default first, with tenant_set_default().",
        ));
    }
    Ok(())
}
