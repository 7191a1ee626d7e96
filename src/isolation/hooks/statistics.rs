//! Statistics that the planner asks for. A function that brings the catalog into a query is planned once as the server does, before it
//! is planned with the catalog behind its barrier: of the catalog that first plan learns nothing.

use pgrx::prelude::*;

use super::chain::PREVIOUS;
use crate::catalog;
use crate::isolation::inlined_functions;
use crate::pg::catalogs;

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
