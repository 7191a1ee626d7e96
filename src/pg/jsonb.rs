//! The SQL type `jsonb`, kept in PostgreSQL's binary format: numbers keep all their digits, and a value that is only
//! passed on is not parsed.

use pgrx::pgrx_sql_entity_graph::metadata::{ArgumentError, Returns, ReturnsError, SqlMapping, SqlTranslatable};
use pgrx::prelude::*;
use pgrx::{FromDatum, IntoDatum, direct_function_call_as_datum};

#[derive(Clone, Debug)]
pub struct Jsonb(Vec<u8>);

impl Jsonb {
    /// Reports whether the outermost value is an object, by a flag in the container's header, which follows the varlena
    /// header of 4 bytes.
    pub fn is_object(&self) -> bool {
        const OBJECT: u32 = 0x2000_0000;
        match self.0.get(4..8) {
            Some(&[a, b, c, d]) => u32::from_ne_bytes([a, b, c, d]) & OBJECT != 0,
            _ => false,
        }
    }
}

impl Jsonb {
    /// Returns the size in bytes, before compression.
    pub fn size(&self) -> usize {
        self.0.len()
    }

    /// Returns how deeply arrays and objects are nested, and how many characters the numbers have as text: a few bytes
    /// may stand for a hundred thousand digits. Stops counting once the numbers have more than `limit` characters.
    pub fn depth_and_digits(&self, limit: usize) -> (usize, usize) {
        use pg_sys::JsonbIteratorToken::{
            WJB_BEGIN_ARRAY, WJB_BEGIN_OBJECT, WJB_DONE, WJB_ELEM, WJB_END_ARRAY, WJB_END_OBJECT, WJB_VALUE,
        };
        let Some(datum) = self.clone().into_datum() else {
            return (0, 0);
        };
        let (mut depth, mut deepest, mut digits) = (0, 0, 0);
        // SAFETY: the datum is a jsonb, whose container follows the varlena header. The iterator ends with WJB_DONE.
        // The type of a value determines the union's valid field.
        unsafe {
            let jsonb: *mut pg_sys::Jsonb = datum.cast_mut_ptr();
            let mut iterator = pg_sys::JsonbIteratorInit(&raw mut (*jsonb).root);
            let mut value = pg_sys::JsonbValue::default();
            while digits <= limit {
                match pg_sys::JsonbIteratorNext(&mut iterator, &mut value, false) {
                    WJB_BEGIN_ARRAY | WJB_BEGIN_OBJECT => depth += 1,
                    WJB_END_ARRAY | WJB_END_OBJECT => depth -= 1,
                    WJB_ELEM | WJB_VALUE if value.type_ == pg_sys::jbvType::jbvNumeric => {
                        digits += length_of_number(value.val.numeric);
                    }
                    WJB_DONE => break,
                    _ => {}
                }
                deepest = deepest.max(depth);
            }
            pg_sys::pfree(jsonb.cast());
        }
        (deepest, digits)
    }
}

/// Returns the number of characters that a number has as text.
///
/// # Safety
/// `number` must be a numeric.
unsafe fn length_of_number(number: pg_sys::Numeric) -> usize {
    // SAFETY: guaranteed by the caller. numeric_out returns a newly allocated C string.
    unsafe {
        let text = direct_function_call_as_datum(pg_sys::numeric_out, &[Some(number.into())]);
        text.map_or(0, |text| {
            let text: *mut std::ffi::c_char = text.cast_mut_ptr();
            let length = std::ffi::CStr::from_ptr(text).to_bytes().len();
            pg_sys::pfree(text.cast());
            length
        })
    }
}

impl FromDatum for Jsonb {
    unsafe fn from_polymorphic_datum(datum: pg_sys::Datum, is_null: bool, _typoid: pg_sys::Oid) -> Option<Self> {
        if is_null {
            return None;
        }
        // SAFETY: a non-null jsonb datum points to a varlena. Detoasting returns a plain one, whose header holds its
        // size.
        unsafe {
            let varlena = pg_sys::pg_detoast_datum(datum.cast_mut_ptr());
            let bytes = std::slice::from_raw_parts(varlena.cast::<u8>(), pgrx::varlena::varsize_any(varlena));
            Some(Jsonb(bytes.to_vec()))
        }
    }
}

impl IntoDatum for Jsonb {
    fn into_datum(self) -> Option<pg_sys::Datum> {
        // SAFETY: palloc returns MAXALIGNed memory of the requested size, all of which is written.
        unsafe {
            let copy = pg_sys::palloc(self.0.len()).cast::<u8>();
            std::ptr::copy_nonoverlapping(self.0.as_ptr(), copy, self.0.len());
            Some(copy.into())
        }
    }

    fn type_oid() -> pg_sys::Oid {
        pg_sys::JSONBOID
    }
}

// SAFETY: names the SQL type of the bytes above.
unsafe impl SqlTranslatable for Jsonb {
    fn argument_sql() -> std::result::Result<SqlMapping, ArgumentError> {
        Ok(SqlMapping::literal("jsonb"))
    }
    fn return_sql() -> std::result::Result<Returns, ReturnsError> {
        Ok(Returns::One(SqlMapping::literal("jsonb")))
    }
}

// SAFETY: reads the argument with the FromDatum above, which copies.
unsafe impl<'fcx> pgrx::callconv::ArgAbi<'fcx> for Jsonb {
    unsafe fn unbox_arg_unchecked(arg: pgrx::callconv::Arg<'_, 'fcx>) -> Self {
        // SAFETY: the declared argument type is jsonb.
        match unsafe { arg.unbox_arg_using_from_datum() } {
            Some(value) => value,
            None => error!("unexpected null"),
        }
    }
}

// SAFETY: returns the datum that IntoDatum created.
unsafe impl pgrx::callconv::BoxRet for Jsonb {
    unsafe fn box_into<'fcx>(self, fcinfo: &mut pgrx::callconv::FcInfo<'fcx>) -> pgrx::datum::Datum<'fcx> {
        match self.into_datum() {
            // SAFETY: a newly allocated jsonb in the function's memory context.
            Some(datum) => unsafe { fcinfo.return_raw_datum(datum) },
            None => fcinfo.return_null(),
        }
    }
}
