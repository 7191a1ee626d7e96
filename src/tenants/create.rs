//! New tenants, made from nothing or from a spare.

use pgrx::Uuid;

use super::provision::{name_it, provision, require_metadata};
use super::spares::rename;
use crate::access::CreatePermit;
use crate::catalog::tenants::Tenant;
use crate::catalog::{Catalog, members, removals, spares};
use crate::error::{Error, Result};
use crate::migrations::{self, Nontransactional};
use crate::model::{self, Role, Slug};
use crate::pg::Jsonb;
use crate::pg::locks::unless_locked;

/// With whoever has locked what is in a spare: without it the tenant is made from nothing.
const LOCK_WAIT: &str = "2s";

/// The arguments of `tenant_create`, but for those that are in the permit.
pub struct Creation {
    pub slug: Option<String>,
    pub name: Option<String>,
    pub metadata: Option<Jsonb>,
}

pub fn create(catalog: &Catalog, permit: &CreatePermit, wanted: Creation) -> Result<Tenant> {
    let name = wanted.name.as_deref().ok_or_else(|| Error::null_argument("name"))?;
    let name = model::tenant_name(name)?;
    let slug = wanted.slug.as_deref().map(Slug::parse).transpose()?;
    if let Some(metadata) = &wanted.metadata {
        require_metadata(metadata)?;
    }
    if let Some(id) = permit.id() {
        refuse_unfinished_removal(catalog, id)?;
    }
    if permit.id().is_none() {
        let of_spare = || of_spare(catalog, permit, slug.clone(), name, wanted.metadata.clone());
        if let Some(tenant) = unless_locked(LOCK_WAIT, of_spare)?.flatten() {
            return Ok(tenant);
        }
    }
    let tenant = provision(catalog, permit.id(), slug, name, wanted.metadata)?;
    ready(catalog, permit, tenant)
}

/// `None` where there is no spare. One that lacks a migration gets it, where nobody has locked what that changes.
fn of_spare(
    catalog: &Catalog,
    permit: &CreatePermit,
    slug: Option<Slug>,
    name: &str,
    metadata: Option<Jsonb>,
) -> Result<Option<Tenant>> {
    let Some(spare) = spares::take(catalog)? else {
        return Ok(None);
    };
    let tenant = name_it(slug, name, spare.id, |slug| rename(catalog, &spare, slug, name, metadata.clone()))?;
    ready(catalog, permit, tenant).map(Some)
}

/// With its admin and all migrations.
fn ready(catalog: &Catalog, permit: &CreatePermit, tenant: Tenant) -> Result<Tenant> {
    if let Some(admin) = permit.admin() {
        members::assign(catalog, tenant.id, admin, Role::Admin, permit.user())?;
    }
    Ok(migrations::migrate(catalog, tenant, None, permit.user(), Nontransactional::InTransaction)?.tenant)
}

/// What is left of a deleted tenant would become the new one's.
fn refuse_unfinished_removal(catalog: &Catalog, id: Uuid) -> Result<()> {
    if !removals::any_of(catalog, id)? {
        return Ok(());
    }
    Err(Error::conflict(
        format!("a deleted tenant had the id {id}, and its rows in shared tables are still being removed"),
        "Choose another id, or wait: tenant_check() says what is left, and tenant_purge() tries again.",
    ))
}
