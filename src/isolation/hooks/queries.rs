//! The hooks that every query passes through. They have no guard around the functions of PostgreSQL that they call,
//! because the guard would cost more than all they do. Code of ours that can fail is in guarded functions. An error of
//! PostgreSQL jumps over the hooks, which then leave nothing unfinished.
//!
//! Three places check that a plan's relations are accessible:
//! - the permission hook, when PostgreSQL starts the plan: the executor-start check;
//! - `executor_start`, only if the permission hook is not in force, for plans that were made while it was;
//! - `executor_run`, only if it does not directly follow the start, as for a cursor.

use std::ffi::c_char;

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;

use super::chain::{JUST_STARTED, PREVIOUS};
use crate::access::{self, Moment, owner_roles, security_definers};
use crate::isolation::refusal::{Raise, are_accessible, require_access};
use crate::isolation::{held_cursors, hook_probe, inlined_functions, lift_policies, range_table};
use crate::pg::cursor::Cursor;
use crate::pg::{caches, guc, nodes, roles};
use crate::settings;

// SAFETY: the declarations match PostgreSQL's.
unsafe extern "C-unwind" {
    fn AcceptInvalidationMessages();
    fn standard_planner(
        query: *mut pg_sys::Query,
        text: *const c_char,
        options: i32,
        params: pg_sys::ParamListInfo,
    ) -> *mut pg_sys::PlannedStmt;
    fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: i32);
    #[cfg(not(feature = "pg18"))]
    fn standard_ExecutorRun(
        query: *mut pg_sys::QueryDesc,
        direction: pg_sys::ScanDirection::Type,
        count: u64,
        once: bool,
    );
    #[cfg(feature = "pg18")]
    fn standard_ExecutorRun(query: *mut pg_sys::QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64);
}

#[cfg(feature = "pg15")]
pub unsafe extern "C-unwind" fn check_permissions(range_table: *mut pg_sys::List, raise: bool) -> bool {
    hook_probe::record_call();
    // SAFETY: calls the previous hook with its own arguments. The hook's contract guarantees a list of range table
    // entries.
    unsafe {
        AcceptInvalidationMessages();
        PREVIOUS.check_permissions.is_none_or(|previous| previous(range_table, raise))
            && are_permitted(range_table, std::ptr::null_mut(), raise)
    }
}

#[cfg(not(feature = "pg15"))]
pub unsafe extern "C-unwind" fn check_permissions(
    range_table: *mut pg_sys::List,
    permissions: *mut pg_sys::List,
    raise: bool,
) -> bool {
    hook_probe::record_call();
    // SAFETY: calls the previous hook with its own arguments. The hook's contract guarantees lists of range table
    // entries and of their permissions.
    unsafe {
        AcceptInvalidationMessages();
        PREVIOUS.check_permissions.is_none_or(|previous| previous(range_table, permissions, raise))
            && are_permitted(range_table, permissions, raise)
    }
}

/// Runs the executor-start check on a range table.
///
/// # Safety
/// The arguments must be those of a permission hook. On PostgreSQL 15, `permissions` must be null.
#[pg_guard]
unsafe extern "C-unwind" fn are_permitted(
    range_table: *mut pg_sys::List,
    permissions: *mut pg_sys::List,
    raise: bool,
) -> bool {
    // SAFETY: guaranteed by the caller.
    are_accessible(unsafe { range_table::uses(range_table, permissions) }, raise)
}

pub unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: i32,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the hook's contract guarantees the arguments, which are passed on to the previous hook or to PostgreSQL's
    // own function.
    unsafe {
        if (*query).hasRowSecurity {
            AcceptInvalidationMessages();
            before_planning(query);
        }
        // Parallel workers do not know which SECURITY DEFINER functions are running.
        let options =
            if security_definers::any_running() { options & !(pg_sys::CURSOR_OPT_PARALLEL_OK as i32) } else { options };
        let before = caches::reads();
        let plan = if inlined_functions::has_user_functions_in_from(query) {
            plan_with_functions(query, text, options, params)
        } else {
            call_planner(query, text, options, params)
        };
        // If a plan with folded results exists, the counter proves nothing: a function that the planner has called may
        // itself have used that plan, and read no table.
        if caches::reads() != before || caches::have_folded() {
            caches::note_folded(plan);
        }
        if range_table::entries_without_policies(plan).next().is_some() {
            after_planning(plan);
        }
        plan
    }
}

