//! SQL functions that the planner inlines: it replaces the call by the function's query, which has passed through no
//! hook. If that query reads the catalog, it does so without the catalog barrier. Then the query is planned again with
//! inlining prevented.

use std::cell::Cell;
use std::ffi::c_void;

use pgrx::prelude::*;

use super::{catalog_barrier, tenant_of};
use crate::catalog;
use crate::pg::{catalogs, lists, own_transaction};

thread_local! {
    static INLINING_PREVENTED: Cell<Option<pg_sys::LocalTransactionId>> = const { Cell::new(None) };
}

thread_local! {
    static STATISTICS_HIDDEN: Cell<Option<pg_sys::LocalTransactionId>> = const { Cell::new(None) };
}

/// Hides statistics of the catalog from the planner, until `restore_statistics` or until an error ends the transaction.
/// Returns the previous state.
pub fn hide_statistics() -> Option<pg_sys::LocalTransactionId> {
    STATISTICS_HIDDEN.replace(Some(own_transaction()))
}

pub fn restore_statistics(before: Option<pg_sys::LocalTransactionId>) {
    STATISTICS_HIDDEN.set(before);
}

pub fn are_statistics_hidden() -> bool {
    STATISTICS_HIDDEN.get().is_some_and(|transaction| transaction == own_transaction())
}

/// Prevents inlining, so that functions are called, until `restore_inlining` or until an error ends the transaction.
/// Returns the previous state.
pub fn prevent_inlining() -> Option<pg_sys::LocalTransactionId> {
    INLINING_PREVENTED.replace(Some(own_transaction()))
}

pub fn restore_inlining(before: Option<pg_sys::LocalTransactionId>) {
    INLINING_PREVENTED.set(before);
}

pub fn is_inlining_prevented() -> bool {
    INLINING_PREVENTED.get().is_some_and(|transaction| transaction == own_transaction())
}

/// Reports whether a query calls functions in FROM that are not built in. Called for every query.
///
/// # Safety
/// `query` must be a query as the planner receives it.
pub unsafe fn has_user_functions_in_from(query: *mut pg_sys::Query) -> bool {
    // SAFETY: guaranteed by the caller. The kind of an entry determines which of its fields are used, and a common
    // table expression holds a query.
    unsafe {
        let mut has_any = false;
        for entry in lists::nodes::<pg_sys::RangeTblEntry>((*query).rtable) {
            has_any |= match (*entry).rtekind {
                pg_sys::RTEKind::RTE_FUNCTION => calls_user_functions((*entry).functions),
                pg_sys::RTEKind::RTE_SUBQUERY => has_user_functions_in_from((*entry).subquery),
                _ => false,
            };
        }
        for expression in lists::nodes::<pg_sys::CommonTableExpr>((*query).cteList) {
            has_any |= has_user_functions_in_from((*expression).ctequery.cast());
        }
        has_any | ((*query).hasSubLinks && sub_links_have_user_functions(query))
    }
}

/// Reports whether one of the functions is not built in.
///
/// # Safety
/// `functions` must be a list of RangeTblFunction.
unsafe fn calls_user_functions(functions: *mut pg_sys::List) -> bool {
    // SAFETY: guaranteed by the caller. A node's tag determines its type.
    unsafe {
        lists::nodes::<pg_sys::RangeTblFunction>(functions).any(|function| {
            let call = (*function).funcexpr;
            (*call).type_ == pg_sys::NodeTag::T_FuncExpr
                && !tenant_of::is_builtin((*call.cast::<pg_sys::FuncExpr>()).funcid)
        })
    }
}

/// Reports whether a subquery in an expression calls functions in FROM that are not built in.
///
/// # Safety
/// As for `has_user_functions_in_from`.
unsafe fn sub_links_have_user_functions(query: *mut pg_sys::Query) -> bool {
    let rest = (pg_sys::QTW_IGNORE_RT_SUBQUERIES | pg_sys::QTW_IGNORE_CTE_SUBQUERIES) as i32;
    let mut has_any = false;
    // SAFETY: guaranteed by the caller. The walker's context is the type that the walker expects.
    unsafe { walk_query(query, find_functions, (&raw mut has_any).cast(), rest) };
    has_any
}

/// Records whether a subquery calls functions in FROM. Has no guard, like the hooks: a query can be nested deeply, and
/// a guard takes more stack than the rest of the function.
///
/// # Safety
/// `node` must be a node or null, and `context` a pointer to a bool.
unsafe extern "C-unwind" fn find_functions(node: *mut pg_sys::Node, context: *mut c_void) -> bool {
    // SAFETY: guaranteed by the caller. A node's tag determines its type.
    unsafe {
        if node.is_null() {
            false
        } else if (*node).type_ == pg_sys::NodeTag::T_Query {
            *context.cast::<bool>() |= has_user_functions_in_from(node.cast());
            false
        } else {
            walk_expression(node, find_functions, context)
        }
    }
}

type Walker = unsafe extern "C-unwind" fn(*mut pg_sys::Node, *mut c_void) -> bool;

// SAFETY: the declarations match PostgreSQL's. pgrx's own declarations add a guard.
unsafe extern "C-unwind" {
    #[cfg_attr(feature = "pg15", link_name = "expression_tree_walker")]
    #[cfg_attr(not(feature = "pg15"), link_name = "expression_tree_walker_impl")]
    fn walk_expression(node: *mut pg_sys::Node, walker: Walker, context: *mut c_void) -> bool;
    #[cfg_attr(feature = "pg15", link_name = "query_tree_walker")]
    #[cfg_attr(not(feature = "pg15"), link_name = "query_tree_walker_impl")]
    fn walk_query(query: *mut pg_sys::Query, walker: Walker, context: *mut c_void, flags: i32) -> bool;
}

/// Reports whether a plan reads a table of the catalog without the catalog barrier.
///
/// # Safety
/// `range_table` must be a range table.
pub unsafe fn reads_catalog(range_table: *mut pg_sys::List) -> bool {
    let Some(catalog) = catalogs::schema_by_name(catalog::SCHEMA) else {
        return false;
    };
    // SAFETY: guaranteed by the caller.
    unsafe {
        lists::nodes::<pg_sys::RangeTblEntry>(range_table).any(|entry| {
            (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION
                && !catalog_barrier::has_barrier(entry)
                && catalogs::relation_schema((*entry).relid) == catalog
        })
    }
}
