//! Clones a tenant.

use super::lifecycle::refuse_deleted;
use super::provision::provision;
use crate::access::{Instance, Permit};
use crate::catalog::tenants::Tenant;
use crate::catalog::{Catalog, members, unfinished};
use crate::error::{Error, Result};
use crate::model::{self, Role, Slug};
use crate::{migrations, schema};

/// The arguments of `tenant_clone()` except the source.
pub struct CloneOptions {
    pub slug: Option<String>,
    pub name: Option<String>,
    pub with_data: bool,
}

/// Clones the permit's tenant. The new tenant's schema is created by replaying the source's ledger, so that references
/// within the source's schema become references within the new one. Copies the rows if `with_data` is true.
pub fn clone(catalog: &Catalog, permit: &Permit<Instance>, options: CloneOptions) -> Result<Tenant> {
    let source = permit.tenant();
    refuse_deleted(source)?;
    if let Some(unfinished) = unfinished::get(catalog, source.id)? {
        return Err(Error::conflict(
            format!("migration version \"{}\" is unfinished", unfinished.version),
            "Finish it with tenant_migrate_all().",
        ));
    }
    let slug = options.slug.as_deref().map(Slug::parse).transpose()?;
    let name = options.name.unwrap_or_else(|| source.name.clone());
    let name = model::tenant_name(&name)?;
    // Another session that migrates the source would change what is being copied.
    migrations::take_lock(source)?;
    let user = permit.caller().user();
    let tenant = provision(catalog, None, slug, name, Some(source.metadata.clone()))?;
    let tenant = migrations::replay(catalog, tenant, source.id, user)?;
    if options.with_data {
        schema::copy_rows(catalog, source, &tenant)?;
    }
    if let Some(user) = user {
        members::assign(catalog, tenant.id, user, Role::Admin, Some(user))?;
    }
    Ok(tenant)
}