/// Calls the previous hook or PostgreSQL's planner.
///
/// # Safety
/// The arguments must be those of a planner hook.
unsafe fn call_planner(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: i32,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: calls the previous hook or PostgreSQL's own function with its own arguments.
    unsafe { PREVIOUS.planner.unwrap_or(standard_planner)(query, text, options, params) }
}

/// Plans a query that calls functions. PostgreSQL may inline a function's query, which has then passed through no hook.
/// If the plan reads the catalog without a barrier, plans the query again with its functions called instead of inlined.
///
/// # Safety
/// The arguments must be those of a planner hook.
unsafe fn plan_with_functions(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: i32,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: guaranteed by the caller. The planner writes to the query but not to the copy.
    unsafe {
        let copy = copied(query);
        let before = inlined_functions::hide_statistics();
        let plan = call_planner(query, text, options, params);
        inlined_functions::restore_statistics(before);
        if !reads_catalog(plan) {
            return plan;
        }
        let before = inlined_functions::prevent_inlining();
        let plan = call_planner(copy, text, options, params);
        inlined_functions::restore_inlining(before);
        plan
    }
}

/// Returns a copy of a query.
///
/// # Safety
/// `query` must be the argument of a planner hook.
#[pg_guard]
unsafe extern "C-unwind" fn copied(query: *mut pg_sys::Query) -> *mut pg_sys::Query {
    // SAFETY: guaranteed by the caller.
    unsafe { nodes::copy(query) }
}

/// Reports whether a plan reads the catalog without the catalog barrier.
///
/// # Safety
/// `plan` must be the result of a planner hook.
#[pg_guard]
unsafe extern "C-unwind" fn reads_catalog(plan: *mut pg_sys::PlannedStmt) -> bool {
    // SAFETY: guaranteed by the caller.
    unsafe { inlined_functions::reads_catalog((*plan).rtable) }
}

/// Disables PostgreSQL's checks of SELECT that the executor-start check replaces.
///
/// # Safety
/// `plan` must be the result of a planner hook.
#[pg_guard]
unsafe extern "C-unwind" fn after_planning(plan: *mut pg_sys::PlannedStmt) {
    if hook_probe::in_force() {
        // SAFETY: guaranteed by the caller. The plan has not been executed yet.
        unsafe { lift_policies::skip_select_checks(plan) }.unwrap_or_raise();
    }
}

/// Lifts the policies that the executor-start check covers, and adds the catalog barrier.
///
/// # Safety
/// `query` must be the argument of a planner hook.
#[pg_guard]
unsafe extern "C-unwind" fn before_planning(query: *mut pg_sys::Query) {
    // SAFETY: guaranteed by the caller. The planner may write to the query.
    unsafe { lift_policies::lift_policies(query, hook_probe::in_force()) }.unwrap_or_raise();
}

pub unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: the hook's contract guarantees the arguments, which are passed on to the previous hook or to PostgreSQL's
    // own function.
    unsafe {
        if !hook_probe::known_to_be_in_force() {
            before_start(query);
        }
        if caches::have_folded() {
            forget_folded();
        }
        if held_cursors::any_open() {
            recheck_cursors((*query).operation != pg_sys::CmdType::CMD_SELECT);
        }
        if !(*(*query).plannedstmt).relationOids.is_null() {
            caches::count_read();
        }
        if security_definers::any_running() {
            // The plan may have been made before the function began. A cached plan is executed without workers from now
            // on.
            (*(*query).plannedstmt).parallelModeNeeded = false;
        }
        if (*(*query).plannedstmt).parallelModeNeeded {
            share_choice();
        }
        PREVIOUS.executor_start.unwrap_or(standard_ExecutorStart)(query, flags);
        held_cursors::forget_suspended(query);
        JUST_STARTED.set(Some((query, Moment::now(), roles::current())));
        if Cursor::active().is_some() {
            note_cursor();
        }
    }
}

#[pg_guard]
extern "C-unwind" fn share_choice() {
    settings::share_choice().unwrap_or_raise();
}

