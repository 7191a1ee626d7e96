//! Spare tenants, which are created in advance with schema, owner role, grants and migrations. `tenant_create()` uses
//! one and only changes its names.

use pgrx::{PgSqlErrorCode, Uuid};

use super::deletion::destroy;
use super::provision::{provision, within_limit};
use crate::access::InstancePermit;
use crate::catalog::migrations::Migration;
use crate::catalog::tenants::{self, NewTenant, Tenant};
use crate::catalog::{Catalog, applied, spares, taken};
use crate::error::{Error, Result};
use crate::migrations::{self, Nontransactional};
use crate::model::{Slug, ids};
use crate::pg::locks::{ObjectLock, with_lock_wait};
use crate::pg::{Jsonb, attempt};
use crate::schema;
use crate::settings::{self, MAX_SPARES};

/// Limit on lock waits for spares that another transaction is using.
const LOCK_WAIT: &str = "2s";

/// The number of spares that were created, migrated and dropped.
#[derive(Default)]
pub struct Filled {
    pub made: i32,
    pub migrated: i32,
    pub dropped: i32,
}

/// Turns a spare into the tenant with these names. Returns `None` if the slug or the schema name is taken.
pub fn rename(
    catalog: &Catalog,
    spare: &Tenant,
    slug: &Slug,
    name: &str,
    metadata: Option<Jsonb>,
) -> Result<Option<Tenant>> {
    let schema_name = schema::schema_name(slug, spare.id, Some(&spare.schema_name))?;
    let new = NewTenant { id: spare.id, slug: slug.as_str(), name, schema_name: &schema_name, metadata };
    // A transaction that took the slug may have committed since.
    let become_tenant = || {
        let is_free =
            !taken::slug(slug.as_str())? && (schema_name == spare.schema_name || !taken::schema(&schema_name)?);
        if is_free { spares::become_tenant(catalog, &new) } else { Ok(None) }
    };
    let Some(tenant) = within_limit(|| attempt(become_tenant, &[PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION]))?.flatten()
    else {
        return Ok(None);
    };
    schema::rename(catalog, &spare.schema_name, &schema_name)?;
    Ok(Some(tenant))
}

/// Creates or drops spares until there are as many as wanted, in the caller's transaction.
pub fn fill(catalog: &Catalog, _permit: &InstancePermit, wanted: Option<i32>) -> Result<Filled> {
    let wanted = wanted.unwrap_or_else(settings::spare_tenants);
    if !(0..=MAX_SPARES).contains(&wanted) {
        return Err(Error::invalid(
            format!("the number of spare tenants must be between 0 and {MAX_SPARES}"),
            "A few are enough: each spare that is used is replaced in the background.",
        ));
    }
    ObjectLock::of_spares().take();
    let mut filled = Filled::default();
    while fill_one(catalog, wanted, &mut filled)? {}
    while spares::count(catalog)? > i64::from(wanted)
        && let Some(spare) = spares::take(catalog)?
    {
        destroy(catalog, spare)?;
        filled.dropped += 1;
    }
    Ok(filled)
}

/// Drops one broken spare, migrates one or creates one. Returns false if nothing is necessary. The caller must hold the lock on spare
/// tenants.
pub fn fill_one(catalog: &Catalog, wanted: i32, filled: &mut Filled) -> Result<bool> {
    if let Some(broken) = spares::take_broken(catalog)? {
        destroy(catalog, broken)?;
        filled.dropped += 1;
        return Ok(true);
    }
    if let Some(stale) = spares::take_stale(catalog)? {
        migrate_spare(catalog, stale)?;
        filled.migrated += 1;
        return Ok(true);
    }
    if spares::count(catalog)? >= i64::from(wanted) {
        return Ok(false);
    }
    let id = ids::new();
    let slug = Slug::parse(&taken::spare_slug(id))?;
    let tenant = provision(catalog, Some(id), Some(slug), "spare", None)?;
    migrate_spare(catalog, tenant)?;
    filled.made += 1;
    Ok(true)
}

/// Reports whether there are fewer spares than wanted.
pub fn is_short(catalog: &Catalog, wanted: i32) -> Result<bool> {
    Ok(spares::count(catalog)? < i64::from(wanted))
}

/// Applies the pending migrations while the row is marked as an ordinary tenant, then marks it as a spare.
fn migrate_spare(catalog: &Catalog, tenant: Tenant) -> Result<()> {
    spares::set_spare(catalog, tenant.id, false)?;
    let tenant = tenants::by_id(catalog, tenant.id)?.ok_or_else(Error::tenant_not_found)?;
    let tenant = migrations::migrate(catalog, tenant, None, None, Nontransactional::InTransaction)?.tenant;
    if let Some(object) = schema::object_with_own_name(catalog, &tenant)? {
        return Err(Error::conflict(
            format!("spare tenants are not possible: {object} contains the name of its schema"),
            "It would not be renamed with the schema. Let migrations and functions use current_schema() when they run, or \
             set fluxbase_tenant.spare_tenants to 0.",
        ));
    }
    spares::set_spare(catalog, tenant.id, true)
}

/// Unregisters a migration. Here and not in `migrations`, which is a lower layer, because it drops spares. Drops the
/// spares that have applied it: only tenants that have applied it are a reason to refuse.
pub fn unregister_migration(catalog: &Catalog, permit: &InstancePermit, version: &str) -> Result<Migration> {
    // Check this first, because it does not have to wait for locks.
    let spares = spares::with_migration(catalog, version)?;
    migrations::refuse_applied(version, applied::tenants_with(catalog, version)? - spares.len() as i64)?;
    let discard = || spares.into_iter().try_for_each(|id| discard(catalog, id));
    with_lock_wait(LOCK_WAIT, discard)?.ok_or_else(|| migrations::being_applied(version))?;
    migrations::unregister(catalog, permit, version)
}

fn discard(catalog: &Catalog, id: Uuid) -> Result<()> {
    if let Some(spare) = tenants::lock(catalog, id)? {
        destroy(catalog, spare)?;
    }
    Ok(())
}
