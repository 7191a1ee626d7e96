//! What the event trigger before a command refuses: taking privileges from roles of the extension, changing those of a tenant's
//! objects without owning them, and other commands that lock what is not the caller's before they check. GRANT by somebody
//! who may not grant changes nothing and says so, but the server writes the object's row all the same, and keeps it locked
//! until the transaction ends.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::own_ddl::OwnDdl;
use crate::access::{self, owner_roles};
use crate::catalog::{self, Catalog, changes, relations, shared_tables};
use crate::error::{Error, Result};
use crate::isolation::{check, tenant_of};
use crate::model::ids;
use crate::pg::parse_tree::{Objects, RelationName, Statement};
use crate::pg::{catalogs, roles};
use crate::settings;

pub fn permit(statement: &Statement) -> Result<()> {
    if OwnDdl::is_running() {
        return Ok(());
    }
    keep_owner_roles()?;
    keep_path_accessible()?;
    match statement {
        Statement::DropOwned { roles } => {
            keep_roles(roles, "DROP OWNED BY")?;
            keep_what_names_them(roles)
        }
        Statement::ReassignOwned { roles, to } => {
            keep_roles(roles, "REASSIGN OWNED BY")?;
            to.map_or(Ok(()), |heir| keep_role(heir, "REASSIGN OWNED TO"))
        }
        Statement::Policy { roles } => keep_policies(roles),
        _ if roles::is_superuser(roles::current()) => Ok(()),
        Statement::Grant { is_grant, objects } => keep_privileges(*is_grant, objects),
        Statement::AlterDefaultPrivileges { schemas } => keep_default_privileges(schemas),
        // Its elements are commands that start no event trigger.
        Statement::CreateSchema { name, elements } => {
            name.as_deref().map_or(Ok(()), keep_schema_name)?;
            elements.iter().try_for_each(permit)
        }
        Statement::DropSchemas(schemas) => keep_schemas(schemas),
        Statement::RenameSchema { name } => keep_schema_name(name),
        Statement::CreateExtension(schema) => keep_extensions_out(*schema),
        Statement::Other { locks } => keep_unlocked(locks),
    }
}

/// What runs as a tenant's owner role in a session that does not reach the tenant, behind a key, commands nothing.
fn keep_owner_roles() -> Result<()> {
    let role = roles::current();
    match owner_roles::tenant_of(role) {
        Some(tenant) if !access::is_accessible_to_session(role, tenant)? => {
            Err(Error::forbidden("change the schema of this tenant", "Let a migration of the tenant do it."))
        }
        _ => Ok(()),
    }
}

/// Roles that may say who the user is search schemas out of reach, to be told what they forgot. What a command makes must not hang
/// on anything there.
fn keep_path_accessible() -> Result<()> {
    for schema in catalogs::search_path() {
        if check::schema_is_inaccessible(schema)? {
            return Err(Error::Inaccessible { kind: "schema", name: check::schema_name(schema) });
        }
    }
    Ok(())
}

const GROUPS: [&CStr; 4] =
    [c"fluxbase_tenant_user", c"fluxbase_tenant_server", c"fluxbase_tenant_admin", c"fluxbase_tenant_owner"];

/// Members of a role may say that of it, and would take what the role was granted from everybody. A superuser may of a
/// tenant's owner role, where that is left over.
fn keep_roles(named: &[pg_sys::Oid], command: &str) -> Result<()> {
    named.iter().try_for_each(|role| keep_role(*role, command))
}

fn keep_role(role: pg_sys::Oid, command: &str) -> Result<()> {
    let is_group = GROUPS.iter().any(|group| roles::by_name(group) == Some(role));
    let name = roles::name(role);
    if is_group || (ids::of_owner_role(&name).is_some() && !roles::is_superuser(roles::current())) {
        return Err(Error::forbidden(
            format!("{command} {name}"),
            "The extension needs what its roles own and were granted: DROP EXTENSION gives it up, tenant_delete() that of a \
             tenant's owner role.",
        ));
    }
    Ok(())
}

/// Whoever has made a schema and not committed keeps everybody waiting who wants one of that name, a new tenant too.
fn keep_schema_name(name: &str) -> Result<()> {
    let prefix = settings::schema_prefix();
    if !prefix.is_empty() && name.starts_with(&prefix) {
        return Err(Error::forbidden(
            format!("name a schema as those of tenants are named, \"{prefix}...\""),
            "Choose another name, or have a superuser create it.",
        ));
    }
    Ok(())
}

/// The server locks a schema before it asks whose it is.
fn keep_schemas(schemas: &[pg_sys::Oid]) -> Result<()> {
    if any_schema(schemas)? {
        return Err(Error::forbidden(
            "drop a schema of a tenant or of the catalog",
            "tenant_delete() does, for a tenant.",
        ));
    }
    Ok(())
}

/// A policy TO a tenant's owner role locks its table when the role is dropped: with enough of them that is never done.
fn keep_policies(named: &[pg_sys::Oid]) -> Result<()> {
    let current = roles::current();
    let is_others = |role: &&pg_sys::Oid| {
        ids::of_owner_role(&roles::name(**role)).is_some() && !roles::has_privileges_of(current, **role)
    };
    match named.iter().find(is_others) {
        None => Ok(()),
        Some(role) => Err(Error::forbidden(
            format!("write policies TO {}", roles::name(*role)),
            "A tenant's owner role runs the tenant's migrations and nothing else.",
        )),
    }
}

