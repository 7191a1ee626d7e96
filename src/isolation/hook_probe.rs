//! Whether queries still come by our hook.

use std::cell::Cell;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

thread_local! {
    /// Set by our hook while somebody asks whether it is called.
    static PROBED: Cell<bool> = const { Cell::new(false) };
    static IN_FORCE: Cell<bool> = const { Cell::new(true) };
    /// The head of the hook chain when it was last probed.
    static PROBED_HEAD: Cell<usize> = const { Cell::new(0) };
}

/// Called by our hook.
pub fn answer() {
    PROBED.set(true);
}

/// Whether the server's permission check still comes by our hook. A library loaded later may have taken the hook and
/// not call the previous one; asking it with an empty list shows.
pub fn in_force() -> bool {
    if !is_probed() {
        // SAFETY: reads the head of the hook chain.
        let head = unsafe { pg_sys::ExecutorCheckPerms_hook };
        PROBED.set(false);
        if let Some(hook) = head {
            // SAFETY: an empty range table asks for nothing.
            unsafe { pg_guard_ffi_boundary(|| call_with_nothing(hook)) };
        }
        IN_FORCE.set(PROBED.get());
        PROBED_HEAD.set(address(head));
    }
    IN_FORCE.get()
}

/// As `in_force` where the answer is known, and without a call of the server.
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
