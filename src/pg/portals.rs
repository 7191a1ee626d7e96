//! Cursors of the session: those that code of others opened are closed when it has run.

use std::ffi::CString;

use pgrx::prelude::*;

use super::spi;
use crate::error::Result;

/// The cursors that were there when it was made.
pub struct Portals(Option<Vec<String>>);

impl Portals {
    /// Only a client's session has somebody after us who could fetch from them.
    pub fn now() -> Result<Self> {
        // SAFETY: reads a variable of the backend.
        let is_client = unsafe { pg_sys::MyBackendType } == pg_sys::BackendType::B_BACKEND;
        is_client.then(names).transpose().map(Portals)
    }

    /// Closes those that have been opened since.
    pub fn close_others(&self) -> Result<()> {
        let Some(before) = &self.0 else {
            return Ok(());
        };
        for name in names()?.into_iter().filter(|name| !before.contains(name)) {
            let Ok(name) = CString::new(name) else {
                continue;
            };
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

fn names() -> Result<Vec<String>> {
    spi::query_as_is("SELECT name FROM pg_catalog.pg_cursors", |row| row.need(1))
}
