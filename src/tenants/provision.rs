//! Provisions a tenant: inserts a row with a free slug, and creates an empty schema with its owner role.

use pgrx::Uuid;

use crate::catalog::tenants::{self, NewTenant, Tenant};
use crate::catalog::{Catalog, taken};
use crate::error::{Error, Result};
use crate::model::{Slug, ids};
use crate::pg::Jsonb;
use crate::pg::locks::ObjectLock;
use crate::{schema, settings};

/// Number of slugs to try for a tenant that is created without one. The last one contains the tenant's id.
const SLUG_ATTEMPTS: u32 = 21;
/// Limits for metadata, within which a dump can be restored: PostgreSQL can write larger or more deeply nested jsonb
/// values than it can read.
const MAX_LEVELS: usize = 6000;
const MAX_BYTES: usize = 16 << 20;

/// Creates a tenant's row, its owner role, its empty schema and the grants on that.
pub fn provision(
    catalog: &Catalog,
    id: Option<Uuid>,
    slug: Option<Slug>,
    name: &str,
    metadata: Option<Jsonb>,
) -> Result<Tenant> {
    let id = id.unwrap_or_else(ids::new);
    let tenant = with_free_slug(slug, name, id, |slug| {
        let schema_name = schema::schema_name(slug, id, None)?;
        let new = NewTenant { id, slug: slug.as_str(), name, schema_name: &schema_name, metadata: metadata.clone() };
        refuse_taken(id)?;
        // Checked again just before the insertion, so that it does not wait for a transaction that has taken the slug
        // or the schema name. If there is a limit, no other session can add a tenant in between, because the limit's
        // lock is held.
        let insert = || if is_taken(slug, &schema_name)? { Ok(None) } else { tenants::insert(catalog, new) };
        // A spare does not count towards the limit.
        let inserted = if slug.as_str() == taken::spare_slug(id) { insert() } else { within_limit(insert) }?;
        if inserted.is_none() {
            refuse_taken(id)?;
        }
        Ok(inserted)
    })?;
    schema::create(catalog, &tenant)?;
    Ok(tenant)
}

/// Reports whether the slug or the schema name is taken, also by a transaction that has not ended.
pub(super) fn is_taken(slug: &Slug, schema_name: &str) -> Result<bool> {
    Ok(taken::slug(slug.as_str())? || taken::schema(schema_name)?)
}

fn refuse_taken(id: Uuid) -> Result<()> {
    if taken::id(id)? {
        return Err(Error::conflict(format!("tenant {id} already exists"), "Choose another id, or omit it."));
    }
    Ok(())
}

/// Adds a tenant that counts towards the limit. A concurrent caller waits until the tenant is added, but not until that
/// is committed, because the tenants of open transactions are counted too.
pub(super) fn within_limit<T>(add: impl FnOnce() -> Result<T>) -> Result<T> {
    let limit = settings::max_tenants();
    if limit == 0 {
        return add();
    }
    ObjectLock::of_limit().with(|| {
        if taken::count()? >= limit {
            return Err(Error::conflict(
                format!("tenant limit of {limit} reached"),
                "Delete a tenant, or ask an administrator to raise fluxbase_tenant.max_tenants.",
            ));
        }
        add()
    })
}

/// Calls `try_slug` with the slug or, without one, with slugs derived from the name until one is free. `try_slug`
/// returns `None` for a slug that is taken.
pub(super) fn with_free_slug(
    slug: Option<Slug>,
    name: &str,
    id: Uuid,
    try_slug: impl Fn(&Slug) -> Result<Option<Tenant>>,
) -> Result<Tenant> {
    // A slug that an open transaction has taken or is about to free counts as taken, so that this session does not
    // wait.
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

pub(super) fn require_metadata(metadata: &Jsonb) -> Result<()> {
    if !metadata.is_object() {
        return Err(Error::invalid("metadata must be a JSON object", "Wrap the value, as in {\"key\": value}."));
    }
    let (depth, digits) = metadata.depth_and_digits(MAX_BYTES);
    if metadata.size() > MAX_BYTES || digits > MAX_BYTES {
        return Err(Error::invalid("metadata is larger than 16 MB", "Keep large values in a table of the tenant."));
    }
    if depth > MAX_LEVELS {
        return Err(Error::invalid(
            format!("metadata is nested deeper than {MAX_LEVELS} levels"),
            "A dump of it could not be restored.",
        ));
    }
    Ok(())
}
