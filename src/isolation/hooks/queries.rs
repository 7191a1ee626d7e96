//! Each query comes by these hooks, and a guard around what they go on to would cost more than all they do. So whatever in
//! them can fail is in guarded functions, and the hooks have nothing that an error of the server could leave undone as it
//! jumps over them.

use std::ffi::c_char;

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;

use super::chain::{JUST_STARTED, PREVIOUS};
use crate::access::{self, Moment, owner_roles, security_definers};
use crate::isolation::refusal::{Raise, are_accessible, permit};
use crate::isolation::{held_cursors, hook_probe, inlined_functions, lift_policies, range_table};
use crate::pg::cursor::Cursor;
use crate::pg::{caches, guc, nodes, roles};

// SAFETY: as the server declares them.
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
    hook_probe::answer();
    // SAFETY: the hook that was there, with its own arguments; a list of RTEs by the hook's contract.
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
    hook_probe::answer();
    // SAFETY: the hook that was there, with its own arguments; lists of RTEs and their permissions by the hook's contract.
    unsafe {
        AcceptInvalidationMessages();
        PREVIOUS.check_permissions.is_none_or(|previous| previous(range_table, permissions, raise))
            && are_permitted(range_table, permissions, raise)
    }
}

/// # Safety
/// Arguments of a permission hook, up to PostgreSQL 15 with null for the permissions.
#[pg_guard]
unsafe extern "C-unwind" fn are_permitted(
    range_table: *mut pg_sys::List,
    permissions: *mut pg_sys::List,
    raise: bool,
) -> bool {
    // SAFETY: by the caller's promise.
    are_accessible(unsafe { range_table::uses(range_table, permissions) }, raise)
}

pub unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: i32,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: by the hook's contract; the hook that was there, or the server's own function, with its own arguments.
    unsafe {
        if (*query).hasRowSecurity {
            AcceptInvalidationMessages();
            before_planning(query);
        }
        // Workers do not know which functions run.
        let options =
            if security_definers::is_any() { options & !(pg_sys::CURSOR_OPT_PARALLEL_OK as i32) } else { options };
        let before = caches::reads();
        let plan = if inlined_functions::has_functions(query) {
            plan_with_functions(query, text, options, params)
        } else {
            go_on_to_plan(query, text, options, params)
        };
        if caches::reads() != before {
            caches::note_folded(plan);
        }
        if range_table::unguarded(plan).next().is_some() {
            after_planning(plan);
        }
        plan
    }
}

/// # Safety
/// As for a planner hook.
unsafe fn go_on_to_plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: i32,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: the hook that was there, or the server's own function, with its own arguments.
    unsafe { PREVIOUS.planner.unwrap_or(standard_planner)(query, text, options, params) }
}

/// A function's query that is put in place of its call has come by no hook.
///
/// # Safety
/// As for a planner hook.
unsafe fn plan_with_functions(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: i32,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: by the caller's promise; the planner writes to the query, and not to the copy.
    unsafe {
        let copy = copied(query);
        let before = inlined_functions::hide_statistics();
        let plan = go_on_to_plan(query, text, options, params);
        inlined_functions::show_statistics(before);
        if !reads_catalog(plan) {
            return plan;
        }
        let before = inlined_functions::keep_out();
        let plan = go_on_to_plan(copy, text, options, params);
        inlined_functions::put_back(before);
        plan
    }
}

/// # Safety
/// The argument of a planner hook.
#[pg_guard]
unsafe extern "C-unwind" fn copied(query: *mut pg_sys::Query) -> *mut pg_sys::Query {
    // SAFETY: by the caller's promise.
    unsafe { nodes::copy(query) }
}

/// # Safety
/// The answer of a planner hook.
#[pg_guard]
unsafe extern "C-unwind" fn reads_catalog(plan: *mut pg_sys::PlannedStmt) -> bool {
    // SAFETY: by the caller's promise.
    unsafe { inlined_functions::reads_catalog((*plan).rtable) }
}

/// # Safety
/// The answer of a planner hook.
#[pg_guard]
unsafe extern "C-unwind" fn after_planning(plan: *mut pg_sys::PlannedStmt) {
    if hook_probe::in_force() {
        // SAFETY: by the caller's promise; nobody has run it yet.
        unsafe { lift_policies::lift_privileges(plan) }.unwrap_or_raise();
    }
}

