//! SQL functions whose query the planner puts in place of their call, which no hook hears of: one that reads the catalog is planned
//! without its barrier. Then the query is planned again, and its functions are called.

use std::cell::Cell;
use std::ffi::c_void;

use pgrx::prelude::*;

use super::{barrier, relations};
use crate::pg::lists;

thread_local! {
    static KEPT_OUT: Cell<bool> = const { Cell::new(false) };
}

/// Has functions called and not put in; answers with how it was.
pub fn keep_out(keep_out: bool) -> bool {
    KEPT_OUT.replace(keep_out)
}

pub fn are_kept_out() -> bool {
    KEPT_OUT.get()
}

/// Whether a query has functions of others in FROM. Every query comes by here.
///
/// # Safety
/// A query as the planner gets it.
pub unsafe fn has_functions(query: *mut pg_sys::Query) -> bool {
    // SAFETY: by the caller's promise; the kind of an entry tells which of its fields are in use, and a common table expression holds a
    // query.
    unsafe {
        lists::nodes::<pg_sys::RangeTblEntry>((*query).rtable).any(|entry| match (*entry).rtekind {
            pg_sys::RTEKind::RTE_FUNCTION => calls_others((*entry).functions),
            pg_sys::RTEKind::RTE_SUBQUERY => has_functions((*entry).subquery),
            _ => false,
        }) || lists::nodes::<pg_sys::CommonTableExpr>((*query).cteList)
            .any(|expression| has_functions((*expression).ctequery.cast()))
            || ((*query).hasSubLinks && sub_links_have_functions(query))
    }
}

/// # Safety
/// A list of RangeTblFunction.
unsafe fn calls_others(functions: *mut pg_sys::List) -> bool {
    // SAFETY: by the caller's promise; the tag tells the node's type.
    unsafe {
        lists::nodes::<pg_sys::RangeTblFunction>(functions).any(|function| {
            let call = (*function).funcexpr;
            pgrx::is_a(call, pg_sys::NodeTag::T_FuncExpr)
                && !relations::is_servers_own((*call.cast::<pg_sys::FuncExpr>()).funcid)
        })
    }
}

/// # Safety
/// As for `has_functions`.
#[pg_guard]
unsafe extern "C-unwind" fn sub_links_have_functions(query: *mut pg_sys::Query) -> bool {
    let rest = (pg_sys::QTW_IGNORE_RT_SUBQUERIES | pg_sys::QTW_IGNORE_CTE_SUBQUERIES) as i32;
    // SAFETY: by the caller's promise; the walker uses no context.
    unsafe { pg_sys::query_tree_walker(query, Some(find_functions), std::ptr::null_mut(), rest) }
}

/// # Safety
/// Called by the server's tree walkers with a node, or null.
#[pg_guard]
unsafe extern "C-unwind" fn find_functions(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: by the contract of walkers; the tag tells the node's type.
    unsafe {
        if node.is_null() {
            false
        } else if pgrx::is_a(node, pg_sys::NodeTag::T_Query) {
            has_functions(node.cast())
        } else {
            pg_sys::expression_tree_walker(node, Some(find_functions), context)
        }
    }
}

/// Whether a plan reads a table of the catalog that is not behind a barrier.
///
/// # Safety
/// A range table.
pub unsafe fn reads_catalog(range_table: *mut pg_sys::List) -> bool {
    // SAFETY: lookups by C string and by oid; missing_ok.
    unsafe {
        let catalog = pg_sys::get_namespace_oid(c"fluxbase_tenant".as_ptr(), true);
        lists::nodes::<pg_sys::RangeTblEntry>(range_table).any(|entry| {
            (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION
                && !barrier::is_behind(entry)
                && catalog != pg_sys::InvalidOid
                && pg_sys::get_rel_namespace((*entry).relid) == catalog
        })
    }
}
