//! The event trigger that refuses commands before they run: commands that take privileges from the extension's roles,
//! that change privileges on a tenant's objects without owning them, or that lock another role's object before
//! PostgreSQL checks the caller's privileges. For example, GRANT by a role without the grant option changes nothing and
//! only warns, but PostgreSQL still writes the object's catalog row, and holds the lock on it until the transaction
//! ends.
//!
//! It also keeps the names of tenant schemas and owner roles to superusers, and prepares two commands of theirs: CREATE
//! POLICY in a restore, and DROP EXTENSION ... CASCADE.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::own_ddl::OwnDdl;
use super::{policies, sequences};
use crate::access::{self, owner_roles};
use crate::catalog::{self, Catalog, changes, relations, shared_tables};
use crate::error::{Error, Result};
use crate::isolation::{check, tenant_of};
use crate::model::ids;
use crate::pg::parse_tree::{Objects, RelationName, Statement};
use crate::pg::{catalogs, roles};
use crate::settings;

/// Raises an error if the command is not allowed.
pub fn check(statement: &Statement) -> Result<()> {
    if OwnDdl::is_running() {
        return Ok(());
    }
    require_session_access()?;
    require_accessible_path()?;
    match statement {
        Statement::DropOwned { roles } => {
            protect_roles(roles, "DROP OWNED BY")?;
            protect_objects_naming(roles)
        }
        Statement::ReassignOwned { roles, to } => {
            protect_roles(roles, "REASSIGN OWNED BY")?;
            to.map_or(Ok(()), |new_owner| protect_role(new_owner, "REASSIGN OWNED TO"))
        }
        Statement::AlterPolicy { roles } => refuse_naming_owner_roles(roles, "in a policy"),
        Statement::CreatePolicy { name, table, roles } => {
            refuse_naming_owner_roles(roles, "in a policy")?;
            table.as_ref().map_or(Ok(()), |table| make_way_for_restored_policy(table, name))
        }
        Statement::DropExtensions { names, cascade } => restore_defaults_before_drop(names, *cascade),
        // What follows does not apply to superusers. The arms above decide for themselves.
        _ if roles::is_superuser(roles::current()) => Ok(()),
        Statement::Grant { is_grant, objects, grantees } => {
            if *is_grant {
                refuse_naming_owner_roles(grantees, "in a GRANT")?;
            }
            protect_privileges(*is_grant, objects)
        }
        Statement::AlterDefaultPrivileges { schemas, grantees } => {
            refuse_naming_owner_roles(grantees, "in default privileges")?;
            protect_default_privileges(schemas)
        }
        // The elements of CREATE SCHEMA are commands for which no event trigger fires.
        Statement::CreateSchema { name, elements } => {
            name.as_deref().map_or(Ok(()), reserve_schema_prefix)?;
            elements.iter().try_for_each(check)
        }
        Statement::DropSchemas(schemas) => protect_schemas(schemas),
        Statement::RenameSchema { name } => reserve_schema_prefix(name),
        Statement::CreateExtension(schema) => refuse_extension_in(*schema),
        Statement::Other { locks } => refuse_locks(locks),
    }
}

/// Refuses every command of code that runs as a tenant's owner role in a session without access to that tenant, as
/// inside a foreign-key action.
fn require_session_access() -> Result<()> {
    let role = roles::current();
    match owner_roles::tenant_of_current(role) {
        Some(tenant) if !access::is_accessible_to_session(role, tenant)? => {
            Err(Error::forbidden("change the schema of this tenant", "Change it in a migration of the tenant."))
        }
        _ => Ok(()),
    }
}

/// Requires that every schema on the search_path is accessible. Roles that may set the user search inaccessible schemas
/// too, for better error messages. But an object that a command creates must not depend on anything there.
fn require_accessible_path() -> Result<()> {
    for schema in catalogs::search_path() {
        if check::schema_is_inaccessible(schema)? {
            return Err(Error::Inaccessible { kind: "schema", name: check::schema_name(schema) });
        }
    }
    Ok(())
}

const GROUPS: [&CStr; 4] =
    [c"fluxbase_tenant_user", c"fluxbase_tenant_server", c"fluxbase_tenant_admin", c"fluxbase_tenant_owner"];

/// Refuses commands that would drop or reassign what the extension's roles own or were granted. Any member of a role
/// may run them, and would take the role's privileges from all other members. A superuser may run them for a tenant's
/// owner role, to clean up a leftover one.
fn protect_roles(named: &[pg_sys::Oid], command: &str) -> Result<()> {
    named.iter().try_for_each(|role| protect_role(*role, command))
}

fn protect_role(role: pg_sys::Oid, command: &str) -> Result<()> {
    let is_group = GROUPS.iter().any(|group| roles::by_name(group) == Some(role));
    let name = roles::name(role);
    if is_group || (ids::of_owner_role(&name).is_some() && !roles::is_superuser(roles::current())) {
        return Err(Error::forbidden(
            format!("{command} {name}"),
            "The extension needs the objects and privileges of its roles. To remove them, use DROP EXTENSION, or \
             tenant_delete() for a tenant's owner role.",
        ));
    }
    Ok(())
}

