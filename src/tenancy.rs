//! What happens to tenants: each operation authorized, then carried out on catalog and schema together.

use pgrx::datum::Interval;
use pgrx::{PgSqlErrorCode, PgTryBuilder, Uuid};

use crate::access::{Need, Role, authorize, require_instance_admin};
use crate::catalog::tenants::{self, NewTenant, Status, Tenant};
use crate::catalog::{Catalog, members};
use crate::error::{Error, Result};
use crate::identity::{Caller, SandboxIdentity};
use crate::migrate::{Outcome, Outside};
use crate::pg::Jsonb;
use crate::schema::{self, Mend, Slug};
use crate::settings::{self, CreatePolicy};
use crate::{ids, migrate};

/// Slugs tried for a tenant that was given none, before its id goes into the slug.
const SLUG_ATTEMPTS: u32 = 21;

/// The arguments of `tenant_create`, as given.
pub struct Creation {
    pub slug: Option<String>,
    pub name: Option<String>,
    pub metadata: Option<Jsonb>,
    pub id: Option<Uuid>,
    pub admin_user_id: Option<Uuid>,
}

pub fn create(catalog: &Catalog, wanted: Creation) -> Result<Tenant> {
    let caller = authorize_create(catalog, &wanted)?;
    let name = wanted.name.ok_or_else(|| Error::null_argument("name"))?;
    let name = schema::tenant_name(&name)?;
    let slug = wanted.slug.as_deref().map(Slug::parse).transpose()?;
    if let Some(metadata) = &wanted.metadata {
        require_object(metadata)?;
    }
    refuse_beyond_limit(catalog)?;
    let id = wanted.id.unwrap_or_else(ids::new);
    let tenant = insert(catalog, id, slug, name, wanted.metadata)?;
    schema::create(catalog, &tenant)?;
    if let Some(admin) = wanted.admin_user_id.or(caller.user()) {
        members::assign(catalog, id, admin, Role::Admin, caller.user())?;
    }
    Ok(migrate::migrate(catalog, tenant, None, caller.user(), Outside::Inside)?.tenant)
}

/// Self-service callers create for themselves, and choose no id: whether an id is taken is not theirs to learn.
fn authorize_create(catalog: &Catalog, wanted: &Creation) -> Result<Caller> {
    let caller = Caller::current(catalog)?;
    match caller {
        Caller::Nobody => Err(Error::Unauthenticated),
        Caller::InstanceAdmin { .. } => Ok(caller),
        Caller::User(user) if settings::create_policy() == CreatePolicy::Authenticated => {
            if wanted.id.is_some() {
                return Err(Error::forbidden("choose the id of a new tenant", "Leave out id."));
            }
            if wanted.admin_user_id.is_some_and(|admin| admin != user) {
                return Err(Error::forbidden(
                    "create a tenant for another user",
                    "Leave out admin_user_id, then add the user with tenant_assign_admin().",
                ));
            }
            Ok(caller)
        }
        Caller::User(_) | Caller::Service(_) => Err(Error::forbidden(
            "create a tenant",
            "Ask an instance admin, or have fluxbase_tenant.create_policy set to authenticated.",
        )),
    }
}

fn refuse_beyond_limit(catalog: &Catalog) -> Result<()> {
    let limit = settings::max_tenants();
    if limit > 0 && tenants::count_serialized(catalog)? >= limit {
        return Err(Error::conflict(
            format!("tenant limit of {limit} reached"),
            "Delete a tenant, or have fluxbase_tenant.max_tenants raised.",
        ));
    }
    Ok(())
}

