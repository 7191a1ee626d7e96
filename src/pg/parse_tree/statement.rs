//! Reads which roles, schemas and other objects a command names. Objects that do not exist are omitted, because the
//! command itself reports them.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::locked_relations::locked_first;
use super::relation_name::RelationName;
use crate::pg::lists;

/// A command, by the objects that it names.
pub enum Statement {
    DropOwned {
        roles: Vec<pg_sys::Oid>,
    },
    ReassignOwned {
        roles: Vec<pg_sys::Oid>,
        to: Option<pg_sys::Oid>,
    },
    /// GRANT or REVOKE on objects.
    Grant {
        is_grant: bool,
        objects: Objects,
        grantees: Vec<pg_sys::Oid>,
    },
    AlterDefaultPrivileges {
        schemas: Vec<pg_sys::Oid>,
        grantees: Vec<pg_sys::Oid>,
    },
    /// CREATE SCHEMA, with the commands that it contains.
    CreateSchema {
        name: Option<String>,
        elements: Vec<Statement>,
    },
    DropSchemas(Vec<pg_sys::Oid>),
    RenameSchema {
        name: String,
    },
    /// CREATE EXTENSION, with the schema that it installs into.
    CreateExtension(Option<pg_sys::Oid>),
    DropExtensions {
        names: Vec<String>,
        cascade: bool,
    },
    CreatePolicy {
        name: String,
        table: Option<RelationName>,
        roles: Vec<pg_sys::Oid>,
    },
    AlterPolicy {
        roles: Vec<pg_sys::Oid>,
    },
    /// Any other command, with the relations that it locks before PostgreSQL checks privileges on them.
    Other {
        locks: Vec<RelationName>,
    },
}

/// The objects of a GRANT or REVOKE.
pub enum Objects {
    Schemas(Vec<pg_sys::Oid>),
    /// All objects of a kind in these schemas.
    AllIn(Vec<pg_sys::Oid>),
    Relations(Vec<RelationName>),
    Routines(Vec<pg_sys::Oid>),
    Types(Vec<pg_sys::Oid>),
    Others,
}

impl Statement {
    /// Reads a parsed command.
    ///
    /// # Safety
    /// `statement` must come from the parser, belong to this execution only, and outlive the result.
    pub unsafe fn read(statement: *mut pg_sys::Node) -> Self {
        use pg_sys::NodeTag::*;
        // SAFETY: a node's tag determines its type.
        unsafe {
            match (*statement).type_ {
                T_DropOwnedStmt => {
                    let command = statement.cast::<pg_sys::DropOwnedStmt>();
                    Statement::DropOwned { roles: roles((*command).roles) }
                }
                T_ReassignOwnedStmt => {
                    let command = statement.cast::<pg_sys::ReassignOwnedStmt>();
                    Statement::ReassignOwned { roles: roles((*command).roles), to: role((*command).newrole) }
                }
                T_GrantStmt => {
                    let command = statement.cast::<pg_sys::GrantStmt>();
                    Statement::Grant {
                        is_grant: (*command).is_grant,
                        objects: Objects::of_grant(command),
                        grantees: roles((*command).grantees),
                    }
                }
                T_AlterDefaultPrivilegesStmt => {
                    let command = statement.cast::<pg_sys::AlterDefaultPrivilegesStmt>();
                    let names =
                        option((*command).options, c"schemas").map_or(std::ptr::null_mut(), |names| (*names).arg);
                    Statement::AlterDefaultPrivileges {
                        schemas: schemas(names.cast()),
                        grantees: roles((*(*command).action).grantees),
                    }
                }
                T_CreateSchemaStmt => {
                    let command = statement.cast::<pg_sys::CreateSchemaStmt>();
                    // Without a name, the schema is named after its owner.
                    let is_owners = (*command).schemaname.is_null() && !(*command).authrole.is_null();
                    let name =
                        if is_owners { pg_sys::get_rolespec_name((*command).authrole) } else { (*command).schemaname };
                    let elements = lists::nodes::<pg_sys::Node>((*command).schemaElts);
                    Statement::CreateSchema {
                        name: text(name),
                        elements: elements.map(|element| Statement::read(element)).collect(),
                    }
                }
                T_DropStmt
                    if (*statement.cast::<pg_sys::DropStmt>()).removeType == pg_sys::ObjectType::OBJECT_SCHEMA =>
                {
                    Statement::DropSchemas(schemas((*statement.cast::<pg_sys::DropStmt>()).objects))
                }
                T_RenameStmt
                    if (*statement.cast::<pg_sys::RenameStmt>()).renameType == pg_sys::ObjectType::OBJECT_SCHEMA =>
                {
                    let name = text((*statement.cast::<pg_sys::RenameStmt>()).newname);
                    Statement::RenameSchema { name: name.unwrap_or_default() }
                }
                T_CreateExtensionStmt => {
                    let command = statement.cast::<pg_sys::CreateExtensionStmt>();
                    Statement::CreateExtension(schema_of_extension((*command).options))
                }
                T_DropStmt
                    if (*statement.cast::<pg_sys::DropStmt>()).removeType == pg_sys::ObjectType::OBJECT_EXTENSION =>
                {
                    let command = statement.cast::<pg_sys::DropStmt>();
                    let names = lists::nodes::<pg_sys::String>((*command).objects);
                    Statement::DropExtensions {
                        names: names.filter_map(|name| text((*name).sval)).collect(),
                        cascade: (*command).behavior == pg_sys::DropBehavior::DROP_CASCADE,
                    }
                }
                T_CreatePolicyStmt => {
                    let command = statement.cast::<pg_sys::CreatePolicyStmt>();
                    Statement::CreatePolicy {
                        name: text((*command).policy_name).unwrap_or_default(),
                        table: RelationName::new((*command).table),
                        roles: roles((*command).roles),
                    }
                }
                T_AlterPolicyStmt => {
                    Statement::AlterPolicy { roles: roles((*statement.cast::<pg_sys::AlterPolicyStmt>()).roles) }
                }
                _ => Statement::Other { locks: locked_first(statement) },
            }
        }
    }
}