/// Refuses names that begin with `schema_prefix`. An uncommitted schema blocks every transaction that creates a schema
/// of the same name, including one that creates a tenant.
fn reserve_schema_prefix(name: &str) -> Result<()> {
    let prefix = settings::schema_prefix();
    if !prefix.is_empty() && name.starts_with(&prefix) {
        return Err(Error::forbidden(
            format!("use the schema name prefix \"{prefix}\", which is reserved for tenant schemas"),
            "Choose another name, or ask a superuser to run the command.",
        ));
    }
    Ok(())
}

/// Drops the policy that the extension has just created on a tenant's table, if a superuser creates one of that name.
/// So a dump of one tenant's schema can be restored: it creates the table, which gets its policies, and then the
/// policies.
fn make_way_for_restored_policy(table: &RelationName, name: &str) -> Result<()> {
    if !roles::is_superuser(roles::current()) || !policies::NAMES.contains(&name) {
        return Ok(());
    }
    let table = table.resolve();
    if table == pg_sys::InvalidOid || tenant_of::tenant_of_relation(table)?.is_none() {
        return Ok(());
    }
    let catalog = Catalog::write()?;
    let _own = OwnDdl::begin();
    policies::drop_named(&catalog, table, name)
}

/// Before DROP EXTENSION ... CASCADE, makes the defaults of serial columns call PostgreSQL's own nextval() again.
/// Otherwise they would be dropped with the extension's.
fn restore_defaults_before_drop(names: &[String], cascade: bool) -> Result<()> {
    let is_ours = |name: &String| name.as_bytes() == catalog::EXTENSION.to_bytes();
    if !cascade || !names.iter().any(is_ours) || !roles::is_superuser(roles::current()) || !changes::is_installed() {
        return Ok(());
    }
    let catalog = Catalog::write()?;
    let _own = OwnDdl::begin();
    sequences::release_defaults(&catalog)
}

/// Refuses to drop a schema of a tenant or of the catalog without owning it. PostgreSQL locks a schema before it checks
/// who owns it.
fn protect_schemas(schemas: &[pg_sys::Oid]) -> Result<()> {
    if any_protected_schema(schemas)? {
        return Err(Error::forbidden(
            "drop a schema of a tenant or of the catalog",
            "Use tenant_delete() to delete a tenant.",
        ));
    }
    Ok(())
}

/// Refuses policies and grants TO a tenant's owner role. Dropping the role locks the object of each, so with enough of
/// them the role could never be dropped.
fn refuse_naming_owner_roles(named: &[pg_sys::Oid], place: &str) -> Result<()> {
    let current = roles::current();
    let is_foreign_owner_role = |role: &&pg_sys::Oid| {
        ids::of_owner_role(&roles::name(**role)).is_some() && !roles::has_privileges_of(current, **role)
    };
    match named.iter().find(is_foreign_owner_role) {
        None => Ok(()),
        Some(role) => Err(Error::forbidden(
            format!("name role {} {place}", roles::name(*role)),
            "A tenant's owner role only runs the tenant's migrations.",
        )),
    }
}

/// Refuses DROP OWNED BY a role that is named in policies or privileges of other owners' objects. DROP OWNED removes
/// the role from them, and locks each of these objects. If a migration names the role, every tenant has such objects.
fn protect_objects_naming(named: &[pg_sys::Oid]) -> Result<()> {
    let role = roles::current();
    if roles::is_superuser(role) || changes::generation().is_none() {
        return Ok(());
    }
    match relations::object_naming_roles(&Catalog::latest()?, named, role)? {
        None => Ok(()),
        Some(object) => Err(Error::forbidden(
            format!("DROP OWNED BY a role that is named in {object}"),
            "Ask the owner of that object to remove the role from it, or ask a superuser to run DROP OWNED.",
        )),
    }
}

/// Refuses GRANT and REVOKE on a tenant's or the catalog's objects, and on another role's shared tables, without owning
/// them.
fn protect_privileges(is_grant: bool, objects: &Objects) -> Result<()> {
    let is_refused = match objects {
        Objects::Schemas(schemas) => any_protected_schema(schemas)?,
        Objects::AllIn(schemas) => any_protected_schema(schemas)? || has_shared_tables_of_another_role(schemas)?,
        Objects::Relations(names) => any(names, |name| Ok(protected_relation(name)?.is_some()))?,
        Objects::Routines(routines) => any(routines, |routine| {
            is_protected_object(pg_sys::ProcedureRelationId, *routine, catalogs::function_schema(*routine))
        })?,
        Objects::Types(types) => {
            any(types, |name| is_protected_object(pg_sys::TypeRelationId, *name, catalogs::type_schema(*name)))?
        }
        Objects::Others => false,
    };
    if is_refused {
        let command = if is_grant { "GRANT" } else { "REVOKE" };
        return Err(Error::forbidden(
            format!("{command} privileges on objects of a tenant or of the catalog"),
            "Only the owner of the objects may do this. For a tenant, use a migration.",
        ));
    }
    Ok(())
}

