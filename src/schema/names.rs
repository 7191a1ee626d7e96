//! Chooses the names of new schemas.

use pgrx::Uuid;

use crate::catalog::taken;
use crate::error::{Error, Result};
use crate::model::{Slug, cut, ids};
use crate::settings::{self, SchemaNaming};

/// PostgreSQL truncates longer identifiers.
const MAX_IDENTIFIER: usize = 63;

/// Returns a free schema name for a tenant. `own` is the name of the schema that it already has, which counts as free.
pub fn schema_name(slug: &Slug, id: Uuid, own: Option<&str>) -> Result<String> {
    let is_free = |name: &str| -> Result<bool> { Ok(own == Some(name) || !taken::schema(name)?) };
    let prefix = settings::schema_prefix();
    let hex = ids::hex(id);
    let base = match settings::schema_naming() {
        SchemaNaming::Slug => format!("{prefix}{}", slug.as_str().replace('-', "_")),
        SchemaNaming::Id => format!("{prefix}{hex}"),
    };
    if prefix.starts_with("pg_") {
        return Err(Error::invalid(
            "setting \"fluxbase_tenant.schema_prefix\" must not begin with \"pg_\"",
            "Names with that prefix are reserved for system schemas. Choose another prefix.",
        ));
    }
    if base.len() <= MAX_IDENTIFIER && is_free(&base)? {
        return Ok(base);
    }
    // The last digits of a version 7 uuid are random. The first ones are a timestamp.
    for digits in [8, 16, 32] {
        let suffix = format!("_{}", &hex[hex.len() - digits..]);
        let name = format!("{}{suffix}", cut(&base, MAX_IDENTIFIER - suffix.len()));
        if is_free(&name)? {
            return Ok(name);
        }
    }
    Err(Error::conflict(
        format!("schema name \"{base}\" is taken"),
        "Rename the schema of that name, or change fluxbase_tenant.schema_prefix.",
    ))
}
