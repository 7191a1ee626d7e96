//! Creates tenants, from a spare tenant or from scratch.

use pgrx::Uuid;

use super::provision::{provision, require_metadata, with_free_slug};
use super::spares::rename;
use crate::access::CreatePermit;
use crate::catalog::tenants::Tenant;
use crate::catalog::{Catalog, members, removals, spares};
use crate::error::{Error, Result};
use crate::migrations::{self, Nontransactional};
use crate::model::{self, Role, Slug};
use crate::pg::Jsonb;
use crate::pg::locks::unless_locked;

/// Limit on lock waits while a spare is used. After that, the tenant is created from scratch.
const LOCK_WAIT: &str = "2s";

/// The arguments of `tenant_create()` except those that are in the permit.
pub struct CreateOptions {
    pub slug: Option<String>,
    pub name: Option<String>,
    pub metadata: Option<Jsonb>,
}

/// Creates a tenant with all migrations and its admin.
pub fn create(catalog: &Catalog, permit: &CreatePermit, options: CreateOptions) -> Result<Tenant> {
    let name = options.name.as_deref().ok_or_else(|| Error::null_argument("name"))?;
    let name = model::tenant_name(name)?;
    let slug = options.slug.as_deref().map(Slug::parse).transpose()?;
    if let Some(metadata) = &options.metadata {
        require_metadata(metadata)?;
    }
    if let Some(id) = permit.id() {
        refuse_unfinished_removal(catalog, id)?;
    }
    if permit.id().is_none() {
        let from_spare = || from_spare(catalog, permit, slug.clone(), name, options.metadata.clone());
        if let Some(tenant) = unless_locked(LOCK_WAIT, from_spare)?.flatten() {
            return Ok(tenant);
        }
    }
    let tenant = provision(catalog, permit.id(), slug, name, options.metadata)?;
    if let Some(id) = permit.id() {
        // The tenant may have been deleted since, or before this transaction's snapshot was taken.
        refuse_unfinished_removal(&Catalog::latest()?, id)?;
    }
    complete(catalog, permit, tenant)
}

/// Turns a spare into the tenant, and applies migrations that it lacks. Returns `None` if there is no spare.
fn from_spare(
    catalog: &Catalog,
    permit: &CreatePermit,
    slug: Option<Slug>,
    name: &str,
    metadata: Option<Jsonb>,
) -> Result<Option<Tenant>> {
    let Some(spare) = spares::take(catalog)? else {
        return Ok(None);
    };
    let tenant = with_free_slug(slug, name, spare.id, |slug| rename(catalog, &spare, slug, name, metadata.clone()))?;
    complete(catalog, permit, tenant).map(Some)
}

/// Adds the tenant's admin and applies all migrations.
fn complete(catalog: &Catalog, permit: &CreatePermit, tenant: Tenant) -> Result<Tenant> {
    if let Some(admin) = permit.admin() {
        members::assign(catalog, tenant.id, admin, Role::Admin, permit.user())?;
    }
    Ok(migrations::migrate(catalog, tenant, None, permit.user(), Nontransactional::InTransaction)?.tenant)
}

/// Raises conflict if the removal of a deleted tenant with this id is not complete: the remaining objects and rows
/// would belong to the new tenant.
fn refuse_unfinished_removal(catalog: &Catalog, id: Uuid) -> Result<()> {
    if !removals::any_of(catalog, id)? {
        return Ok(());
    }
    Err(Error::conflict(
        format!("a deleted tenant had the id {id}, and its rows in shared tables are still being removed"),
        "Choose another id, or wait: tenant_check() shows what is left, and tenant_purge() tries again.",
    ))
}
