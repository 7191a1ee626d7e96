//! What others hung on a tenant's schema while they were members: DROP SCHEMA takes it along, but for too much of it.

use std::collections::HashSet;
use std::ffi::CString;

use pgrx::{PgSqlErrorCode, Uuid, ereport, pg_sys};

use super::provision::{drop, role_oid};
use crate::catalog::Catalog;
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::pg::dependencies::{self, Dependents, Object};
use crate::pg::locks::unless_locked;
use crate::pg::sql::{Ident, command};
use crate::pg::{attempt, catalogs, execute, query};
use crate::protection::OwnDdl;
use crate::protection::grants::USERS;

/// Objects elsewhere that DROP SCHEMA takes along. It looks at one that depends on another one within the other, and locks all.
const MAX_DEPENDENTS: usize = 500;

/// What the server says where others change what is in a schema meanwhile (an internal error), and where an extension would be taken along.
const DISTURBED: [PgSqlErrorCode; 2] =
    [PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST];
/// The same, and what it says of too much at once, which is others' doing where they hung something there.
const HINDERED: [PgSqlErrorCode; 4] = [
    PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
    PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
    PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX,
    PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
];

/// With what somebody has locked in the schema: anybody may lock a sequence by its number.
const LOCK_WAIT: &str = "2s";

/// Drops the schema for good, with all that is in it and hangs on it; false where that is for the background, piece by piece: so much of
/// others' hangs on it, what the server refuses to take along, or what somebody has locked.
pub fn drop_with_dependents(catalog: &Catalog, tenant: &Tenant) -> Result<bool> {
    let forgiven: &[PgSqlErrorCode] = match burden(tenant)? {
        Burden::None => &DISTURBED,
        Burden::Some => &HINDERED,
        Burden::TooMuch => return Ok(false),
    };
    let extensions = extensions(catalog)?;
    let drop_alone = || {
        drop(catalog, tenant)?;
        // An object may have joined an extension while the server waited for it.
        if !self::extensions(catalog)?.is_superset(&extensions) {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
                "an extension hangs on the schema of the tenant"
            );
        }
        Ok(())
    };
    Ok(unless_locked(LOCK_WAIT, || attempt(drop_alone, forgiven))?.flatten().is_some())
}

fn extensions(catalog: &Catalog) -> Result<HashSet<pg_sys::Oid>> {
    Ok(query(catalog.scope(), "SELECT oid FROM pg_extension", &[], |row| row.need(1))?.into_iter().collect())
}

/// What others hung on a schema.
enum Burden {
    None,
    Some,
    TooMuch,
}

fn burden(tenant: &Tenant) -> Result<Burden> {
    let name = CString::new(&*tenant.schema_name).map_err(|_| Error::internal("a zero byte in a schema name"))?;
    let Some(schema) = catalogs::schema_by_name(&name) else {
        return Ok(Burden::None);
    };
    let Dependents { objects, parts, are_all } = dependencies::dependents_of_schema(schema, MAX_DEPENDENTS)?;
    // A view has a rule and two types.
    if !are_all || objects.len() > MAX_DEPENDENTS || parts > MAX_DEPENDENTS * 4 {
        return Ok(Burden::TooMuch);
    }
    for object in &objects {
        if object.is_of_extension()? {
            return Ok(Burden::TooMuch);
        }
    }
    Ok(if objects.is_empty() { Burden::None } else { Burden::Some })
}

/// Nobody uses it from now on, also where the library is not loaded; but where somebody has locked what is granted on it.
pub fn close(catalog: &Catalog, tenant: &Tenant) -> Result<()> {
    let revoke = command!("REVOKE ALL ON SCHEMA {} FROM {}", Ident::new(&tenant.schema_name), USERS);
    unless_locked(LOCK_WAIT, || attempt(|| execute(catalog.scope(), &revoke), &DISTURBED))?;
    Ok(())
}

/// What hangs on the schemas of a tenant that is gone; each comes before what it depends on.
pub fn external_dependents(catalog: &Catalog, tenant_id: Uuid) -> Result<Vec<Object>> {
    let Some(role) = role_oid(tenant_id)? else {
        return Ok(Vec::new());
    };
    let schemas: Vec<pg_sys::Oid> =
        query(catalog.scope(), "SELECT oid FROM pg_namespace WHERE nspowner = $1", &[role.into()], |row| row.need(1))?;
    let mut external_dependents = Vec::new();
    for schema in schemas {
        external_dependents.extend(dependencies::dependents_of_schema(schema, usize::MAX)?.objects);
    }
    Ok(external_dependents)
}

/// Has all that hangs on a tenant leave the extensions that it was put into, which others may use: of objects that depend on each other
/// DROP takes one along with the other.
pub fn leave_extensions(objects: &[Object]) -> Result<()> {
    objects.iter().copied().try_for_each(Object::leave_extension)
}

/// Whether what still hangs on the tenant is of an extension, which CASCADE would take along.
pub fn has_dependents_of_extensions(catalog: &Catalog, tenant_id: Uuid) -> Result<bool> {
    for object in external_dependents(catalog, tenant_id)? {
        if object.is_of_extension()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Those of the objects that still hang on the tenant: their owners may have changed them.
pub fn drop_dependents(catalog: &Catalog, tenant_id: Uuid, objects: &[Object]) -> Result<()> {
    let _own = OwnDdl::begin();
    objects.iter().copied().for_each(Object::lock);
    let external_dependents: HashSet<_> = external_dependents(catalog, tenant_id)?.into_iter().collect();
    // CASCADE would take along an extension that one of them has joined meanwhile.
    for object in &external_dependents {
        if object.is_of_extension()? {
            object.lock();
            object.leave_extension()?;
        }
    }
    objects.iter().copied().filter(|object| external_dependents.contains(object)).try_for_each(Object::drop_cascade)
}
