//! The catalog barrier. Rows of the catalog that the caller may not see must not even be compared with anything.
//! PostgreSQL evaluates policies before other conditions, but it may evaluate leakproof operators earlier, in an index
//! scan. EXPLAIN, counters and predicate locks would then reveal which rows match. So the table and its policies are
//! moved into a subquery, into which PostgreSQL pushes none of the query's conditions.

use pgrx::pg_sys;

use super::range_table;
use crate::error::{Error, Result};
use crate::pg::catalogs;
use crate::pg::nodes::{copy, make, one};

/// Replaces an entry of the range table by a subquery that reads the same table, with its policies.
///
/// # Safety
/// `query` must be a query as the planner receives it. `entry` must be the entry number `place` of its range table,
/// counted from 1: a table with policies that the query only reads.
pub unsafe fn add(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry, place: i32) -> Result<()> {
    // SAFETY: guaranteed by the caller. The planner may write to the query, and all added nodes are new.
    unsafe {
        if range_table::uses_system_columns(query, entry) {
            return Err(Error::forbidden(
                "read system columns of the catalog",
                "Select only columns that the table defines.",
            ));
        }
        // The arguments of TABLESAMPLE may refer to columns of outer queries, and these are one level further away in
        // the subquery.
        if !(*entry).tablesample.is_null() {
            return Err(Error::forbidden("read a sample of the catalog", "Read it without TABLESAMPLE."));
        }
        let table = copy(entry);
        (*table).inFromCl = true;
        // PostgreSQL ignores this flag for a table and keeps it in the plan, where `has_barrier` finds it.
        (*table).security_barrier = true;
        change_var_nodes((*table).securityQuals.cast(), place, 1, 0);
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
        // PostgreSQL pushes no condition into a subquery with OFFSET.
        (*inner).limitOffset = zero();

        (*entry).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*entry).subquery = inner;
        // The planner makes no estimates from the statistics of its columns.
        (*entry).security_barrier = true;
        (*entry).securityQuals = std::ptr::null_mut();
        // As for an expanded view, the entry keeps the table's OID, which determines the type of a whole-row reference,
        // and its lock.
        (*entry).inh = false;
        range_table::clear_permission(entry);
    }
    Ok(())
}

/// Reports whether a table in a plan was put into such a subquery.
///
/// # Safety
/// `entry` must be an entry of a range table.
pub unsafe fn has_barrier(entry: *mut pg_sys::RangeTblEntry) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe { (*entry).security_barrier }
}

/// Returns the constant 0 of type bigint.
///
/// # Safety
/// The current memory context must be one in which nodes may be allocated.
unsafe fn zero() -> *mut pg_sys::Node {
    let (length, by_value) = (size_of::<i64>() as i32, true);
    // SAFETY: makes a constant of a type that is passed by value, with that type's length.
    unsafe { pg_sys::makeConst(pg_sys::INT8OID, -1, pg_sys::InvalidOid, length, 0i64.into(), false, by_value).cast() }
}

// SAFETY: the declaration matches PostgreSQL's. pgrx's bindings do not include it.
unsafe extern "C-unwind" {
    #[link_name = "ChangeVarNodes"]
    fn change_var_nodes(node: *mut pg_sys::Node, from: i32, to: i32, levels_up: i32);
}