/// Refuses ALTER DEFAULT PRIVILEGES in a schema of a tenant or of the catalog without owning it. PostgreSQL requires no
/// privilege on the schema, and the entry that the command creates depends on the schema.
fn protect_default_privileges(schemas: &[pg_sys::Oid]) -> Result<()> {
    if any_protected_schema(schemas)? {
        return Err(Error::forbidden(
            "alter default privileges in a schema of a tenant or of the catalog",
            "Only the owner of the schema may do this. For a tenant, use a migration.",
        ));
    }
    Ok(())
}

/// Refuses to create an extension in a schema of a tenant or of the catalog. A trusted extension is created with a
/// superuser's privileges, in any schema, and belongs to the role that created it. Extensions that CASCADE creates are
/// in the same schema, so checking this one is enough.
fn refuse_extension_in(schema: Option<pg_sys::Oid>) -> Result<()> {
    if let Some(schema) = schema
        && is_protected_schema(schema)?
    {
        return Err(Error::forbidden(
            "create an extension in a schema of a tenant or of the catalog",
            "Specify another schema with CREATE EXTENSION ... SCHEMA.",
        ));
    }
    Ok(())
}

/// Refuses commands that lock a protected relation before PostgreSQL checks the caller's privileges. Adds the schema to
/// the names of other relations, so that a name cannot end up referring to another relation while the command waits.
fn refuse_locks(names: &[RelationName]) -> Result<()> {
    for name in names {
        if let Some(relation) = protected_relation(name)? {
            return Err(Error::Inaccessible { kind: "table", name: check::relation_name(relation) });
        }
        name.pin();
    }
    Ok(())
}

fn any<T>(all: &[T], predicate: impl Fn(&T) -> Result<bool>) -> Result<bool> {
    for one in all {
        if predicate(one)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reports whether the schema belongs to a tenant or is the catalog's.
fn is_protected_schema(schema: pg_sys::Oid) -> Result<bool> {
    let is_catalog = catalogs::schema_by_name(catalog::SCHEMA) == Some(schema);
    Ok(schema != pg_sys::InvalidOid && (is_catalog || tenant_of::tenant_of_schema(schema)?.is_some()))
}

/// Reports whether an object belongs to a tenant or to the catalog, and the current role does not own it.
fn is_protected_object(class: pg_sys::Oid, object: pg_sys::Oid, schema: pg_sys::Oid) -> Result<bool> {
    Ok(is_protected_schema(schema)? && !roles::owns(class, object, roles::current()))
}

fn any_protected_schema(schemas: &[pg_sys::Oid]) -> Result<bool> {
    any(schemas, |schema| is_protected_object(pg_sys::NamespaceRelationId, *schema, *schema))
}

fn has_shared_tables_of_another_role(schemas: &[pg_sys::Oid]) -> Result<bool> {
    let role = roles::current();
    if changes::generation().is_none() {
        return Ok(false);
    }
    let tables = shared_tables::in_schemas(&Catalog::latest()?, schemas)?;
    Ok(tables.into_iter().any(|table| !roles::owns_relation(table, role)))
}

/// Returns the relation if it is one of another role that must not be locked: it belongs to a tenant, to the catalog or
/// to PostgreSQL; or it is a shared table or a view that reads one, and the role has neither REFERENCES nor TRIGGER on
/// it, with which PostgreSQL lets it take such locks anyway. For an index or a sequence, checks and returns its table.
fn protected_relation(name: &RelationName) -> Result<Option<pg_sys::Oid>> {
    let role = roles::current();
    let relation = catalogs::table_of(name.resolve());
    let is_protected = relation != pg_sys::InvalidOid
        && (((tenant_of::is_builtin(relation) || is_protected_schema(catalogs::relation_schema(relation))?)
            && !roles::owns_relation(relation, role))
            || (is_shared(relation, role)? && !roles::may_depend_on(relation, role)));
    Ok(is_protected.then_some(relation))
}

/// Reports whether the relation is a shared table, or a view that reads one, that the role does not own.
fn is_shared(relation: pg_sys::Oid, role: pg_sys::Oid) -> Result<bool> {
    if catalogs::relation_kind(relation) != pg_sys::RELKIND_VIEW {
        return check::is_shared_table_of_another_role(relation, role);
    }
    if roles::owns_relation(relation, role) || changes::generation().is_none() {
        return Ok(false);
    }
    let read = relations::read_by_view(&Catalog::latest()?, relation)?;
    any(&read, |table| check::is_shared_table_of_another_role(*table, role))
}