/// DROP OWNED takes a role out of policies and privileges, and locks what has them: in every tenant, if a migration names the role.
fn keep_what_names_them(named: &[pg_sys::Oid]) -> Result<()> {
    let role = roles::current();
    if roles::is_superuser(role) || changes::generation().is_none() {
        return Ok(());
    }
    match relations::naming_a_role(&Catalog::latest()?, named, role)? {
        None => Ok(()),
        Some(object) => Err(Error::forbidden(
            format!("DROP OWNED BY a role that is named by {object}"),
            "Let the owner of that take the role out, or a superuser drop what the role owns.",
        )),
    }
}

fn keep_privileges(is_grant: bool, objects: &Objects) -> Result<()> {
    let is_refused = match objects {
        Objects::Schemas(schemas) => any_schema(schemas)?,
        Objects::AllIn(schemas) => any_schema(schemas)? || has_shared_tables_of_others(schemas)?,
        Objects::Relations(names) => any(names, |name| Ok(kept_from(name)?.is_some()))?,
        Objects::Routines(routines) => any(routines, |routine| {
            is_others(pg_sys::ProcedureRelationId, *routine, catalogs::function_schema(*routine))
        })?,
        Objects::Types(types) => {
            any(types, |name| is_others(pg_sys::TypeRelationId, *name, catalogs::type_schema(*name)))?
        }
        Objects::Others => false,
    };
    if is_refused {
        let command = if is_grant { "GRANT" } else { "REVOKE" };
        return Err(Error::forbidden(
            format!("{command} privileges on objects of a tenant or of the catalog"),
            "Only their owner may: let a migration of the tenant do it.",
        ));
    }
    Ok(())
}

/// ALTER DEFAULT PRIVILEGES IN SCHEMA asks for no right on the schema, and what it writes hangs on it.
fn keep_default_privileges(schemas: &[pg_sys::Oid]) -> Result<()> {
    if any_schema(schemas)? {
        return Err(Error::forbidden(
            "alter default privileges in a schema of a tenant or of the catalog",
            "Only its owner may: let a migration of the tenant do it.",
        ));
    }
    Ok(())
}

/// A trusted extension is created with a superuser's rights, in any schema, and belongs to whoever created it. Those that CASCADE
/// creates go into the same schema.
fn keep_extensions_out(schema: Option<pg_sys::Oid>) -> Result<()> {
    if let Some(schema) = schema
        && is_kept(schema)?
    {
        return Err(Error::forbidden(
            "create an extension in a schema of a tenant or of the catalog",
            "Name another schema: CREATE EXTENSION ... SCHEMA.",
        ));
    }
    Ok(())
}

/// Commands on relations of tenants and of the catalog that lock before they check.
fn keep_unlocked(names: &[RelationName]) -> Result<()> {
    for name in names {
        if let Some(relation) = kept_from(name)? {
            return Err(Error::Inaccessible { kind: "table", name: check::relation_name(relation) });
        }
        name.pin();
    }
    Ok(())
}

fn any<T>(all: &[T], is_so: impl Fn(&T) -> Result<bool>) -> Result<bool> {
    for one in all {
        if is_so(one)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether what is in a schema is a tenant's or the catalog's.
fn is_kept(schema: pg_sys::Oid) -> Result<bool> {
    let is_catalog = catalogs::schema_by_name(catalog::SCHEMA) == Some(schema);
    Ok(schema != pg_sys::InvalidOid && (is_catalog || tenant_of::tenant_of_schema(schema)?.is_some()))
}

/// Whether an object is a tenant's or the catalog's, and not the current role's own.
fn is_others(class: pg_sys::Oid, object: pg_sys::Oid, schema: pg_sys::Oid) -> Result<bool> {
    Ok(is_kept(schema)? && !roles::owns(class, object, roles::current()))
}

fn any_schema(schemas: &[pg_sys::Oid]) -> Result<bool> {
    any(schemas, |schema| is_others(pg_sys::NamespaceRelationId, *schema, *schema))
}

fn has_shared_tables_of_others(schemas: &[pg_sys::Oid]) -> Result<bool> {
    let role = roles::current();
    if changes::generation().is_none() {
        return Ok(false);
    }
    let tables = shared_tables::in_schemas(&Catalog::latest()?, schemas)?;
    Ok(tables.into_iter().any(|table| !roles::owns_relation(table, role)))
}

/// The relation, of an index or a sequence its table, where it is a tenant's or the catalog's and the current role does not own it.
fn kept_from(name: &RelationName) -> Result<Option<pg_sys::Oid>> {
    let role = roles::current();
    let relation = catalogs::table_of(name.resolve());
    let is_kept = relation != pg_sys::InvalidOid
        && (((tenant_of::is_servers_own(relation) || is_kept(catalogs::relation_schema(relation))?)
            && !roles::owns_relation(relation, role))
            || (is_shared(relation, role)? && !roles::may_depend_on(relation, role)));
    Ok(is_kept.then_some(relation))
}

/// Whether it is a shared table, or a view that reads one, and not the role's own.
fn is_shared(relation: pg_sys::Oid, role: pg_sys::Oid) -> Result<bool> {
    if catalogs::relation_kind(relation) != pg_sys::RELKIND_VIEW {
        return check::is_shared_with_others(relation, role);
    }
    if roles::owns_relation(relation, role) || changes::generation().is_none() {
        return Ok(false);
    }
    let read = relations::read_by_view(&Catalog::latest()?, relation)?;
    any(&read, |table| check::is_shared_with_others(*table, role))
}
