//! Checks whether ids, slugs and schema names are in use, and counts tenants, including uncommitted changes of other
//! transactions. The checks do not wait for these transactions, so that one tenant's open transaction cannot block the
//! creation of another tenant. The price is that a transaction that later rolls back reserves its names until then.

use std::collections::HashSet;
use std::ffi::CString;

use pgrx::Uuid;

use super::tenants::{BY_ID, BY_SCHEMA_NAME};
use crate::error::{Error, Result};
use crate::model::{Status, ids};
use crate::pg::scan::{self, Index, Key};
use crate::pg::{Row, roles};
use crate::settings;

const BY_SLUG: Index = Index { schema: c"fluxbase_tenant", table: c"tenants", index: c"tenants_slug_key" };
const SCHEMAS: Index = Index { schema: c"pg_catalog", table: c"pg_namespace", index: c"pg_namespace_nspname_index" };

/// Returns the slug of a spare tenant.
pub fn spare_slug(id: Uuid) -> String {
    format!("spare-{}", ids::hex(id))
}

/// Reports whether a tenant with the id exists, or an open transaction is adding one.
pub fn id(id: Uuid) -> Result<bool> {
    scan::is_taken(&BY_ID, &[Key::uuid(1, id)?])
}

/// Reports whether a tenant has the slug, or an open transaction is assigning it to one.
pub fn slug(slug: &str) -> Result<bool> {
    scan::is_taken(&BY_SLUG, &[Key::text(2, slug)?])
}

/// Reports whether the name is unavailable for a new tenant schema. It is unavailable if a schema has the name, if an
/// open transaction is creating one, or if the name is reserved for a role: a schema named like a role is on that
/// role's default search_path ("$user"). Names of superusers are always reserved. Names of other roles are reserved
/// only if schema names have no prefix, because then the user who chooses a slug chooses the whole name.
pub fn schema(schema: &str) -> Result<bool> {
    let name = CString::new(schema).map_err(|_| Error::internal("schema name contains a zero byte"))?;
    let is_slug = settings::schema_prefix().is_empty();
    if roles::by_name(&name).is_some_and(|role| is_slug || roles::is_superuser(role)) {
        return Ok(true);
    }
    Ok(scan::is_taken(&BY_SCHEMA_NAME, &[Key::name(4, &name)?])? || scan::is_taken(&SCHEMAS, &[Key::name(2, &name)?])?)
}

/// Returns the number of tenants, without deleted and spare ones, including those that open transactions may add or
/// keep.
pub fn count() -> Result<i64> {
    let id = |row: &Row| {
        let id: Uuid = row.need(1)?;
        // A spare tenant does not have the status `spare` until it is complete, so recognize it by its slug.
        let is_spare = row.need::<String>(2)? == spare_slug(id);
        let lives = matches!(Status::parse(&row.need::<String>(5)?)?, Status::Active | Status::Suspended);
        Ok((lives && !is_spare).then_some(id))
    };
    let ids = scan::all_uncommitted(c"fluxbase_tenant", c"tenants", id)?;
    Ok(ids.into_iter().flatten().collect::<HashSet<_>>().len() as i64)
}
