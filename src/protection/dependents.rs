//! What an event trigger refuses after a command: objects of others that hang on what is in a tenant's schema. Names there are
//! refused first; a constant of type regclass, by number, names without one, and whoever made it would keep the tenant's migrations
//! from changing what it hangs on.

use pgrx::Uuid;

use crate::access::owner_roles;
use crate::catalog::{Catalog, relations};
use crate::error::{Error, Result};
use crate::isolation::check;
use crate::pg::roles;

/// `may_be_elsewhere`: whether the command makes, moves or gives away what need not be in a schema that the command names.
pub fn after_any_command(may_be_elsewhere: bool) -> Result<()> {
    let role = roles::current();
    if roles::is_superuser(role) {
        return Ok(());
    }
    match owner_roles::tenant_of(role) {
        Some(tenant) if may_be_elsewhere => refuse_elsewhere(tenant),
        Some(_) => Ok(()),
        None => refuse_inaccessible(),
    }
}

/// What an owner role owns is dropped with its tenant, and others would come to use what is elsewhere.
fn refuse_elsewhere(tenant: Uuid) -> Result<()> {
    match relations::created_elsewhere(&Catalog::latest_after_command()?, tenant)? {
        None => Ok(()),
        Some(object) => Err(Error::forbidden(
            format!("make {object} outside the tenant's schema"),
            "It would be dropped with the tenant. Let an administrator make what all tenants use, once.",
        )),
    }
}

fn refuse_inaccessible() -> Result<()> {
    // Asked as the caller, whom the catalog's scope is not.
    let schemas = relations::schemas_depended_on(&Catalog::latest_after_command()?)?;
    for schema in schemas {
        if check::schema_is_inaccessible(schema)? {
            return Err(Error::Inaccessible { kind: "schema", name: check::schema_name(schema) });
        }
    }
    Ok(())
}
