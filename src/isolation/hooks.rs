//! The server's hooks: where a query is planned, where it starts, where it goes on, where functions are called, and where commands lock or
//! fetch without starting a query.

use std::cell::Cell;
use std::ffi::{c_char, c_void};

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

use super::check::{self, Use};
use super::{commands, cursors, planner, plans};
use crate::error::{Error, Result};

/// The hooks that were there before ours, called by ours.
struct Previous {
    planner: pg_sys::planner_hook_type,
    check_permissions: pg_sys::ExecutorCheckPerms_hook_type,
    executor_start: pg_sys::ExecutorStart_hook_type,
    executor_run: pg_sys::ExecutorRun_hook_type,
    utility: pg_sys::ProcessUtility_hook_type,
    object_access: pg_sys::object_access_hook_type,
}

static mut PREVIOUS: Previous = Previous {
    planner: None,
    check_permissions: None,
    executor_start: None,
    executor_run: None,
    utility: None,
    object_access: None,
};

thread_local! {
    /// The query that was checked last, while nothing has happened since that could change who the caller is.
    static JUST_STARTED: Cell<*mut pg_sys::QueryDesc> = const { Cell::new(std::ptr::null_mut()) };
    /// Set by our hook while somebody asks whether it is called.
    static PROBED: Cell<bool> = const { Cell::new(false) };
    static IN_FORCE: Cell<bool> = const { Cell::new(true) };
    /// The head of the hook chain when it was last probed.
    static PROBED_HEAD: Cell<usize> = const { Cell::new(0) };
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
        };
        pg_sys::planner_hook = Some(plan);
        pg_sys::ExecutorCheckPerms_hook = Some(check_permissions);
        pg_sys::ExecutorStart_hook = Some(executor_start);
        pg_sys::ExecutorRun_hook = Some(executor_run);
        pg_sys::ProcessUtility_hook = Some(utility);
        pg_sys::object_access_hook = Some(object_access);
    }
}

/// Whether the server's permission check still comes by our hook. A library loaded later may have taken the hook and
/// not call the previous one; asking it with an empty list shows.
pub fn in_force() -> bool {
    // SAFETY: reads the head of the hook chain.
    let head = unsafe { pg_sys::ExecutorCheckPerms_hook };
    let address = head.map_or(0, |hook| hook as usize);
    if address != PROBED_HEAD.get() {
        PROBED.set(false);
        if let Some(hook) = head {
            // SAFETY: an empty range table asks for nothing.
            unsafe { pg_guard_ffi_boundary(|| call_with_nothing(hook)) };
        }
        IN_FORCE.set(PROBED.get());
        PROBED_HEAD.set(address);
    }
    IN_FORCE.get()
}

#[cfg(feature = "pg15")]
type CheckPermissions = unsafe extern "C-unwind" fn(*mut pg_sys::List, bool) -> bool;
#[cfg(not(feature = "pg15"))]
type CheckPermissions = unsafe extern "C-unwind" fn(*mut pg_sys::List, *mut pg_sys::List, bool) -> bool;

/// # Safety
/// `hook` is a permission hook.
unsafe fn call_with_nothing(hook: CheckPermissions) -> bool {
    let nothing = std::ptr::null_mut();
    // SAFETY: NIL is a list.
    #[cfg(feature = "pg15")]
    unsafe {
        hook(nothing, false)
    }
    // SAFETY: NIL is a list.
    #[cfg(not(feature = "pg15"))]
    unsafe {
        hook(nothing, nothing, false)
    }
}

#[cfg(feature = "pg15")]
#[pg_guard]
unsafe extern "C-unwind" fn check_permissions(range_table: *mut pg_sys::List, raise: bool) -> bool {
    PROBED.set(true);
    // SAFETY: the hook that was there, with its own arguments; a list of RTEs by the hook's contract.
    unsafe {
        if let Some(previous) = PREVIOUS.check_permissions
            && !pg_guard_ffi_boundary(|| previous(range_table, raise))
        {
            return false;
        }
        permit(plans::uses(range_table, std::ptr::null_mut()), raise)
    }
}

#[cfg(not(feature = "pg15"))]
#[pg_guard]
unsafe extern "C-unwind" fn check_permissions(
    range_table: *mut pg_sys::List,
    permissions: *mut pg_sys::List,
    raise: bool,
) -> bool {
    PROBED.set(true);
    // SAFETY: the hook that was there, with its own arguments; lists of RTEs and their permissions by the hook's contract.
    unsafe {
        if let Some(previous) = PREVIOUS.check_permissions
            && !pg_guard_ffi_boundary(|| previous(range_table, permissions, raise))
        {
            return false;
        }
        permit(plans::uses(range_table, permissions), raise)
    }
}

fn permit(uses: impl Iterator<Item = Use> + Clone, raise: bool) -> bool {
    match check::out_of_reach(uses).unwrap_or_raise() {
        None => true,
        Some(relation) if raise => refuse("table", check::relation_name(relation)),
        Some(_) => false,
    }
}