/// Forgets plans that contain the result of a function, if foreign settings determine the caller. These settings change
/// without notice, so such a plan is used only once.
#[pg_guard]
extern "C-unwind" fn forget_folded() {
    if access::is_by_foreign_settings() {
        caches::forget_folded();
    }
}

/// Rechecks the held cursors. A command that writes may fire triggers, so it counts as another role's code. A
/// foreign-key action does not: the functions of triggers are hooked.
#[pg_guard]
extern "C-unwind" fn recheck_cursors(writes: bool) {
    if writes && !roles::are_policies_unforced() {
        held_cursors::before_untrusted_code()
    } else {
        held_cursors::recheck()
    }
    .unwrap_or_raise();
}

/// Runs the executor-start check if PostgreSQL does not call the permission hook. The plan may have been made while it
/// still did, and then has no policies.
///
/// # Safety
/// As for `check_plan`.
#[pg_guard]
unsafe extern "C-unwind" fn before_start(query: *mut pg_sys::QueryDesc) {
    if !hook_probe::in_force() {
        // SAFETY: guaranteed by the caller.
        require_access(unsafe { range_table::uses_of_plan((*query).plannedstmt) });
    }
}

/// Runs the executor-start check. For a cursor's query, also checks that the cursor belongs to the caller.
///
/// # Safety
/// `query` must be the argument of an executor hook.
#[pg_guard]
unsafe extern "C-unwind" fn check_plan(query: *mut pg_sys::QueryDesc) {
    // SAFETY: guaranteed by the caller.
    require_access(unsafe { range_table::uses_of_plan((*query).plannedstmt) });
    held_cursors::check_resume(query).unwrap_or_raise();
}

#[pg_guard]
extern "C-unwind" fn note_cursor() {
    held_cursors::note_start().unwrap_or_raise();
}

/// Checks the query again unless it was checked just before. A query that does not run right after its start, such as a
/// cursor's, may have started under another identity.
///
/// # Safety
/// As for `check_plan`.
unsafe fn check_again(query: *mut pg_sys::QueryDesc) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        AcceptInvalidationMessages();
        let just_started = JUST_STARTED.take() == Some((query, Moment::now(), roles::current()));
        if !just_started || (*query).already_executed {
            check_plan(query);
        }
    }
}

/// Reports whether the query runs inside a foreign-key action on a tenant's table, as the owner role. The session may
/// work for another tenant.
fn is_in_foreign_key_action() -> bool {
    roles::are_policies_unforced() && owner_roles::tenant_of_current(roles::current()).is_some()
}

/// Runs the query in its own scope of settings, so that whatever a tenant's trigger sets for the session ends with the
/// query.
#[pg_guard]
extern "C-unwind" fn run_in_foreign_key_action(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    let _settings = guc::Scope::open();
    // SAFETY: passes on the arguments of an executor hook. PostgreSQL always runs such a query to its end in one call.
    unsafe { pg_guard_ffi_boundary(|| call_executor_run(query, direction, count, true)) };
}

/// Calls the previous hook or PostgreSQL's executor.
///
/// # Safety
/// The arguments must be those of an executor hook. From PostgreSQL 18 on, `once` is ignored.
unsafe fn call_executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    // SAFETY: calls the previous hook or PostgreSQL's own function with its own arguments.
    #[cfg(not(feature = "pg18"))]
    unsafe {
        PREVIOUS.executor_run.unwrap_or(standard_ExecutorRun)(query, direction, count, once);
    }
    // SAFETY: as above.
    #[cfg(feature = "pg18")]
    unsafe {
        let _ = once;
        PREVIOUS.executor_run.unwrap_or(standard_ExecutorRun)(query, direction, count);
    }
}

#[cfg(not(feature = "pg18"))]
pub unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    // SAFETY: the hook's contract guarantees the arguments.
    unsafe { run(query, direction, count, once) };
}

#[cfg(feature = "pg18")]
pub unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    // SAFETY: the hook's contract guarantees the arguments.
    unsafe { run(query, direction, count, true) };
}

/// Checks the query again if necessary, and runs it.
///
/// # Safety
/// The arguments must be those of an executor hook.
unsafe fn run(query: *mut pg_sys::QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64, once: bool) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        check_again(query);
        if is_in_foreign_key_action() {
            run_in_foreign_key_action(query, direction, count);
        } else {
            call_executor_run(query, direction, count, once);
        }
    }
}
