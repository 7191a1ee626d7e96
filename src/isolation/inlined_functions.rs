//! SQL functions whose query the planner puts in place of their call, which no hook hears of: one that reads the catalog is planned
//! without its barrier. Then the query is planned again, and its functions are called.

use std::cell::Cell;
use std::ffi::c_void;

use pgrx::prelude::*;

use super::{catalog_barrier, tenant_of};
use crate::catalog;
use crate::pg::{catalogs, lists, own_transaction};

thread_local! {
    static KEPT_OUT: Cell<Option<pg_sys::LocalTransactionId>> = const { Cell::new(None) };
}

thread_local! {
    static HIDDEN: Cell<Option<pg_sys::LocalTransactionId>> = const { Cell::new(None) };
}

/// Hides statistics of the catalog from the planner, until `show_statistics` or an error ends the transaction; answers with how it was.
pub fn hide_statistics() -> Option<pg_sys::LocalTransactionId> {
    HIDDEN.replace(Some(own_transaction()))
}

pub fn show_statistics(before: Option<pg_sys::LocalTransactionId>) {
    HIDDEN.set(before);
}

pub fn are_statistics_hidden() -> bool {
    HIDDEN.get().is_some_and(|within| within == own_transaction())
}

/// Has functions called and not put in, until `put_back` or an error ends the transaction; answers with how it was.
pub fn keep_out() -> Option<pg_sys::LocalTransactionId> {
    KEPT_OUT.replace(Some(own_transaction()))
}

pub fn put_back(before: Option<pg_sys::LocalTransactionId>) {
    KEPT_OUT.set(before);
}

pub fn are_kept_out() -> bool {
    KEPT_OUT.get().is_some_and(|within| within == own_transaction())
}

/// Whether a query has functions of others in FROM. Every query comes by here.
///
/// # Safety
/// A query as the planner gets it.
pub unsafe fn has_functions(query: *mut pg_sys::Query) -> bool {
    // SAFETY: by the caller's promise; the kind of an entry tells which of its fields are in use, and a common table expression holds a
    // query.
    unsafe {
        let mut has_any = false;
        for entry in lists::nodes::<pg_sys::RangeTblEntry>((*query).rtable) {
            has_any |= match (*entry).rtekind {
                pg_sys::RTEKind::RTE_FUNCTION => calls_others((*entry).functions),
                pg_sys::RTEKind::RTE_SUBQUERY => has_functions((*entry).subquery),
                _ => false,
            };
        }
        for expression in lists::nodes::<pg_sys::CommonTableExpr>((*query).cteList) {
            has_any |= has_functions((*expression).ctequery.cast());
        }
        has_any | ((*query).hasSubLinks && sub_links_have_functions(query))
    }
}

/// # Safety
/// A list of RangeTblFunction.
unsafe fn calls_others(functions: *mut pg_sys::List) -> bool {
    // SAFETY: by the caller's promise; the tag tells the node's type.
    unsafe {
        lists::nodes::<pg_sys::RangeTblFunction>(functions).any(|function| {
            let call = (*function).funcexpr;
            (*call).type_ == pg_sys::NodeTag::T_FuncExpr
                && !tenant_of::is_servers_own((*call.cast::<pg_sys::FuncExpr>()).funcid)
        })
    }
}

/// # Safety
/// As for `has_functions`.
unsafe fn sub_links_have_functions(query: *mut pg_sys::Query) -> bool {
    let rest = (pg_sys::QTW_IGNORE_RT_SUBQUERIES | pg_sys::QTW_IGNORE_CTE_SUBQUERIES) as i32;
    let mut has_any = false;
    // SAFETY: by the caller's promise; the walker's context is what it says.
    unsafe { walk_query(query, find_functions, (&raw mut has_any).cast(), rest) };
    has_any
}

/// Without a guard, as the hooks are: queries may be deep, and a guard takes more of the stack than the rest.
///
/// # Safety
/// Called by the server's tree walkers with a node, or null, and where to note a function.
unsafe extern "C-unwind" fn find_functions(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: by the contract of walkers; the tag tells the node's type.
    unsafe {
        if node.is_null() {
            false
        } else if (*node).type_ == pg_sys::NodeTag::T_Query {
            *context.cast::<bool>() |= has_functions(node.cast());
            false
        } else {
            walk_expression(node, find_functions, context)
        }
    }
}

type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

// SAFETY: as the server declares them; pgrx's own declarations guard against errors.
unsafe extern "C-unwind" {
    #[cfg_attr(feature = "pg15", link_name = "expression_tree_walker")]
    #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
    fn walk_expression(node: *mut pg_sys::Node, walker: Walker, context: *mut c_void) -> bool;
    #[cfg_attr(feature = "pg15", link_name = "query_tree_walker")]
    #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
    fn walk_query(query: *mut pg_sys::Query, walker: Walker, context: *mut c_void, flags: i32) -> bool;
}

/// Whether a plan reads a table of the catalog that is not behind a barrier.
///
/// # Safety
/// A range table.
pub unsafe fn reads_catalog(range_table: *mut pg_sys::List) -> bool {
    let Some(catalog) = catalogs::schema_by_name(catalog::SCHEMA) else {
        return false;
    };
    // SAFETY: by the caller's promise.
    unsafe {
        lists::nodes::<pg_sys::RangeTblEntry>(range_table).any(|entry| {
            (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION
                && !catalog_barrier::is_behind(entry)
                && catalogs::relation_schema((*entry).relid) == catalog
        })
    }
}
