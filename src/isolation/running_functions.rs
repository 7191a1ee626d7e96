//! Functions of others while they run.
//!
//! Policies are forced in them, also behind a foreign key. The server does not force policies on a table's owner while it checks or
//! follows a key, so that the key holds whatever they say; this lasts through the code of others that comes by on the way, such as
//! triggers, and through the views and SECURITY DEFINER functions that it uses.
//!
//! SECURITY DEFINER functions are noted, for `access::security_definers` to know.

use std::cell::RefCell;

use pgrx::pg_sys;

use crate::access::{owner_roles, security_definers};
use crate::pg::{SecurityContext, roles};

/// A call that changed something, which is put back when it ends.
struct Call {
    function: *mut pg_sys::FmgrInfo,
    /// Calls of the same function within it that changed nothing.
    inner: usize,
    /// Where policies were not forced, how it was.
    unforced: Option<SecurityContext>,
    is_definer: bool,
}

thread_local! {
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

/// Called right before a function is. What runs as a tenant's owner role behind a key is asked about by other rules.
pub fn enter(function: *mut pg_sys::FmgrInfo, definer: Option<pg_sys::Oid>) {
    let is_unforced = roles::are_policies_unforced() && owner_roles::tenant_of(roles::current()).is_none();
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

/// Called as it has returned or failed; after an error the server puts back who runs.
pub fn leave(function: *mut pg_sys::FmgrInfo, has_returned: bool) {
    let ended = CALLS.with_borrow_mut(|calls| {
        let place = calls.iter().rposition(|call| call.function == function)?;
        if calls[place].inner > 0 {
            calls[place].inner -= 1;
            return None;
        }
        Some(calls.split_off(place))
    });
    // Last begun, first ended; there is more than one only where another library's hook failed after this one.
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
