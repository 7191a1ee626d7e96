//! What commands name that start no query, and of which event triggers do not hear.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::{lists, nodes};

/// The tables that LOCK and TRUNCATE name, which start no query.
///
/// # Safety
/// A utility statement.
pub unsafe fn tables_named_by(statement: *mut pg_sys::Node) -> Vec<pg_sys::Oid> {
    // SAFETY: the tag tells the node's type.
    unsafe {
        if pgrx::is_a(statement, pg_sys::NodeTag::T_LockStmt) {
            named((*statement.cast::<pg_sys::LockStmt>()).relations)
        } else if pgrx::is_a(statement, pg_sys::NodeTag::T_TruncateStmt) {
            named((*statement.cast::<pg_sys::TruncateStmt>()).relations)
        } else {
            Vec::new()
        }
    }
}

/// Whether it is a LOCK that others who read or write would wait for, or who take the same.
///
/// # Safety
/// A utility statement.
pub unsafe fn locks_others_out(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag tells the node's type.
    unsafe {
        pgrx::is_a(statement, pg_sys::NodeTag::T_LockStmt)
            && (*statement.cast::<pg_sys::LockStmt>()).mode > pg_sys::RowExclusiveLock as i32
    }
}

/// Whether it is a VACUUM or ANALYZE of whatever the role may maintain.
///
/// # Safety
/// A utility statement.
pub unsafe fn maintains_all(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag tells the node's type.
    unsafe {
        pgrx::is_a(statement, pg_sys::NodeTag::T_VacuumStmt) && (*statement.cast::<pg_sys::VacuumStmt>()).rels.is_null()
    }
}

/// The same statement for these relations alone, of which there are some.
///
/// # Safety
/// A planned statement whose command `maintains_all`.
pub unsafe fn maintaining(statement: *mut pg_sys::PlannedStmt, relations: &[pg_sys::Oid]) -> *mut pg_sys::PlannedStmt {
    // SAFETY: by the caller's promise; what is changed is a copy.
    unsafe {
        let copy = nodes::copy(statement);
        let vacuum = (*copy).utilityStmt.cast::<pg_sys::VacuumStmt>();
        for relation in relations {
            let none = std::ptr::null_mut();
            let named = pg_sys::makeVacuumRelation(none, *relation, std::ptr::null_mut());
            (*vacuum).rels = pg_sys::lappend((*vacuum).rels, named.cast());
        }
        copy
    }
}

/// What the server asks as it begins a VACUUM, for one that has nothing to do.
///
/// # Safety
/// A planned statement whose command `maintains_all`.
pub unsafe fn refuse_vacuum_in_a_transaction(
    statement: *mut pg_sys::PlannedStmt,
    context: pg_sys::ProcessUtilityContext::Type,
) {
    // SAFETY: by the caller's promise.
    unsafe {
        if (*(*statement).utilityStmt.cast::<pg_sys::VacuumStmt>()).is_vacuumcmd {
            let is_top_level = context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL;
            pg_sys::PreventInTransactionBlock(is_top_level, c"VACUUM".as_ptr());
        }
    }
}

/// What EXPLAIN ANALYZE makes, of which event triggers do not hear.
pub struct Explained {
    pub schema: pg_sys::Oid,
    pub is_materialized_view: bool,
}

/// Of a CREATE TABLE AS, SELECT INTO or CREATE MATERIALIZED VIEW.
///
/// # Safety
/// A utility statement.
pub unsafe fn explained_creation(statement: *mut pg_sys::Node) -> Option<Explained> {
    // SAFETY: the tags tell the nodes' types; EXPLAIN holds an analyzed query, and that its command.
    unsafe {
        if !pgrx::is_a(statement, pg_sys::NodeTag::T_ExplainStmt) {
            return None;
        }
        let explain = statement.cast::<pg_sys::ExplainStmt>();
        let command = (*(*explain).query.cast::<pg_sys::Query>()).utilityStmt;
        if command.is_null() || !pgrx::is_a(command, pg_sys::NodeTag::T_CreateTableAsStmt) {
            return None;
        }
        let runs = lists::nodes::<pg_sys::DefElem>((*explain).options)
            .any(|option| CStr::from_ptr((*option).defname) == c"analyze" && pg_sys::defGetBoolean(option));
        let create = command.cast::<pg_sys::CreateTableAsStmt>();
        let into = (*create).into;
        let is_materialized_view = (*create).objtype == pg_sys::ObjectType::OBJECT_MATVIEW;
        let is_temporary = (*(*into).rel).relpersistence == pg_sys::RELPERSISTENCE_TEMP as std::ffi::c_char;
        let schema = || pg_sys::RangeVarGetCreationNamespace((*into).rel);
        (runs && !is_temporary).then(|| Explained { schema: schema(), is_materialized_view })
    }
}

/// # Safety
/// A list of RangeVar.
unsafe fn named(names: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: by the caller's promise; NoLock and missing_ok: whether it exists is for the command itself to say.
    unsafe {
        lists::nodes::<pg_sys::RangeVar>(names)
            .map(|name| {
                pg_sys::RangeVarGetRelidExtended(
                    name,
                    pg_sys::NoLock as i32,
                    pg_sys::RVROption::RVR_MISSING_OK,
                    None,
                    std::ptr::null_mut(),
                )
            })
            .filter(|relation| *relation != pg_sys::InvalidOid)
            .collect()
    }
}
