//! The server's hooks: where a query is planned, where it starts, where it goes on (`queries`), where functions are called
//! and where commands lock or fetch without starting a query (`utility`).

mod functions;
mod probe;
mod queries;
mod utility;

use std::cell::Cell;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::check::{self, Use};
use crate::access::Moment;
use crate::catalog::changes;
use crate::error::{Error, Result};

pub use probe::in_force;

/// The hooks that were there before ours, called by ours.
struct Previous {
    planner: pg_sys::planner_hook_type,
    check_permissions: pg_sys::ExecutorCheckPerms_hook_type,
    executor_start: pg_sys::ExecutorStart_hook_type,
    executor_run: pg_sys::ExecutorRun_hook_type,
    utility: pg_sys::ProcessUtility_hook_type,
    object_access: pg_sys::object_access_hook_type,
    needs_function_hook: pg_sys::needs_fmgr_hook_type,
    function: pg_sys::fmgr_hook_type,
}

static mut PREVIOUS: Previous = Previous {
    planner: None,
    check_permissions: None,
    executor_start: None,
    executor_run: None,
    utility: None,
    object_access: None,
    needs_function_hook: None,
    function: None,
};

thread_local! {
    /// The query that was checked last, and when, while nothing has happened since that could change who the caller is.
    static JUST_STARTED: Cell<Option<(*mut pg_sys::QueryDesc, Moment)>> = const { Cell::new(None) };
}

pub fn install() {
    // SAFETY: once per backend, before any query runs through the hooks; each keeps and calls what it replaces.
    unsafe {
        PREVIOUS = Previous {
            planner: pg_sys::planner_hook,
            check_permissions: pg_sys::ExecutorCheckPerms_hook,
            executor_start: pg_sys::ExecutorStart_hook,
            executor_run: pg_sys::ExecutorRun_hook,
            utility: pg_sys::ProcessUtility_hook,
            object_access: pg_sys::object_access_hook,
            needs_function_hook: pg_sys::needs_fmgr_hook,
            function: pg_sys::fmgr_hook,
        };
        pg_sys::planner_hook = Some(queries::plan);
        pg_sys::ExecutorCheckPerms_hook = Some(queries::check_permissions);
        pg_sys::ExecutorStart_hook = Some(queries::executor_start);
        pg_sys::ExecutorRun_hook = Some(queries::executor_run);
        pg_sys::ProcessUtility_hook = Some(utility::utility);
        pg_sys::object_access_hook = Some(utility::object_access);
        pg_sys::needs_fmgr_hook = Some(functions::needs_hook);
        pg_sys::fmgr_hook = Some(functions::call);
    }
}

/// For what the permission hook does not see.
fn permit(uses: impl Iterator<Item = Use> + Clone) {
    changes::catch_up();
    are_within_reach(uses, true);
}

fn are_within_reach(uses: impl Iterator<Item = Use> + Clone, raise: bool) -> bool {
    match check::out_of_reach(uses).unwrap_or_raise() {
        None => true,
        Some(relation) if raise => refuse("table", check::relation_name(relation)),
        Some(_) => false,
    }
}

fn refuse(kind: &'static str, name: String) -> ! {
    let refused: Result<()> = Err(Error::OutOfReach { kind, name });
    refused.unwrap_or_raise();
    unreachable!()
}

trait Raise<T> {
    fn unwrap_or_raise(self) -> T;
}

impl<T> Raise<T> for Result<T> {
    /// Hooks have no result to return an error in.
    fn unwrap_or_raise(self) -> T {
        use pgrx::pg_sys::panic::ErrorReportable;
        self.map_err(ErrorReport::from).unwrap_or_report()
    }
}
