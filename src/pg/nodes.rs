//! Creates and copies PostgreSQL's nodes.

use pgrx::pg_sys;

/// Returns a new node, with all fields zero except the tag.
///
/// # Safety
/// `T` must be a type of node, and `tag` its tag.
pub unsafe fn make<T>(tag: pg_sys::NodeTag) -> *mut T {
    // SAFETY: every node begins with its tag. The rest is zero, as in PostgreSQL's makeNode().
    unsafe {
        let node = pg_sys::palloc0(size_of::<T>()).cast::<T>();
        (*node.cast::<pg_sys::Node>()).type_ = tag;
        node
    }
}

/// Returns a deep copy of a node.
///
/// # Safety
/// `node` must be a node.
pub unsafe fn copy<T>(node: *mut T) -> *mut T {
    // SAFETY: guaranteed by the caller. The copy has the same type.
    unsafe { pg_sys::copyObjectImpl(node.cast()).cast() }
}

/// Returns a list of one node.
///
/// # Safety
/// `node` must be a node.
pub unsafe fn one(node: *mut pg_sys::Node) -> *mut pg_sys::List {
    // SAFETY: guaranteed by the caller.
    unsafe { pg_sys::lappend(std::ptr::null_mut(), node.cast()) }
}
