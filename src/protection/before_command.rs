//! What the event trigger before a command refuses: taking privileges from roles of the extension, changing those of a tenant's
//! objects without owning them, and other commands that lock what is not the caller's before they check. GRANT by somebody
//! who may not grant changes nothing and says so, but the server writes the object's row all the same, and keeps it locked
//! until the transaction ends.

use std::ffi::CStr;

use pgrx::prelude::*;

use super::own_ddl::OwnDdl;
use crate::access::{self, owner_roles};
use crate::error::{Error, Result};
use crate::isolation::{check, tenant_of};
use crate::model::ids;
use crate::pg::{catalogs, lists, parse_tree, roles};
use crate::settings;

/// # Safety
/// A statement made by the parser.
pub unsafe fn permit(statement: *mut pg_sys::Node) -> Result<()> {
    if OwnDdl::is_running() {
        return Ok(());
    }
    keep_owner_roles()?;
    keep_path_within_reach()?;
    // SAFETY: the tag tells the node's type.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_DropOwnedStmt => {
                keep_roles((*statement.cast::<pg_sys::DropOwnedStmt>()).roles, "DROP OWNED BY")
            }
            pg_sys::NodeTag::T_ReassignOwnedStmt => {
                let reassign = statement.cast::<pg_sys::ReassignOwnedStmt>();
                keep_roles((*reassign).roles, "REASSIGN OWNED BY")?;
                let heir = pg_sys::get_rolespec_oid((*reassign).newrole, true);
                keep_role(heir, "REASSIGN OWNED TO")
            }
            pg_sys::NodeTag::T_GrantStmt => keep_privileges(statement.cast()),
            pg_sys::NodeTag::T_AlterDefaultPrivilegesStmt => keep_default_privileges(statement.cast()),
            // Its elements are commands that start no event trigger.
            pg_sys::NodeTag::T_CreateSchemaStmt => {
                let create = statement.cast::<pg_sys::CreateSchemaStmt>();
                // Without a name it is that of the owner.
                let named = (*create).schemaname.is_null() && !(*create).authrole.is_null();
                let name = if named { pg_sys::get_rolespec_name((*create).authrole) } else { (*create).schemaname };
                keep_schema_name(name)?;
                lists::nodes::<pg_sys::Node>((*statement.cast::<pg_sys::CreateSchemaStmt>()).schemaElts)
                    .try_for_each(|element| permit(element))
            }
            pg_sys::NodeTag::T_DropStmt
                if (*statement.cast::<pg_sys::DropStmt>()).removeType == pg_sys::ObjectType::OBJECT_SCHEMA =>
            {
                keep_schemas((*statement.cast::<pg_sys::DropStmt>()).objects)
            }
            pg_sys::NodeTag::T_RenameStmt
                if (*statement.cast::<pg_sys::RenameStmt>()).renameType == pg_sys::ObjectType::OBJECT_SCHEMA =>
            {
                keep_schema_name((*statement.cast::<pg_sys::RenameStmt>()).newname)
            }
            pg_sys::NodeTag::T_CreateExtensionStmt => {
                keep_extensions_out((*statement.cast::<pg_sys::CreateExtensionStmt>()).options)
            }
            pg_sys::NodeTag::T_CreatePolicyStmt => keep_policies((*statement.cast::<pg_sys::CreatePolicyStmt>()).roles),
            pg_sys::NodeTag::T_AlterPolicyStmt => keep_policies((*statement.cast::<pg_sys::AlterPolicyStmt>()).roles),
            _ => keep_unlocked(&parse_tree::locked_first(statement)),
        }
    }
}

/// What runs as a tenant's owner role in a session that does not reach the tenant, behind a key, commands nothing.
fn keep_owner_roles() -> Result<()> {
    let role = roles::current();
    match owner_roles::tenant_of(role) {
        Some(tenant) if !access::is_reached_by_session(role, tenant)? => {
            Err(Error::forbidden("change the schema of this tenant", "Let a migration of the tenant do it."))
        }
        _ => Ok(()),
    }
}

