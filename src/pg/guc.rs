//! Settings changed from code, and undone at the end of a scope.

use std::ffi::{CStr, CString, c_char, c_void};

use pgrx::prelude::*;

use super::lists;
use crate::error::{Error, Result};

/// How long a change lasts: as in `set_config(name, value, is_local)`.
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

/// Sets with the extension's rights, whatever the calling role may set.
pub fn set(name: &CStr, value: &str, lifetime: Lifetime) -> Result<()> {
    let action = match lifetime {
        Lifetime::Session => pg_sys::GucAction::GUC_ACTION_SET,
        Lifetime::Transaction => pg_sys::GucAction::GUC_ACTION_LOCAL,
    };
    assign(name, value, action)
}

/// The names in a list as search_path holds one.
pub fn names_in_list(list: &str) -> Result<Vec<String>> {
    let list = c_string(list)?;
    let mut names = std::ptr::null_mut();
    // SAFETY: a copy of a C string, which the server writes to, and into which the list of names that it makes points.
    unsafe {
        if !pg_sys::SplitIdentifierString(pg_sys::pstrdup(list.as_ptr()), b',' as c_char, &mut names) {
            return Err(Error::internal("search_path is no list of names"));
        }
        Ok(lists::nodes::<c_char>(names).map(|name| CStr::from_ptr(name).to_string_lossy().into_owned()).collect())
    }
}

/// The server looks up the schemas of search_path again when it next needs them.
pub fn find_search_path_again() {
    // SAFETY: marks the path as not known; what it is given it does not use.
    unsafe { assign_search_path(std::ptr::null(), std::ptr::null_mut()) };
}

unsafe extern "C" {
    // pgrx's bindings have it for PostgreSQL 15 alone.
    fn assign_search_path(value: *const c_char, extra: *mut c_void);
}

/// As RESET ALL, with the extension's rights.
pub fn reset_all() {
    // SAFETY: in a transaction.
    unsafe { pg_sys::ResetAllOptions() };
}

/// The value of any setting as text; `None` where no such setting is known.
pub fn get(name: &str) -> Result<Option<String>> {
    let c_name = c_string(name)?;
    // SAFETY: a C string; missing_ok; the answer is null or a C string that lives until the next call.
    unsafe {
        let value = pg_sys::GetConfigOption(c_name.as_ptr(), true, false);
        Ok((!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned()))
    }
}

/// A scope of its own for settings: whatever is set inside, by whomever, is undone when it drops.
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
        // SAFETY: closes this level and any that an error left open inside it.
        unsafe { pg_sys::AtEOXact_GUC(false, self.0) };
    }
}

fn assign(name: &CStr, value: &str, action: pg_sys::GucAction::Type) -> Result<()> {
    let value = c_string(value)?;
    // SAFETY: C strings that live during the call. elevel 0 makes a refused value an ERROR.
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
    CString::new(text).map_err(|_| Error::internal("a zero byte in a setting"))
}
