//! What is taken: names, ids and the limit of tenants, also by transactions that have not ended. Whoever asks does not wait for these to
//! say whether another tenant may have it; one that is rolled back has kept it from others for as long as it took.

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

/// What a spare is called until it is a tenant.
pub fn spare_slug(id: Uuid) -> String {
    format!("spare-{}", ids::hex(id))
}

/// Whether there is a tenant with the id, or a transaction that has not ended is adding one.
pub fn id(id: Uuid) -> Result<bool> {
    scan::is_taken(&BY_ID, &[Key::uuid(1, id)?])
}

/// Whether another tenant has the slug, or a transaction that has not ended is giving it to one.
pub fn slug(slug: &str) -> Result<bool> {
    scan::is_taken(&BY_SLUG, &[Key::text(2, slug)?])
}

/// The same for a schema's name, which others may have taken too. One that is named like a role is on that one's search_path: a
/// superuser's in no case, and no other's where the name is a slug alone.
pub fn schema(schema: &str) -> Result<bool> {
    let name = CString::new(schema).map_err(|_| Error::internal("a zero byte in a schema name"))?;
    let is_slug = settings::schema_prefix().is_empty();
    if roles::by_name(&name).is_some_and(|role| is_slug || roles::is_superuser(role)) {
        return Ok(true);
    }
    Ok(scan::is_taken(&BY_SCHEMA_NAME, &[Key::name(4, &name)?])? || scan::is_taken(&SCHEMAS, &[Key::name(2, &name)?])?)
}

/// How many tenants there are, deleted ones not counted, or may be when all that are running have committed.
pub fn count() -> Result<i64> {
    let id = |row: &Row| {
        let id: Uuid = row.need(1)?;
        // A spare that is being made is no spare yet by its status.
        let is_spare = row.need::<String>(2)? == spare_slug(id);
        let lives = matches!(Status::parse(&row.need::<String>(5)?)?, Status::Active | Status::Suspended);
        Ok((lives && !is_spare).then_some(id))
    };
    let ids = scan::all_uncommitted(c"fluxbase_tenant", c"tenants", id)?;
    Ok(ids.into_iter().flatten().collect::<HashSet<_>>().len() as i64)
}
