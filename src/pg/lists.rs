//! PostgreSQL's lists, read and filtered in place.

use std::slice;

use pgrx::pg_sys;

/// Returns the nodes in a list. NIL is empty. pgrx's own iterator calls PostgreSQL for each node, which is too
/// expensive in code that every query runs.
///
/// # Safety
/// `list` must be NIL or a list of pointers to `T`, which outlives the iterator and does not change while it is in use.
pub unsafe fn nodes<T>(list: *mut pg_sys::List) -> impl ExactSizeIterator<Item = *mut T> + Clone {
    // SAFETY: the caller guarantees a valid list, which has `length` cells.
    let cells = unsafe {
        match list.as_ref() {
            Some(list) => slice::from_raw_parts(list.elements, list.length as usize),
            None => &[],
        }
    };
    // SAFETY: the cells hold pointers.
    cells.iter().map(|cell| unsafe { cell.ptr_value }.cast())
}

/// Removes the nodes for which `keep` returns false, in place, and returns the list.
///
/// # Safety
/// `list` must be NIL or a list of pointers to `T`, which no other code uses.
pub unsafe fn retain<T>(list: *mut pg_sys::List, keep: impl Fn(*mut T) -> bool) -> *mut pg_sys::List {
    // SAFETY: guaranteed by the caller.
    let Some(list) = (unsafe { list.as_mut() }) else {
        return std::ptr::null_mut();
    };
    // SAFETY: a valid list has `length` cells.
    let cells = unsafe { slice::from_raw_parts_mut(list.elements, list.length as usize) };
    let mut kept = 0;
    for index in 0..cells.len() {
        // SAFETY: the cell holds a pointer.
        if keep(unsafe { cells[index].ptr_value }.cast()) {
            cells.swap(kept, index);
            kept += 1;
        }
    }
    list.length = kept as i32;
    // PostgreSQL represents the empty list as NIL.
    if kept == 0 { std::ptr::null_mut() } else { list }
}

/// Returns the OIDs in a list. NIL is empty.
///
/// # Safety
/// `list` must be NIL or a list of OIDs.
pub unsafe fn oids(list: *mut pg_sys::List) -> Vec<pg_sys::Oid> {
    // SAFETY: the caller guarantees a valid list, which has `length` cells.
    unsafe {
        list.as_ref().map_or(Vec::new(), |list| {
            let cells = slice::from_raw_parts(list.elements, list.length as usize);
            cells.iter().map(|cell| cell.oid_value).collect()
        })
    }
}
