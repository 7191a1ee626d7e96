//! What others hung on a tenant's schema while they were members: DROP SCHEMA takes it along, but for too much of it.

use std::collections::HashSet;
use std::ffi::CString;

use pgrx::spi::quote_identifier;
use pgrx::{Uuid, pg_sys};

use super::provision::{USERS, role_oid};
use crate::catalog::Catalog;
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::isolation::ddl::OwnDdl;
use crate::pg::dependencies::{self, Object};
use crate::pg::{execute, query};

/// Objects elsewhere that DROP SCHEMA takes along. It looks at one that depends on another one within the other, and locks all.
const MOST_HANGING: usize = 500;

/// Whether so much of others' hangs on the schema, or what DROP refuses to take along, that to drop it is for the background, piece by
/// piece.
pub fn is_burdened(tenant: &Tenant) -> Result<bool> {
    let name = CString::new(&*tenant.schema_name).map_err(|_| Error::internal("a zero byte in a schema name"))?;
    // SAFETY: a lookup by C string; missing_ok.
    let schema = unsafe { pg_sys::get_namespace_oid(name.as_ptr(), true) };
    if schema == pg_sys::InvalidOid {
        return Ok(false);
    }
    let hanging = dependencies::hanging_on_schema(schema, MOST_HANGING)?;
    let are_of_extensions = hanging.iter().copied().map(Object::is_of_extension).collect::<Result<Vec<_>>>()?;
    Ok(hanging.len() > MOST_HANGING || are_of_extensions.contains(&true))
}

/// Nobody uses it from now on.
pub fn close(catalog: &Catalog, tenant: &Tenant) -> Result<()> {
    let schema = quote_identifier(&tenant.schema_name);
    execute(catalog.scope(), &format!("REVOKE ALL ON SCHEMA {schema} FROM {USERS}"))
}

/// What hangs on the schemas of a tenant that is gone; each comes before what it depends on.
pub fn hanging(catalog: &Catalog, tenant_id: Uuid) -> Result<Vec<Object>> {
    let Some(role) = role_oid(tenant_id)? else {
        return Ok(Vec::new());
    };
    let schemas: Vec<pg_sys::Oid> =
        query(catalog.scope(), "SELECT oid FROM pg_namespace WHERE nspowner = $1", &[role.into()], |row| row.need(1))?;
    let mut hanging = Vec::new();
    for schema in schemas {
        hanging.extend(dependencies::hanging_on_schema(schema, usize::MAX)?);
    }
    Ok(hanging)
}

/// Those of the objects that still hang on the tenant: their owners may have changed them.
pub fn drop_hanging(catalog: &Catalog, tenant_id: Uuid, objects: &[Object]) -> Result<()> {
    let _own = OwnDdl::begin();
    objects.iter().copied().for_each(Object::lock);
    let hanging: HashSet<_> = hanging(catalog, tenant_id)?.into_iter().collect();
    objects.iter().copied().filter(|object| hanging.contains(object)).try_for_each(Object::drop_cascade)
}
