//! Policies are forced in code that runs behind a foreign key. The server does not force policies on a table's owner while it checks or
//! follows a key, so that the key holds whatever they say; this lasts through the code of others that comes by on the way, such as
//! triggers, and through the views and SECURITY DEFINER functions that it uses.

use std::cell::RefCell;

use pgrx::pg_sys;

use crate::identity;
use crate::pg::roles::{self, Standing};

/// A call of a function that began where policies were not forced.
struct Call {
    function: *mut pg_sys::FmgrInfo,
    /// Calls of the same function in turn, as by recursion.
    inner: usize,
    before: Standing,
}

thread_local! {
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

/// Called right before a function of others is. What runs as a tenant's owner role is asked about by other rules.
pub fn enter(function: *mut pg_sys::FmgrInfo) {
    if !roles::are_policies_unforced() {
        CALLS.with_borrow_mut(|calls| {
            if let Some(call) = calls.iter_mut().find(|call| call.function == function) {
                call.inner += 1;
            }
        });
        return;
    }
    if identity::owner::tenant_of(roles::current()).is_none() {
        let before = Standing::now();
        before.with_policies_forced().resume();
        CALLS.with_borrow_mut(|calls| calls.push(Call { function, inner: 0, before }));
    }
}

/// Called as it has returned or failed; after an error the server puts back who runs.
pub fn leave(function: *mut pg_sys::FmgrInfo, has_returned: bool) {
    let before = CALLS.with_borrow_mut(|calls| {
        let place = calls.iter().rposition(|call| call.function == function)?;
        if calls[place].inner > 0 {
            calls[place].inner -= 1;
            return None;
        }
        calls.drain(place..).next().map(|call| call.before)
    });
    if let Some(before) = before
        && has_returned
        && Standing::now() == before.with_policies_forced()
    {
        before.resume();
    }
}
