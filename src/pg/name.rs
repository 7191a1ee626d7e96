//! The SQL type `name`, for columns that hold identifiers.

use std::ffi::{CStr, CString};

use pgrx::pgrx_sql_entity_graph::metadata::{ArgumentError, Returns, ReturnsError, SqlMapping, SqlTranslatable};
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum};

/// An identifier of at most 63 bytes.
pub struct Name(pub String);

impl IntoDatum for Name {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        let text = CString::new(self.0).ok()?;
        // SAFETY: namein takes a C string and returns a newly allocated name.
        unsafe { pgrx::direct_function_call_as_datum(pg_sys::namein, &[Some(text.as_ptr().into())]) }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::NAMEOID
    }
}

impl FromDatum for Name {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _type: pg_sys::Oid) -> Option<Self> {
        // SAFETY: the caller guarantees a name, which has a fixed length and ends with a zero byte.
        (!is_null).then(|| Name(unsafe { CStr::from_ptr(datum.cast_mut_ptr()) }.to_string_lossy().into_owned()))
    }
}

// SAFETY: names the SQL type of the datum above.
unsafe impl SqlTranslatable for Name {
    fn argument_sql() -> std::result::Result<SqlMapping, ArgumentError> {
        Ok(SqlMapping::literal("name"))
    }
    fn return_sql() -> std::result::Result<Returns, ReturnsError> {
        Ok(Returns::One(SqlMapping::literal("name")))
    }
}

// SAFETY: returns the datum that IntoDatum created.
unsafe impl pgrx::callconv::BoxRet for Name {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut pgrx::callconv::FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: a newly allocated name in the function's memory context.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}
