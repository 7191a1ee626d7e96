//! The check and assign hooks of the settings that determine the caller.

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_void};

use pgrx::prelude::*;

use super::values::{CHOICE, Choice, TENANT_ID, tenant_id, user_id};
use crate::error::Result;
use crate::model::ids;
use crate::pg::guc::{self, Lifetime};
use crate::pg::{backend, memory};

/// An assignment to one of the two identity settings, with the new value.
#[derive(Clone, Copy)]
pub enum Change {
    User(Option<pgrx::Uuid>),
    Tenant(Option<pgrx::Uuid>),
}

impl Change {
    /// Reports whether the new value differs from the current one.
    pub fn is_different(self) -> bool {
        match self {
            Change::User(user) => user_id().is_ok_and(|before| before != user),
            Change::Tenant(tenant) => tenant_id().is_ok_and(|before| before != tenant),
        }
    }
}

/// A function that was registered with `on_identity_change`.
type Watcher = fn(Change);

thread_local! {
    static WATCHER: Cell<Option<Watcher>> = const { Cell::new(None) };
    /// The choice that `choose` is assigning.
    static ASSIGNING: Cell<Option<Choice>> = const { Cell::new(None) };
    /// The choice that belongs to the value of `TENANT_ID`, if `choose` assigned that value.
    static CHOSEN: Cell<Option<Choice>> = const { Cell::new(None) };
    static LOADING: Cell<bool> = const { Cell::new(false) };
    static IDENTITY_CHANGES: Cell<u64> = const { Cell::new(1) };
}

/// Counts an assignment. PostgreSQL also calls this when it restores a value at the end of a transaction or function.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn identity_assigned(_value: *const c_char, _extra: *mut c_void) {
    IDENTITY_CHANGES.set(IDENTITY_CHANGES.get() + 1);
    // The effective search_path depends on the caller: it omits tenant schemas that the caller cannot access.
    guc::find_search_path_again();
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn user_id_assigned(value: *const c_char, extra: *mut c_void) {
    // SAFETY: PostgreSQL passed these pointers to this assign hook.
    unsafe { assigned(Change::User, value, extra) };
}

#[pg_guard]
pub(super) unsafe extern "C-unwind" fn tenant_id_assigned(value: *const c_char, extra: *mut c_void) {
    // SAFETY: PostgreSQL passed these pointers to this assign hook. `check_tenant_id` made the extra data, if there is
    // any.
    unsafe {
        CHOSEN.set(extra.cast::<Choice>().as_ref().copied());
        assigned(Change::Tenant, value, extra);
    }
}

/// Sets the current tenant, and stores with the value that it was chosen, and for whom. PostgreSQL keeps such extra data
/// together with the value: it disappears if the setting is set or reset, and returns if the value is restored.
pub fn choose(choice: Choice, lifetime: Lifetime) -> Result<()> {
    struct Assigning;
    impl Drop for Assigning {
        fn drop(&mut self) {
            ASSIGNING.set(None);
        }
    }
    let assigning = Assigning;
    ASSIGNING.set(Some(choice));
    guc::set(TENANT_ID, &ids::text(choice.tenant), lifetime)?;
    drop(assigning);
    guc::set(CHOICE, &choice.text(), lifetime)
}

/// Returns the choice that set the current tenant, or `None` if it was not `choose` that set it.
pub fn choice() -> Option<Choice> {
    if backend::is_parallel_worker() { shared_choice() } else { CHOSEN.get() }
}

/// Returns the choice as parallel workers see it: they inherit the values of settings without the extra data.
fn shared_choice() -> Option<Choice> {
    Choice::copied().filter(|choice| tenant_id().is_ok_and(|tenant| tenant == Some(choice.tenant)))
}

/// Corrects the copy of the choice for parallel workers: the current tenant may have been set to the same tenant since.
pub fn share_choice() -> Result<()> {
    if shared_choice() == choice() || backend::is_in_parallel_mode() {
        return Ok(());
    }
    guc::set(CHOICE, &choice().map(Choice::text).unwrap_or_default(), Lifetime::Transaction)
}

/// Handles an assignment to one of the two identity settings.
///
/// # Safety
/// `value` and `extra` must be the pointers that PostgreSQL passed to the assign hook.
unsafe fn assigned(change: fn(Option<pgrx::Uuid>) -> Change, value: *const c_char, extra: *mut c_void) {
    // SAFETY: the caller guarantees that `value` is what PostgreSQL passes to assign hooks: null or a C string.
    let id = unsafe {
        identity_assigned(value, extra);
        if value.is_null() { None } else { ids::from_ascii(CStr::from_ptr(value).to_bytes()) }
    };
    if let Some(watcher) = WATCHER.get() {
        watcher(change(id));
    }
}

/// Registers `watcher`, which is called before one of the two identity settings changes, including when PostgreSQL
/// restores a value. It must not raise an error, because assign hooks must not fail.
pub fn on_identity_change(watcher: Watcher) {
    WATCHER.set(Some(watcher));
}

/// Rejects at SET a value that `ids::parse` would reject in every later statement. A value that was set before the
/// library was loaded passes, so that `ids::parse` rejects it later: if this hook rejected it, PostgreSQL would replace
/// it with the empty default, which means no user.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check_uuid(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL passes the address of the new value, which is null or a C string.
    let value = unsafe { value.read() };
    if value.is_null() || LOADING.get() {
        return true;
    }
    // SAFETY: `value` is not null, and check hooks receive C strings.
    let valid = match unsafe { CStr::from_ptr(value) }.to_str() {
        Ok(value) => ids::parse(&"", value).is_ok(),
        Err(_) => false,
    };
    if !valid {
        let code: c_int = PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION as c_int;
        // SAFETY: PostgreSQL provides these for check hooks to use before they return false. The hint is allocated in
        // the memory context in which the hook was called, and PostgreSQL reads it right after the hook returns.
        unsafe {
            pg_sys::GUC_check_errcode(code);
            pg_sys::GUC_check_errhint_string = pg_sys::pstrdup(
                c"Write a uuid as 8-4-4-4-12 hexadecimal digits, or leave the value empty for none.".as_ptr(),
            );
        }
    }
    valid
}

/// Checks the value as `check_uuid` does, and stores the choice with it.
#[pg_guard]
pub(super) unsafe extern "C-unwind" fn check_tenant_id(
    value: *mut *mut c_char,
    extra: *mut *mut c_void,
    source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: PostgreSQL's arguments. It frees the extra data, which is allocated as it requires.
    unsafe {
        if !check_uuid(value, extra, source) {
            return false;
        }
        let Some(choice) = ASSIGNING.get() else {
            return true;
        };
        let stored = memory::allocate_for_setting(size_of::<Choice>()).cast::<Choice>();
        if stored.is_null() {
            return false;
        }
        stored.write(choice);
        *extra = stored.cast();
        true
    }
}

/// Switches `check_uuid` off while the library defines the settings.
pub(super) fn set_loading(loading: bool) {
    LOADING.set(loading);
}

/// Returns a counter that advances at each assignment to a setting that determines the caller.
pub fn identity_changes() -> u64 {
    IDENTITY_CHANGES.get()
}