/// What the permission hook checks needs no policy.
#[pg_guard]
unsafe extern "C-unwind" fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: i32,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: a query that the planner may write to, by the hook's contract; the hook that was there, or the server's own
    // function, with its own arguments.
    unsafe {
        if in_force() {
            planner::lift_policies(query).unwrap_or_raise();
        }
        match PREVIOUS.planner {
            Some(previous) => pg_guard_ffi_boundary(|| previous(query, text, options, params)),
            None => pg_sys::standard_planner(query, text, options, params),
        }
    }
}

/// The second net: checks itself where the permission hook is not in force, for plans made while it was.
#[pg_guard]
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: i32) {
    // SAFETY: the hook that was there, or the server's own function, with its own arguments.
    unsafe {
        if !in_force() {
            permit(plans::uses_of_plan((*query).plannedstmt), true);
        }
        match PREVIOUS.executor_start {
            Some(previous) => pg_guard_ffi_boundary(|| previous(query, flags)),
            None => pg_sys::standard_ExecutorStart(query, flags),
        }
        JUST_STARTED.set(query);
        cursors::remember();
    }
}

/// A query that does not run right after its start, as a cursor's does not, may have started under another identity.
///
/// # Safety
/// `query` is the argument of an ExecutorRun hook.
unsafe fn check_again(query: *mut pg_sys::QueryDesc) {
    // SAFETY: by the caller's promise.
    unsafe {
        let just_started = JUST_STARTED.replace(std::ptr::null_mut()) == query;
        if !just_started || (*query).already_executed {
            permit(plans::uses_of_plan((*query).plannedstmt), true);
        }
    }
}

#[cfg(not(feature = "pg18"))]
#[pg_guard]
unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
    once: bool,
) {
    // SAFETY: the hook that was there, or the server's own function, with its own arguments.
    unsafe {
        check_again(query);
        match PREVIOUS.executor_run {
            Some(previous) => pg_guard_ffi_boundary(|| previous(query, direction, count, once)),
            None => pg_sys::standard_ExecutorRun(query, direction, count, once),
        }
    }
}

#[cfg(feature = "pg18")]
#[pg_guard]
unsafe extern "C-unwind" fn executor_run(
    query: *mut pg_sys::QueryDesc,
    direction: pg_sys::ScanDirection::Type,
    count: u64,
) {
    // SAFETY: the hook that was there, or the server's own function, with its own arguments.
    unsafe {
        check_again(query);
        match PREVIOUS.executor_run {
            Some(previous) => pg_guard_ffi_boundary(|| previous(query, direction, count)),
            None => pg_sys::standard_ExecutorRun(query, direction, count),
        }
    }
}

#[pg_guard]
#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: a utility statement by the hook's contract; the hook that was there, or the server's own function, with its
    // own arguments.
    unsafe {
        // SET is a utility statement.
        JUST_STARTED.set(std::ptr::null_mut());
        let command = (*statement).utilityStmt;
        commands::note(command);
        permit_command(command);
        if pgrx::is_a(command, pg_sys::NodeTag::T_DoStmt) || pgrx::is_a(command, pg_sys::NodeTag::T_CallStmt) {
            cursors::close_out_of_reach().unwrap_or_raise();
        }
        if let Some(schema) = plans::schema_of_explained_creation((*statement).utilityStmt) {
            check::refuse_unheard_creation(schema).unwrap_or_raise();
        }
        match PREVIOUS.utility {
            Some(previous) => pg_guard_ffi_boundary(|| {
                previous(statement, text, read_only_tree, context, params, environment, destination, completion)
            }),
            None => pg_sys::standard_ProcessUtility(
                statement,
                text,
                read_only_tree,
                context,
                params,
                environment,
                destination,
                completion,
            ),
        }
        // A name may have come to mean something else while LOCK waited.
        if pgrx::is_a(command, pg_sys::NodeTag::T_LockStmt) {
            permit_command(command);
        }
    }
}

/// # Safety
/// A utility statement.
unsafe fn permit_command(command: *mut pg_sys::Node) {
    // SAFETY: by the caller's promise.
    let uses = unsafe { plans::uses_of_command(command) };
    if !uses.is_empty() {
        permit(check::with_what_views_read(uses).unwrap_or_raise().into_iter(), true);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub_object: i32,
    argument: *mut c_void,
) {
    // SAFETY: the hook that was there, with its own arguments.
    unsafe {
        if let Some(previous) = PREVIOUS.object_access {
            pg_guard_ffi_boundary(|| previous(access, class, object, sub_object, argument));
        }
    }
    if access == pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE {
        // set_config is a function, and one that a client may call without a query.
        JUST_STARTED.set(std::ptr::null_mut());
        cursors::before_function(object).unwrap_or_raise();
        if check::function_is_out_of_reach(object).unwrap_or_raise() {
            refuse("function", check::function_name(object));
        }
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
