//! What others hung on a tenant's schema while they were members: DROP SCHEMA takes it along, but for too much of it.

use std::collections::HashSet;
use std::ffi::CString;

use pgrx::{PgSqlErrorCode, Uuid, ereport, pg_sys};

use super::provision::{drop, role_oid};
use crate::catalog::Catalog;
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::pg::dependencies::{self, Hanging, Object};
use crate::pg::locks::unless_locked;
use crate::pg::sql::{Ident, command};
use crate::pg::{attempt, catalogs, execute, query};
use crate::protection::OwnDdl;
use crate::protection::grants::USERS;

/// Objects elsewhere that DROP SCHEMA takes along. It looks at one that depends on another one within the other, and locks all.
const MOST_HANGING: usize = 500;

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
const PATIENCE: &str = "2s";

/// Drops the schema for good, with all that is in it and hangs on it; false where that is for the background, piece by piece: so much of
/// others' hangs on it, what the server refuses to take along, or what somebody has locked.
pub fn drop_with_hanging(catalog: &Catalog, tenant: &Tenant) -> Result<bool> {
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
    Ok(unless_locked(PATIENCE, || attempt(drop_alone, forgiven))?.flatten().is_some())
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
    let Hanging { objects, parts, are_all } = dependencies::hanging_on_schema(schema, MOST_HANGING)?;
    // A view has a rule and two types.
    if !are_all || objects.len() > MOST_HANGING || parts > MOST_HANGING * 4 {
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
    unless_locked(PATIENCE, || attempt(|| execute(catalog.scope(), &revoke), &DISTURBED))?;
    Ok(())
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
        hanging.extend(dependencies::hanging_on_schema(schema, usize::MAX)?.objects);
    }
    Ok(hanging)
}

/// Has all that hangs on a tenant leave the extensions that it was put into, which others may use: of objects that depend on each other
/// DROP takes one along with the other.
pub fn leave_extensions(objects: &[Object]) -> Result<()> {
    objects.iter().copied().try_for_each(Object::leave_extension)
}

/// Whether what still hangs on the tenant is of an extension, which CASCADE would take along.
pub fn hangs_by_extension(catalog: &Catalog, tenant_id: Uuid) -> Result<bool> {
    for object in hanging(catalog, tenant_id)? {
        if object.is_of_extension()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Those of the objects that still hang on the tenant: their owners may have changed them.
pub fn drop_hanging(catalog: &Catalog, tenant_id: Uuid, objects: &[Object]) -> Result<()> {
    let _own = OwnDdl::begin();
    objects.iter().copied().for_each(Object::lock);
    let hanging: HashSet<_> = hanging(catalog, tenant_id)?.into_iter().collect();
    // CASCADE would take along an extension that one of them has joined meanwhile.
    for object in &hanging {
        if object.is_of_extension()? {
            object.lock();
            object.leave_extension()?;
        }
    }
    objects.iter().copied().filter(|object| hanging.contains(object)).try_for_each(Object::drop_cascade)
}
