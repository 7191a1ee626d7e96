//! Tracks the calls of functions that are not built in.
//!
//! Policies are forced in such functions, even inside a foreign-key action. There, PostgreSQL does not force policies
//! on a table's owner, so that a policy cannot invalidate the foreign key. Without this module, that would extend to
//! any code that the action runs, such as triggers, and to the views and SECURITY DEFINER functions that this code
//! uses.
//!
//! Functions that run as another role than their caller, SECURITY DEFINER functions and triggers, are also reported to
//! `access::security_definers`. What a tenant's trigger sets for the session is restored when it ends.

use std::cell::RefCell;

use pgrx::pg_sys;

use crate::access::{owner_roles, security_definers};
use crate::pg::{SecurityContext, catalogs, guc, roles};

/// A call that changed something which has to be restored when it ends.
struct Call {
    function: *mut pg_sys::FmgrInfo,
    /// Number of nested calls of the same function that changed nothing.
    inner: usize,
    /// The security context before the call, if policies were not forced in it.
    unforced: Option<SecurityContext>,
    runs_as_another: bool,
    /// Restores the settings that a tenant's trigger changes.
    settings: Option<guc::Scope>,
}

thread_local! {
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

/// Forces policies while the function runs, and records a function that runs as another role than its caller. Called
/// right before each call of a function. Does not force policies for code that runs as a tenant's owner role inside a
/// foreign-key action: `check` has its own rules for that.
pub fn enter(function: *mut pg_sys::FmgrInfo, role: Option<pg_sys::Oid>) {
    let is_unforced = roles::are_policies_unforced() && owner_roles::tenant_of_current(roles::current()).is_none();
    let unforced = is_unforced.then(SecurityContext::now);
    if unforced.is_none() && role.is_none() {
        CALLS.with_borrow_mut(|calls| {
            if let Some(call) = calls.iter_mut().rfind(|call| call.function == function) {
                call.inner += 1;
            }
        });
        return;
    }
    if let Some(before) = unforced {
        before.with_policies_forced().set();
    }
    if let Some(role) = role {
        security_definers::begin(role);
    }
    // SAFETY: a function that is being called.
    let is_trigger = || catalogs::is_trigger_function(unsafe { (*function).fn_oid });
    let settings =
        role.is_some_and(|role| owner_roles::tenant_of_current(role).is_some() && is_trigger()).then(guc::Scope::open);
    CALLS.with_borrow_mut(|calls| {
        calls.push(Call { function, inner: 0, unforced, runs_as_another: role.is_some(), settings });
    });
}

/// Undoes `enter`. Called when a function has returned or failed. After an error, PostgreSQL restores the security
/// context.
pub fn leave(function: *mut pg_sys::FmgrInfo, has_returned: bool) {
    let ended = CALLS.with_borrow_mut(|calls| {
        let place = calls.iter().rposition(|call| call.function == function)?;
        if calls[place].inner > 0 {
            calls[place].inner -= 1;
            return None;
        }
        Some(calls.split_off(place))
    });
    // End the calls in reverse order. There is more than one only if another library's hook failed after ours.
    for Call { unforced, runs_as_another, settings, .. } in ended.into_iter().flatten().rev() {
        drop(settings);
        if runs_as_another {
            security_definers::end();
        }
        if let Some(before) = unforced
            && has_returned
            && SecurityContext::now() == before.with_policies_forced()
        {
            before.set();
        }
    }
}
