//! What the planner learns of tables. One that is out of reach is refused as it begins to plan it, also where a function's query, put in
//! place of its call, brought it. A function that brings the catalog into a query is planned once as the server does, before it is
//! planned with the catalog behind its barrier: of the catalog that first plan learns nothing.

use pgrx::prelude::*;

use super::chain::PREVIOUS;
use crate::catalog;
use crate::isolation::refusal::Raise;
use crate::isolation::{inlined_functions, lift_policies, range_table};
use crate::pg::catalogs;

/// In bytes, about as long as a slug.
const ANY_WIDTH: i32 = 32;

/// Policies that have been lifted were a caller's who reaches the table; most tables come by here without any.
pub unsafe extern "C-unwind" fn of_table(
    root: *mut pg_sys::PlannerInfo,
    table: pg_sys::Oid,
    inherits: bool,
    information: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: by the hook's contract; the hook that was there, with its own arguments. Relations are numbered from 1 on.
    unsafe {
        if let Some(previous) = PREVIOUS.relation_information {
            previous(root, table, inherits, information);
        }
        let entry = *(*root).simple_rte_array.add((*information).relid as usize);
        if !(*entry).securityQuals.is_null() || range_table::is_unguarded(entry) {
            permit_planning((*root).parse, entry);
            if is_catalogs(table) {
                hide_widths(information);
            }
        }
    }
}

/// The average width of a column tells how long others' slugs and names are. The planner looks it up where it is not set.
///
/// # Safety
/// What the planner knows of a table.
unsafe fn hide_widths(information: *mut pg_sys::RelOptInfo) {
    // SAFETY: by the caller's promise, with a width for each column.
    unsafe {
        for column in 0..=usize::try_from((*information).max_attr - (*information).min_attr).unwrap_or(0) {
            *(*information).attr_widths.add(column) = ANY_WIDTH;
        }
    }
}

/// # Safety
/// A query that is being planned, and an entry of its range table.
#[pg_guard]
unsafe extern "C-unwind" fn permit_planning(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry) {
    // SAFETY: by the caller's promise.
    unsafe { lift_policies::permit_planning(query, entry) }.unwrap_or_raise();
}

pub unsafe extern "C-unwind" fn of_relation(
    root: *mut pg_sys::PlannerInfo,
    entry: *mut pg_sys::RangeTblEntry,
    column: pg_sys::AttrNumber,
    data: *mut pg_sys::VariableStatData,
) -> bool {
    // SAFETY: by the hook's contract; the hook that was there, with its own arguments.
    unsafe {
        if inlined_functions::are_statistics_hidden() && is_catalogs((*entry).relid) {
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
        if inlined_functions::are_statistics_hidden() && is_catalogs(index) {
            (*data).statsTuple = std::ptr::null_mut();
            return true;
        }
        PREVIOUS.index_statistics.is_some_and(|previous| previous(root, index, column, data))
    }
}

/// Whether a table or an index is in the schema of the catalog.
#[pg_guard]
extern "C-unwind" fn is_catalogs(relation: pg_sys::Oid) -> bool {
    catalogs::schema_by_name(catalog::SCHEMA) == Some(catalogs::relation_schema(relation))
}