/// Roles that may say who the user is search schemas out of reach, to be told what they forgot. What a command makes must not hang
/// on anything there.
fn keep_path_within_reach() -> Result<()> {
    // SAFETY: a list of oids, or NIL.
    let path = unsafe { lists::oids(pg_sys::fetch_search_path(false)) };
    for schema in path {
        if check::schema_is_out_of_reach(schema)? {
            return Err(Error::OutOfReach { kind: "schema", name: check::schema_name(schema) });
        }
    }
    Ok(())
}

const GROUPS: [&CStr; 4] =
    [c"fluxbase_tenant_user", c"fluxbase_tenant_server", c"fluxbase_tenant_admin", c"fluxbase_tenant_owner"];

/// Members of a role may say that of it, and would take what the role was granted from everybody. A superuser may of a
/// tenant's owner role, where that is left over.
///
/// # Safety
/// A list of RoleSpec.
unsafe fn keep_roles(named: *mut pg_sys::List, command: &str) -> Result<()> {
    // SAFETY: by the caller's promise; missing_ok.
    let mut oids = unsafe { lists::nodes::<pg_sys::RoleSpec>(named).map(|role| pg_sys::get_rolespec_oid(role, true)) };
    oids.try_for_each(|role| keep_role(role, command))
}

fn keep_role(role: pg_sys::Oid, command: &str) -> Result<()> {
    if role == pg_sys::InvalidOid {
        return Ok(());
    }
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
///
/// # Safety
/// A C string, or null.
unsafe fn keep_schema_name(name: *const std::ffi::c_char) -> Result<()> {
    let prefix = settings::schema_prefix();
    if name.is_null() || prefix.is_empty() || roles::is_superuser(roles::current()) {
        return Ok(());
    }
    // SAFETY: by the caller's promise, and not null.
    let name = unsafe { CStr::from_ptr(name) };
    if name.to_bytes().starts_with(prefix.as_bytes()) {
        return Err(Error::forbidden(
            format!("name a schema as those of tenants are named, \"{prefix}...\""),
            "Choose another name, or have a superuser create it.",
        ));
    }
    Ok(())
}

/// The server locks a schema before it asks whose it is.
///
/// # Safety
/// A list of String.
unsafe fn keep_schemas(names: *mut pg_sys::List) -> Result<()> {
    let role = roles::current();
    // SAFETY: by the caller's promise.
    if !roles::is_superuser(role) && unsafe { any_schema(names, role)? } {
        return Err(Error::forbidden(
            "drop a schema of a tenant or of the catalog",
            "tenant_delete() does, for a tenant.",
        ));
    }
    Ok(())
}

/// A policy TO a tenant's owner role locks its table when the role is dropped: with enough of them that is never done.
///
/// # Safety
/// A list of RoleSpec.
unsafe fn keep_policies(named: *mut pg_sys::List) -> Result<()> {
    let current = roles::current();
    // SAFETY: by the caller's promise.
    for named in unsafe { lists::nodes::<pg_sys::RoleSpec>(named) } {
        // SAFETY: as above; missing_ok. PUBLIC is no role.
        let role = unsafe {
            match (*named).roletype {
                pg_sys::RoleSpecType::ROLESPEC_PUBLIC => pg_sys::InvalidOid,
                _ => pg_sys::get_rolespec_oid(named, true),
            }
        };
        if role != pg_sys::InvalidOid
            && ids::of_owner_role(&roles::name(role)).is_some()
            && !roles::has_privileges_of(current, role)
        {
            return Err(Error::forbidden(
                format!("write policies TO {}", roles::name(role)),
                "A tenant's owner role runs the tenant's migrations and nothing else.",
            ));
        }
    }
    Ok(())
}

/// GRANT and REVOKE.
///
/// # Safety
/// A statement made by the parser.
unsafe fn keep_privileges(statement: *mut pg_sys::GrantStmt) -> Result<()> {
    use pg_sys::ObjectType::*;
    let role = roles::current();
    if roles::is_superuser(role) {
        return Ok(());
    }
    // SAFETY: by the caller's promise: what kind of object is named tells what the list holds. Whether an object exists is for
    // the command itself to say.
    unsafe {
        let objects = (*statement).objects;
        let in_schemas = (*statement).targtype == pg_sys::GrantTargetType::ACL_TARGET_ALL_IN_SCHEMA;
        let is_refused = match (*statement).objtype {
            _ if in_schemas => any_schema(objects, role)?,
            OBJECT_SCHEMA => any_schema(objects, role)?,
            OBJECT_TABLE | OBJECT_SEQUENCE => any_relation(objects, role)?,
            kind @ (OBJECT_FUNCTION | OBJECT_PROCEDURE | OBJECT_ROUTINE) => any_routine(kind, objects, role)?,
            OBJECT_TYPE | OBJECT_DOMAIN => any_type(objects, role)?,
            _ => false,
        };
        if is_refused {
            let command = if (*statement).is_grant { "GRANT" } else { "REVOKE" };
            return Err(Error::forbidden(
                format!("{command} privileges on objects of a tenant or of the catalog"),
                "Only their owner may: let a migration of the tenant do it.",
            ));
        }
    }
    Ok(())
}

/// ALTER DEFAULT PRIVILEGES IN SCHEMA asks for no right on the schema, and what it writes hangs on it.
///
/// # Safety
/// A statement made by the parser.
unsafe fn keep_default_privileges(statement: *mut pg_sys::AlterDefaultPrivilegesStmt) -> Result<()> {
    let role = roles::current();
    if roles::is_superuser(role) {
        return Ok(());
    }
    // SAFETY: by the caller's promise: the option holds a list of names.
    unsafe {
        for option in lists::nodes::<pg_sys::DefElem>((*statement).options) {
            if CStr::from_ptr((*option).defname) == c"schemas" && any_schema((*option).arg.cast(), role)? {
                return Err(Error::forbidden(
                    "alter default privileges in a schema of a tenant or of the catalog",
                    "Only its owner may: let a migration of the tenant do it.",
                ));
            }
        }
    }
    Ok(())
}

/// A trusted extension is created with a superuser's rights, in any schema, and belongs to whoever created it. Without SCHEMA it
/// goes into the first one on the search_path, and so do those that CASCADE creates.
///
/// # Safety
/// Options of CREATE EXTENSION, made by the parser.
unsafe fn keep_extensions_out(options: *mut pg_sys::List) -> Result<()> {
    if roles::is_superuser(roles::current()) {
        return Ok(());
    }
    // SAFETY: by the caller's promise; missing_ok; a list of oids.
    let schema = unsafe {
        match lists::nodes::<pg_sys::DefElem>(options).find(|option| CStr::from_ptr((**option).defname) == c"schema") {
            Some(option) => pg_sys::get_namespace_oid(pg_sys::defGetString(option), true),
            None => lists::oids(pg_sys::fetch_search_path(false)).first().copied().unwrap_or(pg_sys::InvalidOid),
        }
    };
    if is_kept(schema)? {
        return Err(Error::forbidden(
            "create an extension in a schema of a tenant or of the catalog",
            "Name another schema: CREATE EXTENSION ... SCHEMA.",
        ));
    }
    Ok(())
}

/// Commands on relations of tenants and of the catalog that lock before they check.
///
/// # Safety
/// Names made by the parser, or null.
unsafe fn keep_unlocked(names: &[*mut pg_sys::RangeVar]) -> Result<()> {
    let role = roles::current();
    if names.is_empty() || roles::is_superuser(role) {
        return Ok(());
    }
    for name in names.iter().filter(|name| !name.is_null()) {
        // SAFETY: by the caller's promise.
        if let Some(relation) = unsafe { kept_from(*name, role)? } {
            return Err(Error::OutOfReach { kind: "table", name: check::relation_name(relation) });
        }
        // SAFETY: as above.
        unsafe { pin(*name) };
    }
    Ok(())
}

/// Whether what is in a schema is a tenant's or the catalog's.
fn is_kept(schema: pg_sys::Oid) -> Result<bool> {
    // SAFETY: a lookup by C string; missing_ok.
    let catalog = unsafe { pg_sys::get_namespace_oid(c"fluxbase_tenant".as_ptr(), true) };
    Ok(schema != pg_sys::InvalidOid && (schema == catalog || tenant_of::tenant_of_schema(schema)?.is_some()))
}

/// # Safety
/// A list of String.
unsafe fn any_schema(names: *mut pg_sys::List, role: pg_sys::Oid) -> Result<bool> {
    // SAFETY: by the caller's promise; missing_ok.
    for name in unsafe { lists::nodes::<pg_sys::String>(names) } {
        // SAFETY: as above.
        let schema = unsafe { pg_sys::get_namespace_oid((*name).sval, true) };
        if is_kept(schema)? && !roles::owns(pg_sys::NamespaceRelationId, schema, role) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// # Safety
/// A list of RangeVar.
unsafe fn any_relation(names: *mut pg_sys::List, role: pg_sys::Oid) -> Result<bool> {
    // SAFETY: by the caller's promise.
    for name in unsafe { lists::nodes::<pg_sys::RangeVar>(names) } {
        // SAFETY: as above.
        if unsafe { kept_from(name, role)? }.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A name without a schema is looked up again when the command has waited for its own table: it must not come to mean another.
///
/// # Safety
/// A name made by the parser, of a statement that is this execution's own.
unsafe fn pin(name: *mut pg_sys::RangeVar) {
    // SAFETY: by the caller's promise; lookups by oid; a C string, or null.
    unsafe {
        if (*name).schemaname.is_null() && (*name).relpersistence as u8 != pg_sys::RELPERSISTENCE_TEMP {
            let relation = resolve(name);
            if relation != pg_sys::InvalidOid {
                // The statement's own memory is not this function's: the transaction outlives both.
                let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
                (*name).schemaname = pg_sys::MemoryContextStrdup(pg_sys::TopTransactionContext, schema);
            }
        }
    }
}

/// InvalidOid where there is none: that is for the command itself to say.
///
/// # Safety
/// A name made by the parser.
unsafe fn resolve(name: *mut pg_sys::RangeVar) -> pg_sys::Oid {
    let (no_lock, missing_ok) = (pg_sys::NoLock as i32, pg_sys::RVROption::RVR_MISSING_OK);
    // SAFETY: by the caller's promise.
    unsafe { pg_sys::RangeVarGetRelidExtended(name, no_lock, missing_ok, None, std::ptr::null_mut()) }
}

/// The relation, where it is a tenant's or the catalog's and the role does not own it.
///
/// # Safety
/// A name made by the parser.
unsafe fn kept_from(name: *mut pg_sys::RangeVar, role: pg_sys::Oid) -> Result<Option<pg_sys::Oid>> {
    // SAFETY: by the caller's promise; a lookup by oid.
    let (relation, schema) = unsafe {
        let relation = resolve(name);
        (relation, pg_sys::get_rel_namespace(relation))
    };
    let is_kept = relation != pg_sys::InvalidOid
        && (((tenant_of::is_servers_own(relation) || is_kept(schema)?) && !roles::owns_relation(relation, role))
            || (check::is_shared_with_others(relation, role)? && !roles::may_hang_on(relation, role)));
    Ok(is_kept.then_some(relation))
}

/// # Safety
/// A list of ObjectWithArgs.
unsafe fn any_routine(kind: pg_sys::ObjectType::Type, names: *mut pg_sys::List, role: pg_sys::Oid) -> Result<bool> {
    // SAFETY: by the caller's promise; missing_ok.
    let found = unsafe {
        lists::nodes::<pg_sys::ObjectWithArgs>(names).map(|name| pg_sys::LookupFuncWithArgs(kind, name, true))
    };
    for routine in found.filter(|routine| *routine != pg_sys::InvalidOid) {
        // SAFETY: a lookup by oid.
        let schema = unsafe { pg_sys::get_func_namespace(routine) };
        if is_kept(schema)? && !roles::owns(pg_sys::ProcedureRelationId, routine, role) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// # Safety
/// A list of lists of names.
unsafe fn any_type(names: *mut pg_sys::List, role: pg_sys::Oid) -> Result<bool> {
    // SAFETY: by the caller's promise; missing_ok.
    let found = unsafe {
        lists::nodes::<pg_sys::List>(names)
            .map(|name| pg_sys::LookupTypeNameOid(std::ptr::null_mut(), pg_sys::makeTypeNameFromNameList(name), true))
    };
    for name in found.filter(|name| *name != pg_sys::InvalidOid) {
        if is_kept(catalogs::type_schema(name))? && !roles::owns(pg_sys::TypeRelationId, name, role) {
            return Ok(true);
        }
    }
    Ok(false)
}
