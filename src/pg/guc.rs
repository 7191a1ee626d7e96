//! Reads settings, and changes them for the session, for the transaction or for a scope.

use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::prelude::*;

use super::lists;
use crate::error::{Error, Result};

/// How long a change lasts, as `is_local` determines in `set_config(name, value, is_local)`.
#[derive(Clone, Copy)]
pub enum Lifetime {
    Session,
    Transaction,
}

impl Lifetime {
    pub fn from_is_local(is_local: bool) -> Self {
        if is_local { Lifetime::Transaction } else { Lifetime::Session }
    }
}

/// Changes a setting with superuser privileges, whatever the calling role may set.
pub fn set(name: &CStr, value: &str, lifetime: Lifetime) -> Result<()> {
    let action = match lifetime {
        Lifetime::Session => pg_sys::GucAction::GUC_ACTION_SET,
        Lifetime::Transaction => pg_sys::GucAction::GUC_ACTION_LOCAL,
    };
    assign(name, value, action)
}

/// Splits a list of names that is written as in search_path.
pub fn names_in_list(list: &str) -> Result<Vec<String>> {
    let list = c_string(list)?;
    let mut names = std::ptr::null_mut();
    // SAFETY: PostgreSQL modifies the string passed, which is therefore a copy. The names in the list that it returns
    // point into that copy.
    unsafe {
        if !pg_sys::SplitIdentifierString(pg_sys::pstrdup(list.as_ptr()), b',' as c_char, &mut names) {
            return Err(Error::internal("search_path is not a list of names"));
        }
        Ok(lists::nodes::<c_char>(names).map(|name| CStr::from_ptr(name).to_string_lossy().into_owned()).collect())
    }
}

/// Makes PostgreSQL look up the schemas in search_path again when it next needs them.
pub fn find_search_path_again() {
    // SAFETY: marks PostgreSQL's copy of the path as invalid. The function does not use its arguments.
    unsafe { assign_search_path(std::ptr::null(), std::ptr::null_mut()) };
}

unsafe extern "C" {
    // pgrx's bindings declare it only for PostgreSQL 15.
    fn assign_search_path(value: *const c_char, extra: *mut c_void);
}

/// Resets all settings, as RESET ALL does.
pub fn reset_all() {
    // SAFETY: in a transaction.
    unsafe { pg_sys::ResetAllOptions() };
}

/// Returns the value of a setting as text, or `None` if the setting does not exist.
pub fn get(name: &str) -> Result<Option<String>> {
    let c_name = c_string(name)?;
    // SAFETY: a C string. With missing_ok, the result is null or a C string that is valid until the next call.
    unsafe {
        let value = pg_sys::GetConfigOption(c_name.as_ptr(), true, false);
        Ok((!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned()))
    }
}

/// A nesting level for settings. When it drops, every setting that was changed inside is restored, whichever code
/// changed it.
pub struct Scope(i32);

impl Scope {
    pub fn open() -> Self {
        // SAFETY: may be called at any time in a transaction.
        Scope(unsafe { pg_sys::NewGUCNestLevel() })
    }

    pub fn set(&self, name: &CStr, value: &str) -> Result<()> {
        assign(name, value, pg_sys::GucAction::GUC_ACTION_SAVE)
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // SAFETY: closes this level, and any level inside it that an error left open.
        unsafe { pg_sys::AtEOXact_GUC(false, self.0) };
    }
}

fn assign(name: &CStr, value: &str, action: pg_sys::GucAction::Type) -> Result<()> {
    let value = c_string(value)?;
    // SAFETY: C strings that outlive the call. With elevel 0, an invalid value raises an ERROR.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_SUSET,
            pg_sys::GucSource::PGC_S_SESSION,
            action,
            true,
            0,
            false,
        );
    }
    Ok(())
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::internal("setting contains a zero byte"))
}
