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
    let spare = if permit.id().is_none() { spares::take(catalog)? } else { None };
    let tenant = match spare {
        Some(spare) => {
            name_it(slug, name, spare.id, |slug| rename(catalog, &spare, slug, name, wanted.metadata.clone()))?
        }
        None => provision(catalog, permit.id(), slug, name, wanted.metadata)?,
    };
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