fn insert(catalog: &Catalog, id: Uuid, slug: Option<Slug>, name: &str, metadata: Option<Jsonb>) -> Result<Tenant> {
    let try_insert = |slug: &Slug| {
        let schema_name = schema::schema_name(catalog, slug, id)?;
        let new = NewTenant { id, slug: slug.as_str(), name, schema_name: &schema_name, metadata: metadata.clone() };
        let inserted = tenants::insert(catalog, new)?;
        if inserted.is_none() && tenants::id_exists(catalog, id)? {
            return Err(Error::conflict(format!("tenant {id} already exists"), "Choose another id, or leave it out."));
        }
        Ok(inserted)
    };
    if let Some(slug) = slug {
        return try_insert(&slug)?.ok_or_else(|| Error::SlugTaken { slug: slug.as_str().into() });
    }
    for attempt in 0..SLUG_ATTEMPTS {
        if let Some(tenant) = try_insert(&Slug::from_name(name, id, attempt))? {
            return Ok(tenant);
        }
    }
    Err(Error::SlugTaken { slug: Slug::from_name(name, id, 0).as_str().into() })
}

/// An outsider learns from no slug whether it is in use.
pub fn find_by_slug(catalog: &Catalog, slug: &str) -> Result<Tenant> {
    let id = match Slug::parse(slug).ok() {
        Some(slug) => tenants::by_slug(catalog, slug.as_str())?.map(|tenant| tenant.id),
        None => None,
    };
    // A nil id belongs to no tenant that could be created by accident, and is authorized like any other.
    let id = id.unwrap_or_else(ids::new);
    authorize(catalog, Need::See, Some(id), "see this tenant").map(|access| access.tenant)
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
        require_object(metadata)?;
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

pub fn purge(catalog: &Catalog, older_than: Interval) -> Result<Vec<Tenant>> {
    require_instance_admin(catalog, "purge tenants")?;
    let mut purged = Vec::new();
    for candidate in tenants::list_deleted_before(catalog, older_than)? {
        // Locked one by one, and looked at again: it may have been restored meanwhile.
        if let Some(tenant) = tenants::lock(catalog, candidate.id)?
            && tenant.status == Status::Deleted
        {
            purged.push(destroy(catalog, tenant)?);
        }
    }
    Ok(purged)
}

fn destroy(catalog: &Catalog, tenant: Tenant) -> Result<Tenant> {
    refuse_default(&tenant)?;
    if schema::owner_role_oid(&tenant)?.is_some() {
        migrate::take_lock(&tenant)?;
    }
    schema::drop(catalog, &tenant)?;
    // Rows of shared tables go too, and their triggers are others' code.
    let _nobody = SandboxIdentity::nobody();
    tenants::delete(catalog, tenant.id)?;
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
    refuse_beyond_limit(catalog)?;
    let slug = access.tenant.slug;
    if tenants::by_slug(catalog, &slug)?.is_some() {
        return Err(Error::SlugReused { slug });
    }
    // A transaction that took the slug may have committed since. What is caught here is raised again in better words, so
    // that the transaction ends all the same.
    PgTryBuilder::new(|| tenants::mark_restored(catalog, tenant_id))
        .catch_when(PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION, |_| Err(Error::SlugReused { slug: slug.clone() }))
        .execute()?
        .ok_or_else(Error::tenant_not_found)
}

pub fn set_suspended(catalog: &Catalog, tenant_id: Uuid, suspended: bool) -> Result<Tenant> {
    let action = if suspended { "suspend a tenant" } else { "resume a tenant" };
    let access = authorize(catalog, Need::Instance, Some(tenant_id), action)?;
    match (access.tenant.status, suspended) {
        (Status::Deleted, _) => Err(Error::conflict("tenant is deleted", "Restore it first, with tenant_restore().")),
        (Status::Suspended, true) | (Status::Active, false) => Ok(access.tenant),
        (Status::Active, true) | (Status::Suspended, false) => {
            tenants::mark_suspended(catalog, tenant_id, suspended)?.ok_or_else(Error::tenant_not_found)
        }
    }
}

pub fn repair(catalog: &Catalog, tenant_id: Uuid) -> Result<Vec<Mend>> {
    let access = authorize(catalog, Need::Instance, Some(tenant_id), "repair a tenant")?;
    schema::repair(catalog, &access.tenant)
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

fn require_object(metadata: &Jsonb) -> Result<()> {
    if metadata.is_object() {
        return Ok(());
    }
    Err(Error::invalid("metadata must be a JSON object", "Wrap the value, as in {\"key\": value}."))
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
