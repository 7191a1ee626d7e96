//! PostgreSQL's hooks: where a query is planned, starts and continues (`queries`), where the planner reads a table's
//! properties and statistics (`statistics`), where functions are called (`functions`), and where names and privileges
//! are looked up (`object_access`). The hook for utility commands is in `protection`.

mod chain;
mod functions;
mod object_access;
mod queries;
mod statistics;

use pgrx::prelude::*;

use chain::{PREVIOUS, Previous};

pub use chain::forget_start;

/// Installs the hooks. Called once per backend.
pub fn install() {
    // SAFETY: called once per backend, before any query runs through the hooks. Each hook keeps the one that it
    // replaces and calls it.
    unsafe {
        PREVIOUS = Previous {
            planner: pg_sys::planner_hook,
            check_permissions: pg_sys::ExecutorCheckPerms_hook,
            executor_start: pg_sys::ExecutorStart_hook,
            executor_run: pg_sys::ExecutorRun_hook,
            object_access: pg_sys::object_access_hook,
            needs_function_hook: pg_sys::needs_fmgr_hook,
            function: pg_sys::fmgr_hook,
            relation_information: pg_sys::get_relation_info_hook,
            relation_statistics: pg_sys::get_relation_stats_hook,
            index_statistics: pg_sys::get_index_stats_hook,
        };
        pg_sys::planner_hook = Some(queries::plan);
        pg_sys::ExecutorCheckPerms_hook = Some(queries::check_permissions);
        pg_sys::ExecutorStart_hook = Some(queries::executor_start);
        pg_sys::ExecutorRun_hook = Some(queries::executor_run);
        pg_sys::object_access_hook = Some(object_access::object_access);
        pg_sys::needs_fmgr_hook = Some(functions::needs_hook);
        pg_sys::fmgr_hook = Some(functions::call);
        pg_sys::get_relation_info_hook = Some(statistics::table_information);
        pg_sys::get_relation_stats_hook = Some(statistics::of_relation);
        pg_sys::get_index_stats_hook = Some(statistics::of_index);
    }
}
