//! Input of the type `fluxbase_tenant.relation`, which sql/catalog.sql creates.

use std::ffi::CStr;

use pgrx::prelude::*;

/// The oid of the relation with this name, as regclass reads it, or 0. A number, for pgrx takes the oid 0 for NULL.
#[pg_extern(sql = false)]
fn relation_in(name: &CStr) -> i64 {
    if name == c"-" {
        return 0;
    }
    // SAFETY: a C string; missing_ok.
    unsafe {
        #[cfg(feature = "pg15")]
        let names = pg_sys::stringToQualifiedNameList(name.as_ptr());
        #[cfg(not(feature = "pg15"))]
        let names = pg_sys::stringToQualifiedNameList(name.as_ptr(), std::ptr::null_mut());
        let (no_lock, missing_ok) = (pg_sys::NoLock as i32, pg_sys::RVROption::RVR_MISSING_OK);
        let relation = pg_sys::makeRangeVarFromNameList(names);
        pg_sys::RangeVarGetRelidExtended(relation, no_lock, missing_ok, None, std::ptr::null_mut()).to_u32().into()
    }
}
