//! Creates, renames and drops a tenant's schema and owner role.

use std::ffi::CString;

use pgrx::Uuid;
use pgrx::prelude::*;

use crate::catalog::Catalog;
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::model::owner_role;
use crate::pg::locks::ObjectLock;
use crate::pg::sql::{Command, Ident, List, QualifiedName, command};
use crate::pg::{any_row, attempt_any, execute, guc, query, roles};
use crate::protection::OwnDdl;
use crate::protection::grants::{TABLE_PRIVILEGES, USERS};

/// Creates the owner role and the schema, with its grants.
pub fn create(catalog: &Catalog, tenant: &Tenant) -> Result<()> {
    let role_name = owner_role(tenant.id);
    if owner_role_oid(tenant)?.is_some() {
        // The role may have members, who would own the new tenant's tables.
        return Err(Error::conflict(
            format!("role \"{role_name}\" already exists"),
            "Choose another id. Roles are shared by all databases of the cluster.",
        ));
    }
    create_owner_role(catalog, tenant)?;
    let (schema, role) = (Ident::new(&tenant.schema_name), Ident::new(&role_name));
    execute(catalog.scope(), &command!("CREATE SCHEMA {} AUTHORIZATION {}", schema, role))?;
    grant_schema(catalog, tenant)
}

pub fn create_owner_role(catalog: &Catalog, tenant: &Tenant) -> Result<()> {
    let role = Ident::new(owner_role(tenant.id));
    execute(catalog.scope(), &command!("CREATE ROLE {} NOLOGIN IN ROLE fluxbase_tenant_owner", role))?;
    release_group()
}

/// Releases the lock on the group of the owner roles that adding one of them has acquired. Otherwise every other
/// transaction that creates a tenant would wait for this one to end.
pub(super) fn release_group() -> Result<()> {
    let group = roles::by_name(c"fluxbase_tenant_owner")
        .ok_or_else(|| Error::internal("role fluxbase_tenant_owner does not exist"))?;
    ObjectLock::release_after_grant(group);
    Ok(())
}

/// Grants privileges on the schema, and on the tables that its owner will create in it.
pub fn grant_schema(catalog: &Catalog, tenant: &Tenant) -> Result<()> {
    let schema = Ident::new(&tenant.schema_name);
    execute(catalog.scope(), &command!("GRANT USAGE ON SCHEMA {} TO {}", schema, USERS))?;
    execute(catalog.scope(), &grant_of_tables(tenant))
}

/// Returns the command that grants privileges on the tables that the owner will create.
pub fn grant_of_tables(tenant: &Tenant) -> Command {
    command!(
        "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA {} GRANT {} ON TABLES TO {}",
        Ident::new(owner_role(tenant.id)),
        Ident::new(&tenant.schema_name),
        TABLE_PRIVILEGES,
        USERS
    )
}

/// Renames the schema, also in the search_path of its routines.
pub fn rename(catalog: &Catalog, from: &str, to: &str) -> Result<()> {
    if from == to {
        return Ok(());
    }
    execute(catalog.scope(), &command!("ALTER SCHEMA {} RENAME TO {}", Ident::new(from), Ident::new(to)))?;
    for Routine { signature, path } in routines_with_path(catalog, to)? {
        let names = guc::names_in_list(&path)?;
        if names.iter().any(|name| name == from) {
            let renamed = names.iter().map(|name| Ident::new(if name == from { to } else { name.as_str() }));
            let path = List(renamed.collect());
            execute(catalog.scope(), &command!("ALTER ROUTINE {} SET search_path = {}", signature, path))?;
        }
    }
    Ok(())
}

struct Routine {
    signature: QualifiedName,
    path: String,
}

/// Returns the schema's routines that set a search_path. It contains the schema's name as text if the routine was
/// created with `SET search_path FROM CURRENT`, and ALTER SCHEMA ... RENAME does not change it.
fn routines_with_path(catalog: &Catalog, schema: &str) -> Result<Vec<Routine>> {
    query(
        catalog.scope(),
        "SELECT p.oid::regprocedure::text, substr(c.setting, 13) FROM pg_proc p CROSS JOIN LATERAL unnest(p.proconfig) AS c (setting)
         WHERE p.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1::text::name) AND p.prokind <> 'a'
           AND c.setting LIKE 'search\\_path=%'",
        &[schema.into()],
        |row| Ok(Routine { signature: row.need(1)?, path: row.need(2)? }),
    )
}

/// Drops the schema with everything in it.
pub fn drop_schema(catalog: &Catalog, tenant: &Tenant) -> Result<()> {
    // Otherwise PostgreSQL would send the client a notice that lists the tenant's objects.
    let quiet = guc::Scope::open();
    quiet.set(c"client_min_messages", "warning")?;
    execute(catalog.scope(), &command!("DROP SCHEMA IF EXISTS {} CASCADE", Ident::new(&tenant.schema_name)))
}

/// Drops the owner role, the objects that it owns, and the privileges granted to it. Returns false if it could not be
/// dropped. Any role can grant it a privilege, which locks the role and the object until the granting transaction ends.
/// `lock_timeout` limits each wait for such a lock.
pub fn drop_owner_role(catalog: &Catalog, tenant_id: Uuid, lock_timeout: &str) -> Result<bool> {
    let Some(oid) = role_oid(tenant_id)? else {
        return Ok(true);
    };
    let role = Ident::new(owner_role(tenant_id));
    let is_kept = attempt_any(|| {
        let scope = guc::Scope::open();
        scope.set(c"lock_timeout", lock_timeout)?;
        let _own = OwnDdl::begin();
        execute(catalog.scope(), &command!("DROP OWNED BY {} CASCADE", &role))?;
        let is_kept = owns_in_other_databases(catalog, oid)?;
        if !is_kept {
            execute(catalog.scope(), &command!("DROP ROLE {}", &role))?;
        }
        Ok(is_kept)
    })?;
    if is_kept == Some(true) {
        ereport!(
            NOTICE,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("role {role} is kept: objects in another database depend on it")
        );
    }
    Ok(is_kept.is_some())
}

/// Reports whether other roles have granted the owner role so many privileges that dropping it is left to the removal
/// worker: each object may be locked, and PostgreSQL waits for one lock after another.
pub fn owner_role_has_many_grants(catalog: &Catalog, tenant_id: Uuid) -> Result<bool> {
    let Some(oid) = role_oid(tenant_id)? else {
        return Ok(false);
    };
    any_row(
        catalog.scope(),
        "SELECT 1 FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1 OFFSET 4 LIMIT 1",
        &[oid.into()],
    )
}

/// Returns the tenant's owner role, if it exists.
pub fn owner_role_oid(tenant: &Tenant) -> Result<Option<pg_sys::Oid>> {
    role_oid(tenant.id)
}

pub(super) fn role_oid(tenant_id: Uuid) -> Result<Option<pg_sys::Oid>> {
    let name = CString::new(owner_role(tenant_id)).map_err(|_| Error::internal("role name contains a zero byte"))?;
    Ok(roles::by_name(&name))
}

fn owns_in_other_databases(catalog: &Catalog, role: pg_sys::Oid) -> Result<bool> {
    any_row(
        catalog.scope(),
        "SELECT 1 FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = $1
         AND dbid NOT IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) LIMIT 1",
        &[role.into()],
    )
}
