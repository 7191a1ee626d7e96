//! Rows of the catalog that are not the caller's are not so much as compared with anything. The server asks policies first, but for
//! operators that tell nothing by themselves: these it may use before, in an index, and then EXPLAIN, counters and predicate locks tell
//! what they found. So the policies and the table go into a subquery, into which no condition of the query's goes.

use pgrx::pg_sys;

use super::range_table;
use crate::error::{Error, Result};
use crate::pg::catalogs;
use crate::pg::nodes::{copy, make, one};

/// # Safety
/// A query as the planner gets it, and an entry of its range table with the place there, counted from 1: a table with policies that is
/// only read.
pub unsafe fn put(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry, place: i32) -> Result<()> {
    // SAFETY: by the caller's promise; the planner may write to the query, and all nodes are new.
    unsafe {
        if range_table::uses_system_columns(query, entry) {
            return Err(Error::forbidden("read system columns of the catalog", "Name the columns that the table has."));
        }
        // Its arguments may mean columns of queries around this one.
        if !(*entry).tablesample.is_null() {
            return Err(Error::forbidden("read a sample of the catalog", "Read it without TABLESAMPLE."));
        }
        let table = copy(entry);
        (*table).inFromCl = true;
        // Of a table it says nothing to the server, and it is kept in the plan.
        (*table).security_barrier = true;
        change_numbers((*table).securityQuals.cast(), place, 1, 0);
        let inner = make::<pg_sys::Query>(pg_sys::NodeTag::T_Query);
        (*inner).commandType = pg_sys::CmdType::CMD_SELECT;
        (*inner).canSetTag = true;
        (*inner).hasRowSecurity = true;
        (*inner).hasSubLinks = (*query).hasSubLinks;
        (*inner).rtable = one(table.cast());
        range_table::move_permission(query, table, inner);
        let reference = make::<pg_sys::RangeTblRef>(pg_sys::NodeTag::T_RangeTblRef);
        (*reference).rtindex = 1;
        (*inner).jointree = pg_sys::makeFromExpr(one(reference.cast()), std::ptr::null_mut());
        (*inner).targetList = catalogs::all_columns((*table).relid, 1);
        // The server moves no condition past it.
        (*inner).limitOffset = zero();

        (*entry).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*entry).subquery = inner;
        // The planner makes no estimates from statistics of its columns.
        (*entry).security_barrier = true;
        (*entry).securityQuals = std::ptr::null_mut();
        // As where a view was, it keeps the table's oid and lock: the oid gives the type of its whole row.
        (*entry).inh = false;
        range_table::ask_no_permission(entry);
    }
    Ok(())
}

/// Whether a table in a plan is in such a subquery.
///
/// # Safety
/// An entry of a range table.
pub unsafe fn is_behind(entry: *mut pg_sys::RangeTblEntry) -> bool {
    // SAFETY: by the caller's promise.
    unsafe { (*entry).security_barrier }
}

/// # Safety
/// Called where nodes may be made.
unsafe fn zero() -> *mut pg_sys::Node {
    let (length, by_value) = (size_of::<i64>() as i32, true);
    // SAFETY: a bigint.
    unsafe { pg_sys::makeConst(pg_sys::INT8OID, -1, pg_sys::InvalidOid, length, 0i64.into(), false, by_value).cast() }
}

// SAFETY: as the server declares it; pgrx's bindings leave it out.
unsafe extern "C-unwind" {
    #[link_name = "ChangeVarNodes"]
    fn change_numbers(node: *mut pg_sys::Node, from: i32, to: i32, levels_up: i32);
}