impl Objects {
    /// Reads which objects a GRANT or REVOKE names.
    ///
    /// # Safety
    /// `command` must be a GRANT or REVOKE from the parser.
    unsafe fn of_grant(command: *mut pg_sys::GrantStmt) -> Self {
        use pg_sys::ObjectType::*;
        // SAFETY: guaranteed by the caller. The type of object named determines what the list holds. Lookups with
        // missing_ok.
        unsafe {
            let objects = (*command).objects;
            if (*command).targtype == pg_sys::GrantTargetType::ACL_TARGET_ALL_IN_SCHEMA {
                return Objects::AllIn(schemas(objects));
            }
            match (*command).objtype {
                OBJECT_SCHEMA => Objects::Schemas(schemas(objects)),
                OBJECT_TABLE | OBJECT_SEQUENCE => Objects::Relations(RelationName::list(objects)),
                kind @ (OBJECT_FUNCTION | OBJECT_PROCEDURE | OBJECT_ROUTINE) => {
                    let names = lists::nodes::<pg_sys::ObjectWithArgs>(objects);
                    Objects::Routines(existing(names.map(|name| pg_sys::LookupFuncWithArgs(kind, name, true))))
                }
                OBJECT_TYPE | OBJECT_DOMAIN => {
                    let names =
                        lists::nodes::<pg_sys::List>(objects).map(|name| pg_sys::makeTypeNameFromNameList(name));
                    Objects::Types(existing(
                        names.map(|name| pg_sys::LookupTypeNameOid(std::ptr::null_mut(), name, true)),
                    ))
                }
                _ => Objects::Others,
            }
        }
    }
}

fn existing(oids: impl Iterator<Item = pg_sys::Oid>) -> Vec<pg_sys::Oid> {
    oids.filter(|oid| *oid != pg_sys::InvalidOid).collect()
}

/// Returns the roles that exist. Omits PUBLIC.
///
/// # Safety
/// `named` must be a list of RoleSpec.
unsafe fn roles(named: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: guaranteed by the caller.
    unsafe { lists::nodes::<pg_sys::RoleSpec>(named).filter_map(|named| role(named)).collect() }
}

/// Returns a role, or `None` for PUBLIC and for a role that does not exist.
///
/// # Safety
/// `named` must be a RoleSpec.
unsafe fn role(named: *mut pg_sys::RoleSpec) -> Option<pg_sys::Oid> {
    // SAFETY: guaranteed by the caller. A lookup with missing_ok. PUBLIC is not a role.
    let role = unsafe {
        match (*named).roletype {
            pg_sys::RoleSpecType::ROLESPEC_PUBLIC => pg_sys::InvalidOid,
            _ => pg_sys::get_rolespec_oid(named, true),
        }
    };
    (role != pg_sys::InvalidOid).then_some(role)
}

/// Returns the schemas that exist.
///
/// # Safety
/// `names` must be a list of String.
unsafe fn schemas(names: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: guaranteed by the caller. Lookups with missing_ok.
    unsafe { existing(lists::nodes::<pg_sys::String>(names).map(|name| pg_sys::get_namespace_oid((*name).sval, true))) }
}

/// Returns the schema in the option SCHEMA or, without that option, the first schema on the search_path.
///
/// # Safety
/// `options` must be the options of a CREATE EXTENSION.
unsafe fn schema_of_extension(options: *mut pg_sys::List) -> Option<pg_sys::Oid> {
    // SAFETY: guaranteed by the caller. A lookup with missing_ok. The search path is a list of OIDs.
    unsafe {
        match option(options, c"schema") {
            Some(schema) => {
                existing(std::iter::once(pg_sys::get_namespace_oid(pg_sys::defGetString(schema), true))).pop()
            }
            None => lists::oids(pg_sys::fetch_search_path(false)).first().copied(),
        }
    }
}

/// Returns the option with this name, if the command has it.
///
/// # Safety
/// `options` must be a list of DefElem.
unsafe fn option(options: *mut pg_sys::List, name: &CStr) -> Option<*mut pg_sys::DefElem> {
    // SAFETY: guaranteed by the caller.
    unsafe { lists::nodes::<pg_sys::DefElem>(options).find(|option| CStr::from_ptr((**option).defname) == name) }
}

/// Copies a name. Returns `None` for null.
///
/// # Safety
/// `name` must be a C string or null.
unsafe fn text(name: *const std::ffi::c_char) -> Option<String> {
    // SAFETY: guaranteed by the caller.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned())
}
