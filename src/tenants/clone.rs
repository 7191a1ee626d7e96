//! A new tenant like another one.

use super::lifecycle::refuse_deleted;
use super::provision::provision;
use crate::access::{Instance, Permit};
use crate::catalog::tenants::Tenant;
use crate::catalog::{Catalog, members, unfinished};
use crate::error::{Error, Result};
use crate::model::{self, Role, Slug};
use crate::{migrations, schema};

/// The arguments of `tenant_clone`, but for the source.
pub struct Cloning {
    pub slug: Option<String>,
    pub name: Option<String>,
    pub with_data: bool,
}

/// The schema comes from the source's ledger, so that what refers to the inside of one schema refers to the inside of the
/// other; the rows, if wanted, from its tables.
pub fn clone(catalog: &Catalog, permit: &Permit<Instance>, wanted: Cloning) -> Result<Tenant> {
    let source = permit.tenant();
    refuse_deleted(source)?;
    if let Some(unfinished) = unfinished::get(catalog, source.id)? {
        return Err(Error::conflict(
            format!("migration version \"{}\" stopped half way", unfinished.version),
            "Finish it with tenant_migrate_all().",
        ));
    }
    let slug = wanted.slug.as_deref().map(Slug::parse).transpose()?;
    let name = wanted.name.unwrap_or_else(|| source.name.clone());
    let name = model::tenant_name(&name)?;
    // Others that migrate the source would change what is being copied.
    migrations::take_lock(source)?;
    let user = permit.caller().user();
    let tenant = provision(catalog, None, slug, name, Some(source.metadata.clone()))?;
    let tenant = migrations::replay(catalog, tenant, source.id, user)?;
    if wanted.with_data {
        schema::copy_rows(catalog, source, &tenant)?;
    }
    if let Some(user) = user {
        members::assign(catalog, tenant.id, user, Role::Admin, Some(user))?;
    }
    Ok(tenant)
}
