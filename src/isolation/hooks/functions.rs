//! The hooks for functions that PostgreSQL calls by itself: those of triggers, types, operators and indexes. PostgreSQL
//! calls `needs_hook` when it prepares to call or inline a function, and `call` before and after each call of a
//! SECURITY DEFINER function or of a function for which `needs_hook` returned true.

use std::cell::Cell;

use pgrx::prelude::*;

use super::chain::PREVIOUS;
use crate::isolation::refusal::{Raise, refuse};
use crate::isolation::{check, held_cursors, inlined_functions, running_functions, tenant_of};
use crate::pg::{caches, catalogs, roles};

pub unsafe extern "C-unwind" fn needs_hook(function: pg_sys::Oid) -> bool {
    // SAFETY: calls the previous hook with its own argument.
    let is_needed = unsafe { PREVIOUS.needs_function_hook.is_some_and(|previous| previous(function)) };
    is_needed
        || (!tenant_of::is_builtin(function)
            && (roles::are_policies_unforced() || inlined_functions::is_inlining_prevented() || is_refused(function)))
}

#[pg_guard]
extern "C-unwind" fn is_refused(function: pg_sys::Oid) -> bool {
    // If the check fails, the call of the function raises the error.
    check::function_is_inaccessible(function, roles::current()).unwrap_or(true)
}

pub unsafe extern "C-unwind" fn call(
    event: pg_sys::FmgrHookEventType::Type,
    function: *mut pg_sys::FmgrInfo,
    argument: *mut pg_sys::Datum,
) {
    // SAFETY: calls the previous hook with its own arguments. `function` is a function that is about to be called.
    unsafe {
        let is_start = event == pg_sys::FmgrHookEventType::FHET_START;
        if is_start && !tenant_of::is_builtin((*function).fn_oid) {
            before_call((*function).fn_oid);
        }
        if let Some(previous) = PREVIOUS.function {
            previous(event, function, argument);
        }
        if is_start {
            // Nothing can fail between here and the call.
            running_functions::enter(function, DEFINER.take());
        } else {
            running_functions::leave(function, event == pg_sys::FmgrHookEventType::FHET_END);
        }
    }
}

thread_local! {
    /// Passes the owner of the function that begins from `before_call` to `call`, if it is SECURITY DEFINER.
    static DEFINER: Cell<Option<pg_sys::Oid>> = const { Cell::new(None) };
}

#[pg_guard]
extern "C-unwind" fn before_call(function: pg_sys::Oid) {
    let definer = catalogs::definer(function);
    let is_refused = match definer {
        Some(owner) => check::definer_function_is_inaccessible(function, owner),
        None => check::function_is_inaccessible(function, roles::current()),
    };
    if is_refused.unwrap_or_raise() {
        refuse("function", check::function_name(function));
    }
    if definer.is_some() {
        // The function runs as its owner from here on. It can fetch from a stored cursor, or use a kept plan, without
        // passing another hook.
        held_cursors::recheck().unwrap_or_raise();
        caches::forget_folded();
    }
    DEFINER.set(definer);
}
