//! What happens to tenants: each operation authorized, then carried out on catalog and schema together.

use pgrx::{PgSqlErrorCode, PgTryBuilder, Uuid};

mod clone;
mod create;
mod removal;
mod spares;

pub use clone::{Cloning, clone};
pub use create::{Creation, create, provision};
use create::{require_metadata, within_limit};
pub use removal::rows as rows_of_deleted_tenant;
pub use spares::{Filled, fill, fill_one, is_short, unregister_migration};

use crate::access::{Access, Need, authorize};
use crate::catalog::tenants::{self, Status, Tenant};
use crate::catalog::{Catalog, taken};
use crate::error::{Error, Result};
use crate::identity::Caller;
use crate::migrate::{Outcome, Outside};
use crate::pg::Jsonb;
use crate::schema::{self, Mend, Slug};
use crate::{ids, migrate};

/// An outsider learns from no slug whether it is in use.
pub fn find_by_slug(catalog: &Catalog, slug: &str) -> Result<Access> {
    let id = match Slug::parse(slug).ok() {
        Some(slug) => tenants::id_by_slug(catalog, slug.as_str())?,
        None => None,
    };
    // A nil id belongs to no tenant that could be created by accident, and is authorized like any other.
    let id = id.unwrap_or_else(ids::new);
    authorize(catalog, Need::See, Some(id), "see this tenant")
}

pub fn update(
    catalog: &Catalog,
    tenant_id: Option<Uuid>,
    name: Option<String>,
    metadata: Option<Jsonb>,
) -> Result<Tenant> {
    let access = authorize(catalog, Need::Manage, tenant_id, "update this tenant")?;
    let name = name.as_deref().map(schema::tenant_name).transpose()?;
    if let Some(metadata) = &metadata {
        require_metadata(metadata)?;
    }
    tenants::update(catalog, access.tenant.id, name, metadata)?.ok_or_else(Error::tenant_not_found)
}

pub fn set_default(catalog: &Catalog, tenant_id: Uuid) -> Result<Tenant> {
    // Before a tenant is locked: two that move the default would wait for each other's tenant.
    if let Caller::InstanceAdmin { .. } = Caller::current(catalog)? {
        tenants::serialize(catalog)?;
    }
    let access = authorize(catalog, Need::Instance, Some(tenant_id), "choose the default tenant")?;
    if access.tenant.status == Status::Deleted {
        return Err(Error::conflict("tenant is deleted", "Restore it first, with tenant_restore()."));
    }
    tenants::set_default(catalog, tenant_id)?.ok_or_else(Error::tenant_not_found)
}

pub fn delete(catalog: &Catalog, tenant_id: Uuid) -> Result<Tenant> {
    let access = authorize(catalog, Need::Instance, Some(tenant_id), "delete a tenant")?;
    destroy(catalog, access.tenant)
}

/// For good. What the catalog knows of the tenant goes first: nobody reaches what is removed after that, or may be left.
pub fn destroy(catalog: &Catalog, tenant: Tenant) -> Result<Tenant> {
    refuse_default(&tenant)?;
    if schema::owner_role_oid(&tenant)?.is_some() {
        migrate::take_lock(&tenant)?;
    }
    tenants::delete(catalog, tenant.id)?;
    if schema::drop_with_hanging(catalog, &tenant)? {
        removal::remove_owner_role(catalog, tenant.id)?;
    } else {
        schema::close(catalog, &tenant)?;
        removal::leave_schema(catalog, tenant.id)?;
    }
    removal::remove_rows_elsewhere(catalog, tenant.id)?;
    Ok(tenant)
}

pub fn soft_delete(catalog: &Catalog, tenant_id: Option<Uuid>) -> Result<Tenant> {
    let access = authorize(catalog, Need::SoftDelete, tenant_id, "delete this tenant")?;
    if access.tenant.status == Status::Deleted {
        return Ok(access.tenant);
    }
    refuse_default(&access.tenant)?;
    tenants::mark_deleted(catalog, access.tenant.id)?.ok_or_else(Error::tenant_not_found)
}

pub fn restore(catalog: &Catalog, tenant_id: Uuid) -> Result<Tenant> {
    let access = authorize(catalog, Need::Instance, Some(tenant_id), "restore a tenant")?;
    if access.tenant.status != Status::Deleted {
        return Err(Error::conflict("tenant is not deleted", "See tenant_list_deleted() for those that are."));
    }
    let slug = access.tenant.slug;
    if taken::slug(&slug)? {
        return Err(Error::SlugReused { slug });
    }
    // A transaction that took the slug may have committed since. What is caught here is raised again in better words, so
    // that the transaction ends all the same.
    PgTryBuilder::new(|| within_limit(|| tenants::mark_restored(catalog, tenant_id)))
        .catch_when(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, |_| Err(Error::SlugReused { slug: slug.clone() }))
        .execute()?
        .ok_or_else(Error::tenant_not_found)
}

pub fn set_suspended(catalog: &Catalog, tenant_id: Uuid, suspended: bool) -> Result<Tenant> {
    let action = if suspended { "suspend a tenant" } else { "resume a tenant" };
    let access = authorize(catalog, Need::Instance, Some(tenant_id), action)?;
    match (access.tenant.status, suspended) {
        (Status::Deleted, _) => Err(Error::conflict("tenant is deleted", "Restore it first, with tenant_restore().")),
        (Status::Spare, _) => Err(Error::tenant_not_found()),
        (Status::Suspended, true) | (Status::Active, false) => Ok(access.tenant),
        (Status::Active, true) | (Status::Suspended, false) => {
            tenants::mark_suspended(catalog, tenant_id, suspended)?.ok_or_else(Error::tenant_not_found)
        }
    }
}

pub fn repair(catalog: &Catalog, tenant_id: Uuid) -> Result<Vec<Mend>> {
    let access = authorize(catalog, Need::Instance, Some(tenant_id), "repair a tenant")?;
    let mut mended = schema::repair_catalog(catalog)?;
    mended.extend(schema::repair(catalog, &access.tenant)?);
    Ok(mended)
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

/// `skipped` is a tenant that is deleted: its schema stays as it was, and is migrated after tenant_restore().
pub fn migrate(catalog: &Catalog, tenant_id: Uuid, target: Option<&str>) -> Result<(&'static str, Outcome)> {
    let access = authorize(catalog, Need::Instance, Some(tenant_id), "migrate a tenant")?;
    if access.tenant.status == Status::Deleted {
        let from_version = access.tenant.schema_version.clone();
        return Ok(("skipped", Outcome { tenant: access.tenant, from_version, applied: 0, next: None }));
    }
    let outcome = migrate::migrate(catalog, access.tenant, target, access.caller.user(), Outside::Refused)?;
    Ok(("migrated", outcome))
}

pub fn rollback(catalog: &Catalog, tenant_id: Uuid, target: &str) -> Result<Outcome> {
    let access = authorize(catalog, Need::Instance, Some(tenant_id), "roll a tenant back")?;
    if access.tenant.status == Status::Deleted {
        return Err(Error::conflict("tenant is deleted", "Restore it first, with tenant_restore()."));
    }
    migrate::rollback(catalog, access.tenant, target)
}
