//! What every new tenant begins with: a row under a name that is free, and an empty schema with its owner role.

use pgrx::Uuid;

use crate::catalog::tenants::{self, NewTenant, Tenant};
use crate::catalog::{Catalog, taken};
use crate::error::{Error, Result};
use crate::model::{Slug, ids};
use crate::pg::Jsonb;
use crate::pg::locks::ObjectLock;
use crate::{schema, settings};

/// Slugs tried for a tenant that was given none, before its id goes into the slug.
const SLUG_ATTEMPTS: u32 = 21;
/// What a dump can be restored with: the server writes values that it cannot read again.
const MAX_LEVELS: usize = 6000;
const MAX_BYTES: usize = 16 << 20;

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
        // Under the lock of the limit nobody else adds one, and what is free is not waited for.
        let insert = || if is_taken(slug, &schema_name)? { Ok(None) } else { tenants::insert(catalog, new) };
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

/// Whether a transaction that has not ended may come to have the slug or the schema's name.
pub(super) fn is_taken(slug: &Slug, schema_name: &str) -> Result<bool> {
    Ok(taken::slug(slug.as_str())? || taken::schema(schema_name)?)
}

fn refuse_taken(id: Uuid) -> Result<()> {
    if taken::id(id)? {
        return Err(Error::conflict(format!("tenant {id} already exists"), "Choose another id, or leave it out."));
    }
    Ok(())
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

/// Tries the slug, or where none is given those that can be made from the name; `None` is one that is taken.
pub(super) fn name_it(
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

pub(super) fn require_metadata(metadata: &Jsonb) -> Result<()> {
    if !metadata.is_object() {
        return Err(Error::invalid("metadata must be a JSON object", "Wrap the value, as in {\"key\": value}."));
    }
    let (depth, digits) = metadata.depth_and_digits(MAX_BYTES);
    if metadata.size() > MAX_BYTES || digits > MAX_BYTES {
        return Err(Error::invalid("metadata is larger than 16 MB", "Keep what is large in a table of the tenant's."));
    }
    if depth > MAX_LEVELS {
        return Err(Error::invalid(
            format!("metadata is nested deeper than {MAX_LEVELS} levels"),
            "A dump of it could not be restored.",
        ));
    }
    Ok(())
}
