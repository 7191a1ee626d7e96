//! New tenants, made from nothing or from a spare.

use pgrx::Uuid;

use super::spares::rename;
use crate::access::Role;
use crate::catalog::tenants::{self, NewTenant, Tenant};
use crate::catalog::{Catalog, members, removals, spares, taken};
use crate::error::{Error, Result};
use crate::identity::Caller;
use crate::migrate::Outside;
use crate::pg::Jsonb;
use crate::pg::locks::ObjectLock;
use crate::schema::{self, Slug};
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
    let name = wanted.name.as_deref().ok_or_else(|| Error::null_argument("name"))?;
    let name = schema::tenant_name(name)?;
    let slug = wanted.slug.as_deref().map(Slug::parse).transpose()?;
    if let Some(metadata) = &wanted.metadata {
        require_metadata(metadata)?;
    }
    if let Some(id) = wanted.id {
        refuse_unfinished_removal(catalog, id)?;
    }
    let admin = wanted.admin_user_id.or(caller.user());
    if wanted.id.is_none()
        && let Some(spare) = spares::take(catalog)?
    {
        let tenant =
            name_it(slug, name, spare.id, |slug| rename(catalog, &spare, slug, name, wanted.metadata.clone()))?;
        assign(catalog, &tenant, admin, caller)?;
        return Ok(migrate::migrate(catalog, tenant, None, caller.user(), Outside::Inside)?.tenant);
    }
    let tenant = provision(catalog, wanted.id, slug, name, wanted.metadata)?;
    assign(catalog, &tenant, admin, caller)?;
    Ok(migrate::migrate(catalog, tenant, None, caller.user(), Outside::Inside)?.tenant)
}

pub(super) fn assign(catalog: &Catalog, tenant: &Tenant, admin: Option<Uuid>, caller: Caller) -> Result<()> {
    match admin {
        Some(admin) => members::assign(catalog, tenant.id, admin, Role::Admin, caller.user()).map(drop),
        None => Ok(()),
    }
}

/// Row, schema, owner role and grants, and nothing in the schema yet.
pub fn provision(
    catalog: &Catalog,
    id: Option<Uuid>,
    slug: Option<Slug>,
    name: &str,
    metadata: Option<Jsonb>,
) -> Result<Tenant> {
    let id = id.unwrap_or_else(ids::new);
    let tenant = name_it(slug, name, id, |slug| {
        let schema_name = schema::schema_name(slug, id, None)?;
        let new = NewTenant { id, slug: slug.as_str(), name, schema_name: &schema_name, metadata: metadata.clone() };
        refuse_taken(id)?;
        let insert = || tenants::insert(catalog, new);
        // A spare is no tenant yet.
        let inserted = if slug.as_str() == taken::spare_slug(id) { insert() } else { within_limit(insert) }?;
        if inserted.is_none() {
            refuse_taken(id)?;
        }
        Ok(inserted)
    })?;
    schema::create(catalog, &tenant)?;
    Ok(tenant)
}

fn refuse_taken(id: Uuid) -> Result<()> {
    if taken::id(id)? {
        return Err(Error::conflict(format!("tenant {id} already exists"), "Choose another id, or leave it out."));
    }
    Ok(())
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

/// Adds a tenant to those that count. Who does so at the same time waits until it is done, and not until it is committed: those that
/// may yet be are counted too.
pub(super) fn within_limit<T>(add: impl FnOnce() -> Result<T>) -> Result<T> {
    let limit = settings::max_tenants();
    if limit == 0 {
        return add();
    }
    ObjectLock::of_limit().with(|| {
        if taken::count()? >= limit {
            return Err(Error::conflict(
                format!("tenant limit of {limit} reached"),
                "Delete a tenant, or have fluxbase_tenant.max_tenants raised.",
            ));
        }
        add()
    })
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

/// Tries the slug, or where none is given those that can be made from the name; `None` is one that is taken.
fn name_it(
    slug: Option<Slug>,
    name: &str,
    id: Uuid,
    try_slug: impl Fn(&Slug) -> Result<Option<Tenant>>,
) -> Result<Tenant> {
    // Nobody waits for a transaction that may come to take a slug, or to free it.
    let try_slug = |slug: &Slug| if taken::slug(slug.as_str())? { Ok(None) } else { try_slug(slug) };
    if let Some(slug) = slug {
        return try_slug(&slug)?.ok_or_else(|| Error::SlugTaken { slug: slug.as_str().into() });
    }
    for attempt in 0..SLUG_ATTEMPTS {
        if let Some(tenant) = try_slug(&Slug::from_name(name, id, attempt))? {
            return Ok(tenant);
        }
    }
    Err(Error::SlugTaken { slug: Slug::from_name(name, id, 0).as_str().into() })
}

/// What a dump can be restored with: the server writes values that it cannot read again.
const MOST_LEVELS: usize = 6000;
const MOST_BYTES: usize = 16 << 20;

pub(super) fn require_metadata(metadata: &Jsonb) -> Result<()> {
    if !metadata.is_object() {
        return Err(Error::invalid("metadata must be a JSON object", "Wrap the value, as in {\"key\": value}."));
    }
    let (depth, digits) = metadata.depth_and_digits(MOST_BYTES);
    if metadata.size() > MOST_BYTES || digits > MOST_BYTES {
        return Err(Error::invalid("metadata is larger than 16 MB", "Keep what is large in a table of the tenant's."));
    }
    if depth > MOST_LEVELS {
        return Err(Error::invalid(
            format!("metadata is nested deeper than {MOST_LEVELS} levels"),
            "A dump of it could not be restored.",
        ));
    }
    Ok(())
}
