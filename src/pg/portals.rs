//! Cursors of the session: code of others does not get at those that are there, and those that it opened are closed when it
//! has run.

use std::ffi::CString;

use pgrx::prelude::*;

use super::spi;
use crate::error::Result;

/// The cursors that were there when it was made. Nothing can be fetched from them while it lives.
pub struct Portals(Option<Vec<Portal>>);

struct Portal {
    name: CString,
    is_ours_to_open: bool,
}

impl Portals {
    /// Only a client's session has cursors of somebody else's, and somebody after us who could fetch from ours.
    pub fn now() -> Result<Self> {
        // SAFETY: reads a variable of the backend.
        let is_client = unsafe { pg_sys::MyBackendType } == pg_sys::BackendType::B_BACKEND;
        let names = is_client.then(names).transpose()?;
        Ok(Portals(names.map(|names| names.into_iter().map(Portal::shut).collect())))
    }

    /// Closes those that have been opened since.
    pub fn close_others(&self) -> Result<()> {
        let Some(before) = &self.0 else {
            return Ok(());
        };
        for name in names()?.into_iter().filter(|name| before.iter().all(|portal| portal.name != *name)) {
            // SAFETY: a C string; null where there is no such cursor; one that is running or that a loop holds cannot be
            // dropped.
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
    /// The server neither runs nor closes a cursor that is running.
    fn shut(name: CString) -> Self {
        let is_ours_to_open = change(&name, pg_sys::PortalStatus::PORTAL_READY, pg_sys::PortalStatus::PORTAL_ACTIVE);
        Portal { name, is_ours_to_open }
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        if self.is_ours_to_open {
            change(&self.name, pg_sys::PortalStatus::PORTAL_ACTIVE, pg_sys::PortalStatus::PORTAL_READY);
        }
    }
}

/// False where there is no such cursor, or its state is another one.
fn change(name: &CString, from: pg_sys::PortalStatus::Type, to: pg_sys::PortalStatus::Type) -> bool {
    // SAFETY: a C string; null where there is none.
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
    // No name of the server's has a zero byte.
    Ok(names.into_iter().filter_map(|name| CString::new(name).ok()).collect())
}
