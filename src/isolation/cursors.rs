//! Cursors WITH HOLD outlive their transaction, and on a pooled connection their user. FETCH is checked, but functions
//! take their rows without a query or a command: before code of others runs, those out of the caller's reach are closed.

use std::cell::RefCell;
use std::ffi::{CStr, CString};

use pgrx::pg_sys;

use super::{check, plans};
use crate::catalog::changes;
use crate::error::Result;

thread_local! {
    /// Names of cursors that were declared WITH HOLD. Those that are closed since are forgotten when next looked at.
    static DECLARED: RefCell<Vec<CString>> = const { RefCell::new(Vec::new()) };
}

/// Whether the query that starts is that of a cursor WITH HOLD.
pub fn is_starting() -> bool {
    // SAFETY: the portal that is being started or run, null where there is none.
    unsafe {
        let portal = pg_sys::ActivePortal;
        !portal.is_null() && (*portal).cursorOptions & pg_sys::CURSOR_OPT_HOLD as i32 != 0
    }
}

/// Called where one starts.
pub fn remember() {
    // SAFETY: as `is_starting` says, there is a portal; it has a name.
    unsafe {
        let name = CStr::from_ptr((*pg_sys::ActivePortal).name);
        DECLARED.with_borrow_mut(|names| {
            if !names.iter().any(|known| known.as_c_str() == name) {
                names.push(name.to_owned());
            }
        });
    }
}

/// Called before a function runs.
pub fn before_function(function: pg_sys::Oid) -> Result<()> {
    if DECLARED.with_borrow(Vec::is_empty) || !may_fetch(function) {
        return Ok(());
    }
    close_out_of_reach()
}

/// Functions of others, and the server's own that take a cursor: `cursor_to_xml` and `cursor_to_xmlschema`. Others, such as
/// `set_config`, may be what puts the user back whose cursor it is, and policies call those of the catalog's schema.
fn may_fetch(function: pg_sys::Oid) -> bool {
    let number = function.to_u32();
    if number < pg_sys::FirstNormalObjectId {
        return number == pg_sys::F_CURSOR_TO_XML || number == pg_sys::F_CURSOR_TO_XMLSCHEMA;
    }
    // SAFETY: lookups by oid and by C string.
    unsafe { pg_sys::get_func_namespace(function) != pg_sys::get_namespace_oid(c"fluxbase_tenant".as_ptr(), true) }
}

pub fn close_out_of_reach() -> Result<()> {
    if DECLARED.with_borrow(Vec::is_empty) {
        return Ok(());
    }
    changes::catch_up();
    // A copy: the server runs code meanwhile.
    let mut kept = Vec::new();
    for name in DECLARED.with_borrow(Vec::clone) {
        // SAFETY: a C string; null where there is no such cursor.
        let portal = unsafe { pg_sys::GetPortalByName(name.as_ptr()) };
        if portal.is_null() {
            continue;
        }
        // SAFETY: the portal is there; one that is running or that a loop holds cannot be dropped.
        unsafe {
            let is_held = !(*portal).holdStore.is_null();
            let is_idle = !(*portal).portalPinned && (*portal).status == pg_sys::PortalStatus::PORTAL_READY;
            if is_held && is_idle && check::out_of_reach(plans::held(name.as_ptr()).into_iter())?.is_some() {
                pg_sys::PortalDrop(portal, false);
                continue;
            }
        }
        kept.push(name);
    }
    DECLARED.set(kept);
    Ok(())
}