/// What the permission hook checks needs no policy; policies of the catalog come before all else.
///
/// # Safety
/// `query` is the argument of a planner hook.
#[pg_guard]
unsafe extern "C-unwind" fn before_planning(query: *mut pg_sys::Query) {
    // SAFETY: by the caller's promise; the planner may write to it.
    unsafe { lift_policies::lift_policies(query, hook_probe::in_force()) }.unwrap_or_raise();
}

pub unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: by the hook's contract; the hook that was there, or the server's own function, with its own arguments.
    unsafe {
        if !hook_probe::known_to_be_in_force() {
            before_start(query);
        }
        if caches::have_folded() {
            forget_folded();
        }
        if held_cursors::are_open() {
            settle_cursors((*query).operation != pg_sys::CmdType::CMD_SELECT);
        }
        if !(*(*query).plannedstmt).relationOids.is_null() {
            caches::count_read();
        }
        PREVIOUS.executor_start.unwrap_or(standard_ExecutorStart)(query, flags);
        held_cursors::forget_suspended(query);
        JUST_STARTED.set(Some((query, Moment::now())));
        if Cursor::active().is_some() {
            note_cursor();
        }
    }
}

/// Settings of others change unnoticed: there a plan that holds what was found is used once.
#[pg_guard]
extern "C-unwind" fn forget_folded() {
    if access::is_by_foreign_settings() {
        caches::forget_folded();
    }
}

/// A command that writes may fire triggers.
#[pg_guard]
extern "C-unwind" fn settle_cursors(writes: bool) {
    if writes { held_cursors::before_code_of_others() } else { held_cursors::settle() }.unwrap_or_raise();
}

/// The second net: checks itself where the permission hook is not in force, for plans made while it was.
///
/// # Safety
/// As for `check_plan`.
#[pg_guard]
unsafe extern "C-unwind" fn before_start(query: *mut pg_sys::QueryDesc) {
    if !hook_probe::in_force() {
        // SAFETY: by the caller's promise.
        permit(unsafe { range_table::uses_of_plan((*query).plannedstmt) });
    }
}

/// # Safety
/// `query` is the argument of an executor hook.
#[pg_guard]
unsafe extern "C-unwind" fn check_plan(query: *mut pg_sys::QueryDesc) {
    // SAFETY: by the caller's promise.
    permit(unsafe { range_table::uses_of_plan((*query).plannedstmt) });
    held_cursors::permit_to_go_on(query).unwrap_or_raise();
}

#[pg_guard]
extern "C-unwind" fn note_cursor() {
    held_cursors::note_start().unwrap_or_raise();
}

/// A query that does not run right after its start, as a cursor's does not, may have started under another identity.
///
/// # Safety
/// As for `check_plan`.
unsafe fn check_again(query: *mut pg_sys::QueryDesc) {
    // SAFETY: by the caller's promise.
    unsafe {
        AcceptInvalidationMessages();
        let just_started = JUST_STARTED.take() == Some((query, Moment::now()));
        if !just_started || (*query).already_executed {
            check_plan(query);
        }
    }
}

/// Whether the query is the server's own, which follows a foreign key to a tenant's table, maybe in a session of another tenant's.
fn is_behind_key() -> bool {
    roles::are_policies_unforced() && owner_roles::tenant_of(roles::current()).is_some()
}

/// What triggers of the tenant set for the session ends with the query.
#[pg_guard]
extern "C-unwind" fn run_behind_key(query: *mut pg_sys::QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64) {
    let _settings = guc::Scope::open();
    // SAFETY: the arguments of an executor hook; the server never runs such a query in parts.
    unsafe { pg_guard_ffi_boundary(|| go_on_to_run(query, direction, count, true)) };
}

/// # Safety
/// As for an executor hook; there is no `once` from PostgreSQL 18 on.
unsafe fn go_on_to_run(query: *mut pg_sys::QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64, once: bool) {
    // SAFETY: the hook that was there, or the server's own function, with its own arguments.
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
    // SAFETY: by the hook's contract.
    unsafe { run(query, direction, count, once) };
}

#[cfg(feature = "pg18")]
pub unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    // SAFETY: by the hook's contract.
    unsafe { run(query, direction, count, true) };
}

/// # Safety
/// As for an executor hook.
unsafe fn run(query: *mut pg_sys::QueryDesc, direction: pg_sys::ScanDirection::Type, count: u64, once: bool) {
    // SAFETY: by the caller's promise.
    unsafe {
        check_again(query);
        if is_behind_key() {
            run_behind_key(query, direction, count);
        } else {
            go_on_to_run(query, direction, count, once);
        }
    }
}
