//! Memory that PostgreSQL frees.

use std::ffi::c_void;

/// Allocates the extra data of a setting, which the check hook returns. Returns null if there is no memory.
pub fn allocate_for_setting(size: usize) -> *mut c_void {
    // SAFETY: the function that PostgreSQL requires for this. LOG makes it return null on failure.
    #[cfg(not(feature = "pg15"))]
    unsafe {
        pgrx::pg_sys::guc_malloc(pgrx::pg_sys::LOG as i32, size)
    }
    // SAFETY: the function that PostgreSQL requires for this.
    #[cfg(feature = "pg15")]
    unsafe {
        malloc(size)
    }
}

#[cfg(feature = "pg15")]
unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
}
