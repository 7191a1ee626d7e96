//! Protects the session's cursors from untrusted code. While such code runs, it cannot fetch from existing cursors. The
//! cursors that it has opened are closed when it has run.

use std::ffi::CString;

use pgrx::prelude::*;

use super::spi;
use crate::error::Result;

/// The cursors that existed when this value was created. They cannot be fetched from while it lives.
pub struct Portals(Option<Vec<Portal>>);

struct Portal {
    name: CString,
    is_shut_here: bool,
}

impl Portals {
    /// Records the existing cursors and blocks fetches from them. Does nothing in a background worker: only a client's
    /// session may have cursors that untrusted code must not read, and may later run code that could fetch from cursors
    /// left open.
    pub fn now() -> Result<Self> {
        // SAFETY: reads a backend-local variable.
        let is_client = unsafe { pg_sys::MyBackendType } == pg_sys::BackendType::B_BACKEND;
        let names = is_client.then(names).transpose()?;
        Ok(Portals(names.map(|names| names.into_iter().map(Portal::shut).collect())))
    }

    /// Closes the cursors that have been opened since.
    pub fn close_new(&self) -> Result<()> {
        let Some(before) = &self.0 else {
            return Ok(());
        };
        for name in names()?.into_iter().filter(|name| before.iter().all(|portal| portal.name != *name)) {
            // SAFETY: a C string. The result is null for a missing cursor. A cursor that is running or that a PL/pgSQL
            // loop uses must not be dropped, and is skipped.
            unsafe {
                let portal = pg_sys::GetPortalByName(name.as_ptr());
                if !portal.is_null()
                    && !(*portal).portalPinned
                    && (*portal).status != pg_sys::PortalStatus::PORTAL_ACTIVE
                {
                    pg_sys::PortalDrop(portal, false);
                }
            }
        }
        Ok(())
    }
}

impl Portal {
    /// Marks a cursor as running, so that PostgreSQL refuses to fetch from it or to close it.
    fn shut(name: CString) -> Self {
        let is_shut_here = change(&name, pg_sys::PortalStatus::PORTAL_READY, pg_sys::PortalStatus::PORTAL_ACTIVE);
        Portal { name, is_shut_here }
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        if self.is_shut_here {
            change(&self.name, pg_sys::PortalStatus::PORTAL_ACTIVE, pg_sys::PortalStatus::PORTAL_READY);
        }
    }
}

/// Changes the status of a cursor. Returns false if the cursor does not exist or has another status than `from`.
fn change(name: &CString, from: pg_sys::PortalStatus::Type, to: pg_sys::PortalStatus::Type) -> bool {
    // SAFETY: a C string. The result is null for a missing cursor.
    unsafe {
        match pg_sys::GetPortalByName(name.as_ptr()).as_mut() {
            Some(portal) if portal.status == from => {
                portal.status = to;
                true
            }
            _ => false,
        }
    }
}

fn names() -> Result<Vec<CString>> {
    let names = spi::query_as_is("SELECT name FROM pg_catalog.pg_cursors", |row| row.need::<String>(1))?;
    // The name of a cursor contains no zero byte.
    Ok(names.into_iter().filter_map(|name| CString::new(name).ok()).collect())
}
