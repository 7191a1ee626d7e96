//! Reads commands for which no event trigger fires: LOCK, TRUNCATE, VACUUM, ANALYZE, CLUSTER, and EXPLAIN ANALYZE of a
//! command that creates a relation. Also reads REINDEX, for which it fires too late.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::{catalogs, lists, nodes};

/// Returns the tables that a LOCK or TRUNCATE names. These commands run no plan, so the executor-start check does not
/// see them.
///
/// # Safety
/// `statement` must be a utility statement.
pub unsafe fn tables_named_by(statement: *mut pg_sys::Node) -> Vec<pg_sys::Oid> {
    // SAFETY: a node's tag determines its type.
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

/// The tables that a command locks exclusively in order to rebuild them or their indexes.
pub enum Rebuilt {
    Tables(Vec<pg_sys::Oid>),
    /// Every table that the role may maintain.
    All,
}

/// Returns the tables that a REINDEX of a single relation, a CLUSTER or a VACUUM FULL rebuilds.
///
/// # Safety
/// `statement` must be a utility statement.
pub unsafe fn tables_rebuilt_by(statement: *mut pg_sys::Node) -> Rebuilt {
    // SAFETY: a node's tag determines its type.
    let names = unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_ReindexStmt => vec![(*statement.cast::<pg_sys::ReindexStmt>()).relation],
            pg_sys::NodeTag::T_ClusterStmt => match (*statement.cast::<pg_sys::ClusterStmt>()).relation {
                name if name.is_null() => return Rebuilt::All,
                name => vec![name],
            },
            pg_sys::NodeTag::T_VacuumStmt if is_full(statement.cast()) => {
                match (*statement.cast::<pg_sys::VacuumStmt>()).rels {
                    rels if rels.is_null() => return Rebuilt::All,
                    rels => lists::nodes::<pg_sys::VacuumRelation>(rels).map(|named| (*named).relation).collect(),
                }
            }
            _ => Vec::new(),
        }
    };
    // SAFETY: the parser's names, or null for a command without one.
    let resolved = names.into_iter().filter(|name| !name.is_null()).map(|name| unsafe { resolve(name) });
    Rebuilt::Tables(resolved.filter(|oid| *oid != pg_sys::InvalidOid).map(catalogs::table_of).collect())
}

/// Reports whether a VACUUM has the option FULL.
///
/// # Safety
/// `statement` must be a VACUUM or ANALYZE.
unsafe fn is_full(statement: *mut pg_sys::VacuumStmt) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe {
        lists::nodes::<pg_sys::DefElem>((*statement).options)
            .any(|option| CStr::from_ptr((*option).defname) == c"full" && pg_sys::defGetBoolean(option))
    }
}

/// Reports whether the command is a LOCK in a mode that conflicts with readers, with writers or with itself.
///
/// # Safety
/// `statement` must be a utility statement.
pub unsafe fn takes_strong_lock(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: a node's tag determines its type.
    unsafe {
        pgrx::is_a(statement, pg_sys::NodeTag::T_LockStmt)
            && (*statement.cast::<pg_sys::LockStmt>()).mode > pg_sys::RowExclusiveLock as i32
    }
}

/// Reports whether the command is a VACUUM or ANALYZE without a list of tables, which processes every table that the
/// role may maintain.
///
/// # Safety
/// `statement` must be a utility statement.
pub unsafe fn maintains_all(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: a node's tag determines its type.
    unsafe {
        pgrx::is_a(statement, pg_sys::NodeTag::T_VacuumStmt) && (*statement.cast::<pg_sys::VacuumStmt>()).rels.is_null()
    }
}

/// Returns a copy of the statement that processes only these relations, of which there must be at least one.
///
/// # Safety
/// `statement` must be planned, and `maintains_all` true of its command.
pub unsafe fn maintaining(statement: *mut pg_sys::PlannedStmt, relations: &[pg_sys::Oid]) -> *mut pg_sys::PlannedStmt {
    // SAFETY: guaranteed by the caller. Only the copy is changed.
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

/// Raises PostgreSQL's error if the command is a VACUUM inside a transaction block. For a command that has nothing to
/// process and is therefore not passed on to PostgreSQL.
///
/// # Safety
/// `statement` must be planned, and `maintains_all` true of its command.
pub unsafe fn refuse_vacuum_in_a_transaction(
    statement: *mut pg_sys::PlannedStmt,
    context: pg_sys::ProcessUtilityContext::Type,
) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if (*(*statement).utilityStmt.cast::<pg_sys::VacuumStmt>()).is_vacuumcmd {
            let is_top_level = context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL;
            pg_sys::PreventInTransactionBlock(is_top_level, c"VACUUM".as_ptr());
        }
    }
}

/// Returns the schema in which an EXPLAIN ANALYZE of CREATE TABLE AS, SELECT INTO or CREATE MATERIALIZED VIEW creates a
/// relation. No event trigger fires for that.
///
/// # Safety
/// `statement` must be a utility statement.
pub unsafe fn explained_creation(statement: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    // SAFETY: a node's tag determines its type. EXPLAIN contains an analyzed query, and that contains its command.
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
        runs.then(|| pg_sys::RangeVarGetCreationNamespace((*into).rel))
    }
}

/// Resolves names without locks. Omits relations that do not exist.
///
/// # Safety
/// `names` must be a list of RangeVar.
unsafe fn named(names: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: guaranteed by the caller.
    unsafe {
        lists::nodes::<pg_sys::RangeVar>(names)
            .map(|name| resolve(name))
            .filter(|relation| *relation != pg_sys::InvalidOid)
            .collect()
    }
}

/// Resolves a name without a lock. Returns InvalidOid for a missing relation, which the command itself reports.
///
/// # Safety
/// `name` must come from the parser.
unsafe fn resolve(name: *mut pg_sys::RangeVar) -> pg_sys::Oid {
    let (no_lock, no_argument) = (pg_sys::NoLock as i32, std::ptr::null_mut());
    // SAFETY: guaranteed by the caller.
    unsafe { pg_sys::RangeVarGetRelidExtended(name, no_lock, pg_sys::RVROption::RVR_MISSING_OK, None, no_argument) }
}
