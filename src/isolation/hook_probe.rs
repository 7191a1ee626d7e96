//! Detects whether PostgreSQL still calls our permission hook.

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

thread_local! {
    /// Set by our hook when it is called. Cleared before each probe.
    static PROBED: Cell<bool> = const { Cell::new(false) };
    static IN_FORCE: Cell<bool> = const { Cell::new(true) };
    /// The head of the hook chain at the last probe.
    static PROBED_HEAD: Cell<usize> = const { Cell::new(0) };
}

/// Records a call of our hook.
pub fn record_call() {
    PROBED.set(true);
}

/// Reports whether PostgreSQL's permission check still calls our hook. A library that was loaded later may have
/// replaced the hook without calling the previous one. To find out, calls the chain with an empty list.
pub fn in_force() -> bool {
    if !is_probed() {
        // SAFETY: reads the head of the hook chain.
        let head = unsafe { pg_sys::ExecutorCheckPerms_hook };
        PROBED.set(false);
        if let Some(hook) = head {
            // SAFETY: calls a hook with an empty range table, which contains nothing to check.
            unsafe { pg_guard_ffi_boundary(|| call_with_empty_list(hook)) };
        }
        IN_FORCE.set(PROBED.get());
        PROBED_HEAD.set(address(head));
    }
    IN_FORCE.get()
}

/// Reports whether the hook is known to be in force, without probing.
pub fn known_to_be_in_force() -> bool {
    is_probed() && IN_FORCE.get()
}

fn is_probed() -> bool {
    // SAFETY: reads the head of the hook chain.
    address(unsafe { pg_sys::ExecutorCheckPerms_hook }) == PROBED_HEAD.get()
}

fn address(head: pg_sys::ExecutorCheckPerms_hook_type) -> usize {
    head.map_or(0, |hook| hook as usize)
}

#[cfg(feature = "pg15")]
type CheckPermissions = unsafe extern "C-unwind" fn(*mut pg_sys::List, bool) -> bool;
#[cfg(not(feature = "pg15"))]
type CheckPermissions = unsafe extern "C-unwind" fn(*mut pg_sys::List, *mut pg_sys::List, bool) -> bool;

/// Calls a permission hook with an empty range table.
///
/// # Safety
/// `hook` must be a permission hook.
unsafe fn call_with_empty_list(hook: CheckPermissions) -> bool {
    let empty = std::ptr::null_mut();
    // SAFETY: a null pointer is an empty list.
    #[cfg(feature = "pg15")]
    unsafe {
        hook(empty, false)
    }
    // SAFETY: a null pointer is an empty list.
    #[cfg(not(feature = "pg15"))]
    unsafe {
        hook(empty, empty, false)
    }
}
