//! A new tenant like another one.

use pgrx::Uuid;

use super::create::{assign, provision};
use crate::access::{Need, authorize};
use crate::catalog::tenants::{Status, Tenant};
use crate::catalog::{Catalog, unfinished};
use crate::error::{Error, Result};
use crate::migrate;
use crate::schema::{self, Slug};

/// The arguments of `tenant_clone`.
pub struct Cloning {
    pub source: Uuid,
    pub slug: Option<String>,
    pub name: Option<String>,
    pub with_data: bool,
}

/// The schema comes from the source's ledger, so that what refers to the inside of one schema refers to the inside of the
/// other; the rows, if wanted, from its tables.
pub fn clone(catalog: &Catalog, wanted: Cloning) -> Result<Tenant> {
    let access = authorize(catalog, Need::Instance, Some(wanted.source), "clone a tenant")?;
    let source = access.tenant;
    if source.status == Status::Deleted {
        return Err(Error::conflict("tenant is deleted", "Restore it first, with tenant_restore()."));
    }
    if let Some(unfinished) = unfinished::get(catalog, source.id)? {
        return Err(Error::conflict(
            format!("migration version \"{}\" stopped half way", unfinished.version),
            "Finish it with tenant_migrate_all().",
        ));
    }
    let slug = wanted.slug.as_deref().map(Slug::parse).transpose()?;
    let name = wanted.name.unwrap_or_else(|| source.name.clone());
    let name = schema::tenant_name(&name)?;
    // Others that migrate the source would change what is being copied.
    migrate::take_lock(&source)?;
    let user = access.caller.user();
    let tenant = provision(catalog, None, slug, name, Some(source.metadata.clone()))?;
    let tenant = migrate::replay(catalog, tenant, source.id, user)?;
    if wanted.with_data {
        schema::copy_rows(catalog, &source, &tenant)?;
    }
    assign(catalog, &tenant, user, access.caller)?;
    Ok(tenant)
}
