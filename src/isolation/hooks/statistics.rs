//! The hooks through which the planner reads a table's properties and statistics. A table that the caller cannot access
//! is refused when the planner begins to plan it, even if the query of an inlined function brought it in. Statistics of
//! the catalog are hidden from the first of the two passes in which a query with functions is planned (see
//! `queries::plan_with_functions`), because an inlined function can bring the catalog into that pass without its
//! barrier.

use pgrx::prelude::*;

use super::chain::PREVIOUS;
use crate::catalog;
use crate::isolation::refusal::Raise;
use crate::isolation::{inlined_functions, lift_policies, range_table};
use crate::pg::catalogs;

/// Width in bytes reported for every column of the catalog: about the length of a slug.
const ANY_WIDTH: i32 = 32;

/// Checks a table whose policies are still in the query, or that is of a kind that cannot have policies. Most tables
/// need no check here: their policies were lifted because the caller can access them, or they never had any.
pub unsafe extern "C-unwind" fn table_information(
    root: *mut pg_sys::PlannerInfo,
    table: pg_sys::Oid,
    inherits: bool,
    information: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the hook's contract guarantees the arguments, which are passed on to the previous hook. Relations are
    // numbered from 1.
    unsafe {
        if let Some(previous) = PREVIOUS.relation_information {
            previous(root, table, inherits, information);
        }
        let entry = *(*root).simple_rte_array.add((*information).relid as usize);
        if !(*entry).securityQuals.is_null() || range_table::cannot_have_policies(entry) {
            check_planned_table((*root).parse, entry);
            if is_in_catalog_schema(table) {
                hide_widths(information);
            }
        }
    }
}

/// Hides the average widths of a table's columns, which would reveal how long other tenants' slugs and names are. The
/// planner looks up a width only if it is not set.
///
/// # Safety
/// `information` must be the planner's description of a table.
unsafe fn hide_widths(information: *mut pg_sys::RelOptInfo) {
    // SAFETY: guaranteed by the caller. The description has a width for each column.
    unsafe {
        for column in 0..=usize::try_from((*information).max_attr - (*information).min_attr).unwrap_or(0) {
            *(*information).attr_widths.add(column) = ANY_WIDTH;
        }
    }
}

/// Raises an error if the table of an entry is not accessible.
///
/// # Safety
/// `query` must be a query that is being planned, and `entry` an entry of its range table.
#[pg_guard]
unsafe extern "C-unwind" fn check_planned_table(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry) {
    // SAFETY: guaranteed by the caller.
    unsafe { lift_policies::check_planned_table(query, entry) }.unwrap_or_raise();
}

pub unsafe extern "C-unwind" fn of_relation(
    root: *mut pg_sys::PlannerInfo,
    entry: *mut pg_sys::RangeTblEntry,
    column: pg_sys::AttrNumber,
    data: *mut pg_sys::VariableStatData,
) -> bool {
    // SAFETY: the hook's contract guarantees the arguments, which are passed on to the previous hook.
    unsafe {
        if inlined_functions::are_statistics_hidden() && is_in_catalog_schema((*entry).relid) {
            (*data).statsTuple = std::ptr::null_mut();
            return true;
        }
        PREVIOUS.relation_statistics.is_some_and(|previous| previous(root, entry, column, data))
    }
}

pub unsafe extern "C-unwind" fn of_index(
    root: *mut pg_sys::PlannerInfo,
    index: pg_sys::Oid,
    column: pg_sys::AttrNumber,
    data: *mut pg_sys::VariableStatData,
) -> bool {
    // SAFETY: as above.
    unsafe {
        if inlined_functions::are_statistics_hidden() && is_in_catalog_schema(index) {
            (*data).statsTuple = std::ptr::null_mut();
            return true;
        }
        PREVIOUS.index_statistics.is_some_and(|previous| previous(root, index, column, data))
    }
}

/// Reports whether a table or an index is in the catalog's schema.
#[pg_guard]
extern "C-unwind" fn is_in_catalog_schema(relation: pg_sys::Oid) -> bool {
    catalogs::schema_by_name(catalog::SCHEMA) == Some(catalogs::relation_schema(relation))
}
