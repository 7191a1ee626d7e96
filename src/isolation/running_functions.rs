//! Tracks the calls of functions that are not built in.
//!
//! Policies are forced in such functions, even inside a foreign-key action. There, PostgreSQL does not force policies
//! on a table's owner, so that a policy cannot invalidate the foreign key. Without this module, that would extend to
//! any code that the action runs, such as triggers, and to the views and SECURITY DEFINER functions that this code
//! uses.
//!
//! SECURITY DEFINER functions are also reported to `access::security_definers`.

use std::cell::RefCell;

use pgrx::pg_sys;

use crate::access::{owner_roles, security_definers};
use crate::pg::{SecurityContext, roles};

/// A call that changed something which has to be restored when it ends.
struct Call {
    function: *mut pg_sys::FmgrInfo,
    /// Number of nested calls of the same function that changed nothing.
    inner: usize,
    /// The security context before the call, if policies were not forced in it.
    unforced: Option<SecurityContext>,
    is_definer: bool,
}

thread_local! {
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

/// Forces policies while the function runs, and records a SECURITY DEFINER function. Called right before each call of a
/// function. Does not force policies for code that runs as a tenant's owner role inside a foreign-key action: `check`
/// has its own rules for that.
pub fn enter(function: *mut pg_sys::FmgrInfo, definer: Option<pg_sys::Oid>) {
    let is_unforced = roles::are_policies_unforced() && owner_roles::tenant_of_current(roles::current()).is_none();
    let unforced = is_unforced.then(SecurityContext::now);
    if unforced.is_none() && definer.is_none() {
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
    if let Some(owner) = definer {
        security_definers::begin(owner);
    }
    CALLS.with_borrow_mut(|calls| calls.push(Call { function, inner: 0, unforced, is_definer: definer.is_some() }));
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
    for Call { unforced, is_definer, .. } in ended.into_iter().flatten().rev() {
        if is_definer {
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
