//! What an event trigger refuses after a command: objects of others that hang on what is in a tenant's schema. Names there are
//! refused first; a constant of type regclass, by number, names without one, and whoever made it would keep the tenant's migrations
//! from changing what it hangs on.

use crate::access::owner_roles;
use crate::catalog::{Catalog, relations};
use crate::error::{Error, Result};
use crate::isolation::check;
use crate::pg::roles;

pub fn refuse_out_of_reach() -> Result<()> {
    let role = roles::current();
    // An owner role's are in its tenant's schema.
    if roles::is_superuser(role) || owner_roles::tenant_of(role).is_some() {
        return Ok(());
    }
    // Asked as the caller, whom the catalog's scope is not.
    let schemas = relations::schemas_hung_on(&Catalog::latest_after_command()?)?;
    for schema in schemas {
        if check::schema_is_out_of_reach(schema)? {
            return Err(Error::OutOfReach { kind: "schema", name: check::schema_name(schema) });
        }
    }
    Ok(())
}
