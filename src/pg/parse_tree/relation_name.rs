//! The name of a relation in a statement.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::lists;

/// A name made by the parser, of a statement that is this execution's own and outlives it.
pub struct RelationName(*mut pg_sys::RangeVar);

impl RelationName {
    /// # Safety
    /// As above, or null.
    pub(super) unsafe fn new(name: *mut pg_sys::RangeVar) -> Option<Self> {
        (!name.is_null()).then_some(RelationName(name))
    }

    /// # Safety
    /// A list of such names.
    pub(super) unsafe fn list(names: *mut pg_sys::List) -> Vec<Self> {
        // SAFETY: by the caller's promise.
        unsafe { lists::nodes::<pg_sys::RangeVar>(names).filter_map(|name| RelationName::new(name)).collect() }
    }

    /// InvalidOid where there is none: that is for the command itself to say.
    pub fn resolve(&self) -> pg_sys::Oid {
        let (no_lock, missing_ok) = (pg_sys::NoLock as i32, pg_sys::RVROption::RVR_MISSING_OK);
        // SAFETY: a name, by the promise that it was made with.
        unsafe { pg_sys::RangeVarGetRelidExtended(self.0, no_lock, missing_ok, None, std::ptr::null_mut()) }
    }

    /// A name without a schema is looked up again when the command has waited for its own table: it must not come to mean
    /// another one.
    pub fn pin(&self) {
        // SAFETY: a name, by the promise that it was made with; lookups by oid; a C string, or null.
        unsafe {
            if (*self.0).schemaname.is_null() && (*self.0).relpersistence as u8 != pg_sys::RELPERSISTENCE_TEMP {
                let relation = self.resolve();
                if relation != pg_sys::InvalidOid {
                    // The statement's own memory is not this function's: the transaction outlives both.
                    let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
                    (*self.0).schemaname = pg_sys::MemoryContextStrdup(pg_sys::TopTransactionContext, schema);
                }
            }
        }
    }
}

/// The relation with this name, as regclass reads one; InvalidOid where there is none.
pub fn relation_of_name(name: &CStr) -> pg_sys::Oid {
    // SAFETY: a C string; the names that it holds are a list, and make a name.
    unsafe {
        #[cfg(feature = "pg15")]
        let names = pg_sys::stringToQualifiedNameList(name.as_ptr());
        #[cfg(not(feature = "pg15"))]
        let names = pg_sys::stringToQualifiedNameList(name.as_ptr(), std::ptr::null_mut());
        RelationName(pg_sys::makeRangeVarFromNameList(names)).resolve()
    }
}
