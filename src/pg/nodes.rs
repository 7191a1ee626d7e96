//! The server's nodes, made and copied.

use pgrx::pg_sys;

/// # Safety
/// A type of node and its tag.
pub unsafe fn make<T>(tag: pg_sys::NodeTag) -> *mut T {
    // SAFETY: every node begins with its tag; the rest is zero, as in the server's makeNode().
    unsafe {
        let node = pg_sys::palloc0(size_of::<T>()).cast::<T>();
        (*node.cast::<pg_sys::Node>()).type_ = tag;
        node
    }
}

/// # Safety
/// A node.
pub unsafe fn copy<T>(node: *mut T) -> *mut T {
    // SAFETY: by the caller's promise; the copy is of the same type.
    unsafe { pg_sys::copyObjectImpl(node.cast()).cast() }
}

/// A list of one.
///
/// # Safety
/// A node.
pub unsafe fn one(node: *mut pg_sys::Node) -> *mut pg_sys::List {
    // SAFETY: by the caller's promise.
    unsafe { pg_sys::lappend(std::ptr::null_mut(), node.cast()) }
}
