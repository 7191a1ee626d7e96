//! The event trigger that refuses, at the end of a command, objects that depend on what is in another tenant's schema.
//! Names in such a schema have been refused earlier. But a constant of type regclass can contain an OID instead of a
//! name, and the object that contains it would keep that tenant's migrations from changing what it depends on.

use pgrx::Uuid;

use super::grants;
use crate::access::{self, owner_roles};
use crate::catalog::{Catalog, relations, tenants};
use crate::error::{Error, Result};
use crate::isolation::check;
use crate::pg::roles;

/// Checks the objects that a command created or changed. `may_be_outside` is whether the command creates, moves or
/// changes the owner of objects that may be in a schema other than the one that the command names.
pub fn after_any_command(may_be_outside: bool) -> Result<()> {
    let role = roles::current();
    if roles::is_superuser(role) {
        return Ok(());
    }
    let Some(tenant) = owner_roles::tenant_of_current(role) else {
        return refuse_inaccessible();
    };
    if may_be_outside {
        refuse_outside_schema(tenant)?;
    }
    // The grants of a migration are checked at its end. Its author could break every tenant's migrations in any case.
    if access::is_sandboxed() {
        return Ok(());
    }
    refuse_grants(tenant)?;
    refuse_inaccessible()
}

/// Refuses grants of an owner role, in a SECURITY DEFINER function for example, that policies do not restrict.
fn refuse_grants(tenant: Uuid) -> Result<()> {
    let catalog = Catalog::latest_after_command()?;
    tenants::by_id(&catalog, tenant)?.map_or(Ok(()), |tenant| grants::refuse_beyond_policies(&catalog, &tenant))
}

/// Refuses objects of an owner role outside its tenant's schema. They would be dropped with the tenant, although other
/// roles may use them at that point.
fn refuse_outside_schema(tenant: Uuid) -> Result<()> {
    match relations::created_elsewhere(&Catalog::latest_after_command()?, tenant)? {
        None => Ok(()),
        Some(object) => Err(Error::forbidden(
            format!("create {object} outside the tenant's schema"),
            "It would be dropped with the tenant. Ask an administrator to create objects that all tenants use.",
        )),
    }
}

/// Refuses objects that depend on an inaccessible schema.
fn refuse_inaccessible() -> Result<()> {
    // Checked after the catalog's scope has ended, because in that scope the current role is not the caller's.
    let schemas = relations::schemas_depended_on(&Catalog::latest_after_command()?)?;
    for schema in schemas {
        if check::schema_is_inaccessible(schema)? {
            return Err(Error::Inaccessible { kind: "schema", name: check::schema_name(schema) });
        }
    }
    Ok(())
}
