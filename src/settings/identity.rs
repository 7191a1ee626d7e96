//! The hooks of the settings that say who is calling.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};

use pgrx::prelude::*;

use super::values::{tenant_id, user_id};
use crate::model::ids;
use crate::pg::guc;

/// What an identity setting is set to.
#[derive(Clone, Copy)]
pub enum Change {
    User(Option<pgrx::Uuid>),
    Tenant(Option<pgrx::Uuid>),
}

impl Change {
    /// Whether it is something else than what is set.
    pub fn is_another(self) -> bool {
        match self {
            Change::User(user) => user_id().is_ok_and(|before| before != user),
            Change::Tenant(tenant) => tenant_id().is_ok_and(|before| before != tenant),
        }
    }
}

/// See `on_identity_change`.
type Watcher = fn(Change);

thread_local! {
    static WATCHER: Cell<Option<Watcher>> = const { Cell::new(None) };
    static LOADING: Cell<bool> = const { Cell::new(false) };
    static IDENTITY_CHANGES: Cell<u64> = const { Cell::new(1) };
}

/// Called also where a value comes back at the end of a transaction or a function.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn identity_assigned(_value: *const c_char, _extra: *mut c_void) {
    IDENTITY_CHANGES.set(IDENTITY_CHANGES.get() + 1);
    // Which schemas are searched depends on who is calling.
    guc::find_search_path_again();
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn user_id_assigned(value: *const c_char, extra: *mut c_void) {
    // SAFETY: as the server calls it.
    unsafe { assigned(Change::User, value, extra) };
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn tenant_id_assigned(value: *const c_char, extra: *mut c_void) {
    // SAFETY: as the server calls it.
    unsafe { assigned(Change::Tenant, value, extra) };
}

/// # Safety
/// What the server passes to assign hooks.
unsafe fn assigned(change: fn(Option<pgrx::Uuid>) -> Change, value: *const c_char, extra: *mut c_void) {
    // SAFETY: by the caller's promise null or a C string.
    let id = unsafe {
        identity_assigned(value, extra);
        if value.is_null() { None } else { ids::from_ascii(CStr::from_ptr(value).to_bytes()) }
    };
    if let Some(watcher) = WATCHER.get() {
        watcher(change(id));
    }
}

/// Has `watcher` told whenever one of the two identity settings is set, also where a value comes back. It must not fail.
pub fn on_identity_change(watcher: Watcher) {
    WATCHER.set(Some(watcher));
}

/// Refuses at SET what `ids::parse` would refuse at every later statement. What was set before the library was loaded
/// passes, to be refused by `ids::parse`: the server would replace it by no user at all.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check_uuid(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server passes the address of the new value, which is null or a C string.
    let value = unsafe { value.read() };
    if value.is_null() || LOADING.get() {
        return true;
    }
    // SAFETY: not null, and a C string by the contract of check hooks.
    let valid = match unsafe { CStr::from_ptr(value) }.to_str() {
        Ok(value) => ids::parse(&"", value).is_ok(),
        Err(_) => false,
    };
    if !valid {
        let code: c_int = PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION as c_int;
        // SAFETY: meant to be called by check hooks before they return false; the string lives in the hook's context.
        unsafe {
            pg_sys::GUC_check_errcode(code);
            pg_sys::GUC_check_errhint_string =
                pg_sys::pstrdup(c"Write a uuid as 8-4-4-4-12 hexadecimal digits, or leave it empty for none.".as_ptr());
        }
    }
    valid
}

/// While the library defines the settings.
pub(super) fn set_loading(loading: bool) {
    LOADING.set(loading);
}

/// Another number after each change of a setting that says who is calling.
pub fn identity_changes() -> u64 {
    IDENTITY_CHANGES.get()
}
