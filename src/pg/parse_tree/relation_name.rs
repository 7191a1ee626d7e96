//! The name of a relation in a statement, and its lookup.

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::pg::lists;

/// A name in a statement that comes from the parser, belongs to this execution only, and outlives the name.
pub struct RelationName(*mut pg_sys::RangeVar);

impl RelationName {
    /// Wraps a name. Returns `None` for null.
    ///
    /// # Safety
    /// `name` must be null, or a name that comes from the parser, belongs to this execution only, and outlives the
    /// result.
    pub(super) unsafe fn new(name: *mut pg_sys::RangeVar) -> Option<Self> {
        (!name.is_null()).then_some(RelationName(name))
    }

    /// Wraps a list of names.
    ///
    /// # Safety
    /// As for `new`, for each name in the list.
    pub(super) unsafe fn list(names: *mut pg_sys::List) -> Vec<Self> {
        // SAFETY: guaranteed by the caller.
        unsafe { lists::nodes::<pg_sys::RangeVar>(names).filter_map(|name| RelationName::new(name)).collect() }
    }

    /// Returns the relation's OID, or InvalidOid if the relation does not exist, which the command itself reports.
    pub fn resolve(&self) -> pg_sys::Oid {
        let (no_lock, missing_ok) = (pg_sys::NoLock as i32, pg_sys::RVROption::RVR_MISSING_OK);
        // SAFETY: a valid name, as the caller of `new` guarantees.
        unsafe { pg_sys::RangeVarGetRelidExtended(self.0, no_lock, missing_ok, None, std::ptr::null_mut()) }
    }

    /// Adds the schema to a name that has none. PostgreSQL looks up the name again after the command has waited for a
    /// lock on its table, and must not find another relation then.
    pub fn pin(&self) {
        // SAFETY: a valid name, as the caller of `new` guarantees. Lookups by OID. The schema's name is a C string or
        // null.
        unsafe {
            if (*self.0).schemaname.is_null() && (*self.0).relpersistence as u8 != pg_sys::RELPERSISTENCE_TEMP {
                let relation = self.resolve();
                if relation != pg_sys::InvalidOid {
                    // Allocated in the transaction's memory context, which outlives the statement: the statement's own
                    // context is not known here.
                    let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
                    (*self.0).schemaname = pg_sys::MemoryContextStrdup(pg_sys::TopTransactionContext, schema);
                }
            }
        }
    }
}

/// Returns the OID of a relation, whose name is written as for regclass, or InvalidOid if the relation does not exist.
pub fn relation_of_name(name: &CStr) -> pg_sys::Oid {
    // SAFETY: a C string. PostgreSQL parses it into a list of names, which makes a valid RangeVar.
    unsafe {
        #[cfg(feature = "pg15")]
        let names = pg_sys::stringToQualifiedNameList(name.as_ptr());
        #[cfg(not(feature = "pg15"))]
        let names = pg_sys::stringToQualifiedNameList(name.as_ptr(), std::ptr::null_mut());
        RelationName(pg_sys::makeRangeVarFromNameList(names)).resolve()
    }
}
