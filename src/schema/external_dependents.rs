//! External dependents: objects outside a tenant schema that depend on it, such as views that members have created
//! elsewhere. DROP SCHEMA ... CASCADE drops them too. If there are too many for that, the removal worker drops them in
//! batches.

use std::collections::HashSet;
use std::ffi::CString;

use pgrx::{PgSqlErrorCode, Uuid, ereport, pg_sys};

use super::provision::{drop_schema, role_oid};
use crate::catalog::Catalog;
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::pg::dependencies::{self, Dependents, Object};
use crate::pg::locks::unless_locked;
use crate::pg::sql::{Ident, command};
use crate::pg::{attempt, catalogs, execute, query};
use crate::protection::OwnDdl;
use crate::protection::grants::USERS;

/// Maximum number of external dependents that are dropped by DROP SCHEMA, which recurses into chains of dependencies
/// and locks all objects.
const MAX_DEPENDENTS: usize = 500;

/// Errors that do not make a deletion fail: PostgreSQL raises an internal error if another transaction changes an object
/// in the schema concurrently, the second one if an extension would have to be dropped, and the third one if an object
/// is too deeply nested.
const TOLERATED: [PgSqlErrorCode; 3] = [
    PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
    PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
    PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX,
];
/// The errors in `TOLERATED`, and the one because of too many locks, which other roles can cause by creating external
/// dependents. Without such objects, the caller has to raise max_locks_per_transaction.
const TOLERATED_WITH_DEPENDENTS: [PgSqlErrorCode; 4] = [
    PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
    PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
    PgSqlErrorCode::ERRCODE_STATEMENT_TOO_COMPLEX,
    PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
];

/// Limit on lock waits for objects in the schema: any role can lock a sequence by its OID.
const LOCK_WAIT: &str = "2s";

/// Drops the schema with everything in it and its external dependents. Returns false if that is left to the removal
/// worker: because there are too many dependents, PostgreSQL refuses to drop one, or another transaction has locked
/// one.
pub fn drop_with_dependents(catalog: &Catalog, tenant: &Tenant) -> Result<bool> {
    let tolerated: &[PgSqlErrorCode] = match dependents(tenant)? {
        HasDependents::No => &TOLERATED,
        HasDependents::Few => &TOLERATED_WITH_DEPENDENTS,
        HasDependents::ForWorker => return Ok(false),
    };
    let extensions = extensions(catalog)?;
    let drop_without_extensions = || {
        drop_schema(catalog, tenant)?;
        // A dependent may have been added to an extension while PostgreSQL waited for a lock, and the extension
        // dropped.
        if !self::extensions(catalog)?.is_superset(&extensions) {
            ereport!(
                ERROR,
                PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
                "an extension depends on the schema of the tenant"
            );
        }
        Ok(())
    };
    Ok(unless_locked(LOCK_WAIT, || attempt(drop_without_extensions, tolerated))?.flatten().is_some())
}

fn extensions(catalog: &Catalog) -> Result<HashSet<pg_sys::Oid>> {
    Ok(query(catalog.scope(), "SELECT oid FROM pg_extension", &[], |row| row.need(1))?.into_iter().collect())
}

/// Whether a schema has external dependents.
enum HasDependents {
    No,
    Few,
    /// Too many for DROP SCHEMA, or objects of an extension, which first have to be removed from it.
    ForWorker,
}

fn dependents(tenant: &Tenant) -> Result<HasDependents> {
    let name = CString::new(&*tenant.schema_name).map_err(|_| Error::internal("schema name contains a zero byte"))?;
    let Some(schema) = catalogs::schema_by_name(&name) else {
        return Ok(HasDependents::No);
    };
    let Dependents { objects, parts, is_complete } = dependencies::dependents_of_schema(schema, MAX_DEPENDENTS)?;
    // Even a single view has three parts: a rule and two types.
    if !is_complete || objects.len() > MAX_DEPENDENTS || parts > MAX_DEPENDENTS * 4 {
        return Ok(HasDependents::ForWorker);
    }
    for object in &objects {
        if object.is_of_extension()? {
            return Ok(HasDependents::ForWorker);
        }
    }
    Ok(if objects.is_empty() { HasDependents::No } else { HasDependents::Few })
}

/// Revokes all privileges on the schema, so that sessions without the library cannot use it either. Skipped if another
/// transaction has locked the schema's row in pg_namespace.
pub fn revoke_access(catalog: &Catalog, tenant: &Tenant) -> Result<()> {
    let revoke = command!("REVOKE ALL ON SCHEMA {} FROM {}", Ident::new(&tenant.schema_name), USERS);
    unless_locked(LOCK_WAIT, || attempt(|| execute(catalog.scope(), &revoke), &TOLERATED))?;
    Ok(())
}

/// Returns the external dependents of a deleted tenant's schema. Each comes before the objects that it depends on.
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

/// Removes the objects from the extensions that they were added to. Otherwise CASCADE would drop these extensions,
/// which other roles may use. All objects are removed first, because dropping one also drops those that depend on it.
pub fn leave_extensions(objects: &[Object]) -> Result<()> {
    objects.iter().copied().try_for_each(Object::leave_extension)
}

/// Reports whether an object that still depends on the tenant belongs to an extension, which CASCADE would drop.
pub fn has_dependents_of_extensions(catalog: &Catalog, tenant_id: Uuid) -> Result<bool> {
    for object in external_dependents(catalog, tenant_id)? {
        if object.is_of_extension()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Drops these objects, except those that no longer depend on the tenant because their owners have changed them.
pub fn drop_dependents(catalog: &Catalog, tenant_id: Uuid, objects: &[Object]) -> Result<()> {
    let _own = OwnDdl::begin();
    objects.iter().copied().for_each(Object::lock);
    let external_dependents: HashSet<_> = external_dependents(catalog, tenant_id)?.into_iter().collect();
    // CASCADE would drop an extension that one of them has been added to concurrently.
    for object in &external_dependents {
        if object.is_of_extension()? {
            object.lock();
            object.leave_extension()?;
        }
    }
    objects.iter().copied().filter(|object| external_dependents.contains(object)).try_for_each(Object::drop_cascade)
}
