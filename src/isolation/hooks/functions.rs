//! The hooks at the call of a function. They are the only ones that see functions which no query names: those of
//! triggers, types, operators and indexes. PostgreSQL calls `needs_hook` when it prepares to call or inline a function,
//! and `call` before and after each call of a SECURITY DEFINER function or of a function for which `needs_hook`
//! returned true. It does not inline a function for which `needs_hook` returns true.

use pgrx::prelude::*;

use super::chain::{PREVIOUS, forget_start};
use crate::access;
use crate::isolation::refusal::{Raise, refuse};
use crate::isolation::{check, held_cursors, inlined_functions, running_functions, tenant_of};
use crate::pg::{caches, catalogs, roles};

pub unsafe extern "C-unwind" fn needs_hook(function: pg_sys::Oid) -> bool {
    // SAFETY: calls the previous hook with its own argument.
    let is_needed = unsafe { PREVIOUS.needs_function_hook.is_some_and(|previous| previous(function)) };
    is_needed
        || (!tenant_of::is_builtin(function)
            && (roles::are_policies_unforced()
                || inlined_functions::is_inlining_prevented()
                || is_trigger_of_others(function)
                || is_refused(function)))
}

/// Reports whether this is a trigger function that a superuser does not own. A trigger can fire as another role than
/// the session's: in a foreign-key action and, from PostgreSQL 18 on, when it is deferred. Which role that will be is
/// not known yet.
#[pg_guard]
extern "C-unwind" fn is_trigger_of_others(function: pg_sys::Oid) -> bool {
    catalogs::is_trigger_function(function) && !roles::is_superuser(catalogs::function_owner(function))
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
        let role = if is_start && !tenant_of::is_builtin((*function).fn_oid) {
            before_call((*function).fn_oid)
        } else {
            pg_sys::InvalidOid
        };
        if let Some(previous) = PREVIOUS.function {
            previous(event, function, argument);
        }
        if is_start {
            // If this fails, nothing has been recorded, and the function is not called.
            running_functions::enter(function, (role != pg_sys::InvalidOid).then_some(role));
        } else {
            running_functions::leave(function, event == pg_sys::FmgrHookEventType::FHET_END);
        }
    }
}

/// Checks the function that is about to be called. If it runs as another role than its caller, returns that role, else
/// InvalidOid. That is the owner of a SECURITY DEFINER function, or the role as which a trigger fires.
#[pg_guard]
extern "C-unwind" fn before_call(function: pg_sys::Oid) -> pg_sys::Oid {
    let definer = catalogs::definer(function);
    let is_refused = match definer {
        Some(owner) => check::definer_function_is_inaccessible(function, owner),
        None => check::function_is_inaccessible(function, roles::current()),
    };
    if is_refused.unwrap_or_raise() {
        refuse("function", check::function_name(function));
    }
    let current = roles::current();
    let fires_as = || {
        let is_of_another =
            current != roles::outer() && !access::is_sandboxed() && catalogs::is_trigger_function(function);
        is_of_another.then_some(current)
    };
    let Some(role) = definer.or_else(fires_as) else {
        return pg_sys::InvalidOid;
    };
    // The function runs as another role from here on. It can fetch from a stored cursor, use a kept plan, or continue
    // a query that has just started, without passing another hook.
    if definer.is_some() { held_cursors::recheck() } else { held_cursors::before_untrusted_code() }.unwrap_or_raise();
    caches::forget_folded();
    forget_start();
    role
}
