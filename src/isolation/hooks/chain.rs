//! What the hooks share: the hooks that were installed before ours, each of which ours calls, and the query that has
//! just been checked.

use std::cell::Cell;

use pgrx::prelude::*;

use crate::access::Moment;

/// The previous hooks, `None` where there was none.
pub struct Previous {
    pub planner: pg_sys::planner_hook_type,
    pub check_permissions: pg_sys::ExecutorCheckPerms_hook_type,
    pub executor_start: pg_sys::ExecutorStart_hook_type,
    pub executor_run: pg_sys::ExecutorRun_hook_type,
    pub object_access: pg_sys::object_access_hook_type,
    pub needs_function_hook: pg_sys::needs_fmgr_hook_type,
    pub function: pg_sys::fmgr_hook_type,
    pub relation_information: pg_sys::get_relation_info_hook_type,
    pub relation_statistics: pg_sys::get_relation_stats_hook_type,
    pub index_statistics: pg_sys::get_index_stats_hook_type,
}

/// Written once, by `install`.
pub static mut PREVIOUS: Previous = Previous {
    planner: None,
    check_permissions: None,
    executor_start: None,
    executor_run: None,
    object_access: None,
    needs_function_hook: None,
    function: None,
    relation_information: None,
    relation_statistics: None,
    index_statistics: None,
};

thread_local! {
    /// The last query that was checked, and the moment and the role of the check. `None` if anything has happened since
    /// then that could change who is calling.
    pub static JUST_STARTED: Cell<Option<(*mut pg_sys::QueryDesc, Moment, pg_sys::Oid)>> = const { Cell::new(None) };
}

/// Forgets the last check. Called before anything that can change who is calling other than through the extension's
/// settings.
pub fn forget_start() {
    JUST_STARTED.set(None);
}
