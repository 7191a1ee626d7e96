//! Finds, updates, suspends and restores tenants, and sets the default tenant.

use pgrx::{PgSqlErrorCode, PgTryBuilder, Uuid};

use super::provision::{require_metadata, within_limit};
use crate::access::{Caller, Instance, Manage, Permit, See, authorize};
use crate::catalog::tenants::{self, Tenant};
use crate::catalog::{Catalog, taken};
use crate::error::{Error, Result};
use crate::model::{self, Slug, Status, ids};
use crate::pg::Jsonb;

/// Returns a permit for the tenant with this slug. Searches only tenants that the caller may see, so that an outsider
/// does not learn whether a slug is in use.
pub fn find_by_slug(catalog: &Catalog, slug: &str) -> Result<Permit<See>> {
    let id = match Slug::parse(slug).ok() {
        Some(slug) => id_by_slug(catalog, slug.as_str())?,
        None => None,
    };
    // Authorizing a new id, which belongs to no tenant, raises the same error as for any unknown id.
    authorize(catalog, Some(id.unwrap_or_else(ids::new)), "see this tenant")
}

fn id_by_slug(catalog: &Catalog, slug: &str) -> Result<Option<Uuid>> {
    match Caller::current(catalog)? {
        Caller::InstanceAdmin { .. } => tenants::id_by_slug(catalog, slug),
        Caller::User(user) => {
            let own = tenants::list_of_user(catalog, user)?;
            Ok(own.into_iter().find(|(tenant, _)| tenant.slug == slug).map(|(tenant, _)| tenant.id))
        }
        Caller::Service(id) => {
            Ok(tenants::by_id(catalog, id)?.filter(|tenant| tenant.slug == slug).map(|tenant| tenant.id))
        }
        Caller::Anonymous => Ok(None),
    }
}

/// Changes the name and the metadata. `None` leaves them as they are.
pub fn update(
    catalog: &Catalog,
    permit: &Permit<Manage>,
    name: Option<String>,
    metadata: Option<Jsonb>,
) -> Result<Tenant> {
    let name = name.as_deref().map(model::tenant_name).transpose()?;
    if let Some(metadata) = &metadata {
        require_metadata(metadata)?;
    }
    tenants::update(catalog, permit.tenant().id, name, metadata)?.ok_or_else(Error::tenant_not_found)
}

/// Serializes the transactions that set the default tenant. Must be called before the tenant is locked: otherwise two
/// callers could wait for each other's tenant.
pub fn serialize_defaults(catalog: &Catalog) -> Result<()> {
    match Caller::current(catalog)? {
        Caller::InstanceAdmin { .. } => tenants::serialize_default_changes(catalog),
        _ => Ok(()),
    }
}

/// Makes a tenant the default tenant.
pub fn set_default(catalog: &Catalog, permit: &Permit<Instance>) -> Result<Tenant> {
    refuse_deleted(permit.tenant())?;
    tenants::set_default(catalog, permit.tenant().id)?.ok_or_else(Error::tenant_not_found)
}

/// Restores a soft-deleted tenant. Raises an error if another tenant has its slug.
pub fn restore(catalog: &Catalog, permit: &Permit<Instance>) -> Result<Tenant> {
    let Tenant { id, slug, status, .. } = permit.tenant();
    if *status != Status::Deleted {
        return Err(Error::conflict("tenant is not deleted", "tenant_list_deleted() shows the deleted tenants."));
    }
    let reused = || Error::SlugReused { slug: slug.clone() };
    if taken::slug(slug)? {
        return Err(reused());
    }
    // A transaction that took the slug may have committed since. There is no subtransaction here: the unique violation
    // is caught only to raise a clearer error, which aborts the transaction as well.
    let mark = || if taken::slug(slug)? { Err(reused()) } else { tenants::mark_restored(catalog, *id) };
    let restored = std::panic::AssertUnwindSafe(|| within_limit(mark));
    PgTryBuilder::new(restored)
        .catch_when(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, |_| Err(reused()))
        .execute()?
        .ok_or_else(Error::tenant_not_found)
}

/// Suspends or resumes a tenant. Does nothing if it is in that state already.
pub fn set_suspended(catalog: &Catalog, permit: Permit<Instance>, suspended: bool) -> Result<Tenant> {
    refuse_deleted(permit.tenant())?;
    let tenant = permit.into_tenant();
    if (tenant.status == Status::Suspended) == suspended {
        return Ok(tenant);
    }
    tenants::mark_suspended(catalog, tenant.id, suspended)?.ok_or_else(Error::tenant_not_found)
}

pub(super) fn refuse_deleted(tenant: &Tenant) -> Result<()> {
    if tenant.status == Status::Deleted {
        return Err(Error::conflict("tenant is deleted", "Restore it first with tenant_restore()."));
    }
    Ok(())
}
