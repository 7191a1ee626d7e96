//! The server's lists, read in place.

use std::slice;

use pgrx::pg_sys;

/// The nodes in a list; NIL is empty. pgrx's own iterator calls the server for each, which counts where every query comes by.
///
/// # Safety
/// A list of pointers to `T` that outlives the iterator and does not change meanwhile.
pub unsafe fn nodes<T>(list: *mut pg_sys::List) -> impl ExactSizeIterator<Item = *mut T> + Clone {
    // SAFETY: by the caller's promise; a list holds `length` cells.
    let cells = unsafe {
        match list.as_ref() {
            Some(list) => slice::from_raw_parts(list.elements, list.length as usize),
            None => &[],
        }
    };
    // SAFETY: cells of a list of pointers.
    cells.iter().map(|cell| unsafe { cell.ptr_value }.cast())
}

/// The list without the nodes that are not to be kept; changed in place.
///
/// # Safety
/// A list of pointers to `T` that nobody else uses.
pub unsafe fn retain<T>(list: *mut pg_sys::List, keep: impl Fn(*mut T) -> bool) -> *mut pg_sys::List {
    // SAFETY: by the caller's promise.
    let Some(list) = (unsafe { list.as_mut() }) else {
        return std::ptr::null_mut();
    };
    // SAFETY: as above.
    let cells = unsafe { slice::from_raw_parts_mut(list.elements, list.length as usize) };
    let mut kept = 0;
    for index in 0..cells.len() {
        // SAFETY: a cell of a list of pointers.
        if keep(unsafe { cells[index].ptr_value }.cast()) {
            cells.swap(kept, index);
            kept += 1;
        }
    }
    list.length = kept as i32;
    // The empty list is NIL.
    if kept == 0 { std::ptr::null_mut() } else { list }
}

/// The oids in a list of them; NIL is empty.
///
/// # Safety
/// A list of oids, or NIL.
pub unsafe fn oids(list: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: by the caller's promise; a list holds `length` cells.
    unsafe {
        list.as_ref().map_or(Vec::new(), |list| {
            let cells = slice::from_raw_parts(list.elements, list.length as usize);
            cells.iter().map(|cell| cell.oid_value).collect()
        })
    }
}
