//! Cursors: portals that outlive the statement that opened them, whether they were opened by SQL, PL/pgSQL or the
//! protocol.

use std::ffi::{CStr, c_char, c_void};

use pgrx::prelude::*;

use super::{catalogs, lists};

/// The system caches on which a plan depends if its query uses a function or a domain. The CHECK of a domain may call a
/// function.
const CALLER_DEPENDENT: [i32; 2] =
    [pg_sys::SysCacheIdentifier::PROCOID as i32, pg_sys::SysCacheIdentifier::TYPEOID as i32];

/// A portal. It exists until PostgreSQL drops it, which `on_drop` reports.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pg_sys::Portal);

impl Cursor {
    /// Returns the named portal that is being started or run.
    pub fn active() -> Option<Self> {
        // SAFETY: a backend-local variable, null if no portal is active. Every portal has a name, which may be empty.
        unsafe {
            let portal = pg_sys::ActivePortal;
            (!portal.is_null() && *(*portal).name != 0).then_some(Cursor(portal))
        }
    }

    /// Returns the unnamed portal, in which simple queries and, by default, statements of the extended protocol run.
    pub fn unnamed() -> Option<Self> {
        // SAFETY: a C string.
        unsafe { Cursor::by_name(c"".as_ptr()) }
    }

    /// Returns the portal with this name, if it exists.
    ///
    /// # Safety
    /// `name` must be a C string or null.
    pub unsafe fn by_name(name: *const c_char) -> Option<Self> {
        // SAFETY: guaranteed by the caller. The result is null for a missing portal.
        unsafe {
            let portal = if name.is_null() { std::ptr::null_mut() } else { pg_sys::GetPortalByName(name) };
            (!portal.is_null()).then_some(Cursor(portal))
        }
    }

    pub fn name(self) -> String {
        // SAFETY: a portal's name is a C string.
        unsafe { CStr::from_ptr((*self.0).name) }.to_string_lossy().into_owned()
    }

    /// Reports whether the cursor's rows are stored in the portal, so that a fetch runs no query.
    pub fn is_stored(self) -> bool {
        // SAFETY: the portal exists.
        unsafe { !(*self.0).holdStore.is_null() }
    }

    /// Returns the cursor's planned statements.
    pub fn statements(self) -> *mut pg_sys::List {
        // SAFETY: the portal exists.
        unsafe { (*self.0).stmts }
    }

    /// Reports whether the cursor's rows may depend on the caller who fetches them: its query evaluates policies, or
    /// uses functions or domains that are not built in.
    pub fn depends_on_caller(self) -> bool {
        // SAFETY: a portal's statements are planned, and live as long as the portal. `invalItems` is a list of
        // PlanInvalItem.
        unsafe {
            lists::nodes::<pg_sys::PlannedStmt>(self.statements()).any(|plan| {
                lists::oids((*plan).relationOids).into_iter().any(catalogs::has_policies)
                    || lists::nodes::<pg_sys::PlanInvalItem>((*plan).invalItems)
                        .any(|item| CALLER_DEPENDENT.contains(&(*item).cacheId))
            })
        }
    }

    /// Makes PostgreSQL refuse to run a cursor whose rows are stored, as it does when the protocol has fetched all
    /// rows. Returns false if the rows are not stored or the cursor is in use.
    pub fn shut(self) -> bool {
        self.is_stored() && self.change(pg_sys::PortalStatus::PORTAL_READY, pg_sys::PortalStatus::PORTAL_DONE)
    }

    /// Undoes `shut`.
    pub fn open(self) {
        self.change(pg_sys::PortalStatus::PORTAL_DONE, pg_sys::PortalStatus::PORTAL_READY);
    }

    /// Returns the query that a fetch continues, or null if there is none.
    pub fn query(self) -> *mut pg_sys::QueryDesc {
        // SAFETY: the portal exists.
        unsafe { (*self.0).queryDesc }
    }

    fn change(self, from: pg_sys::PortalStatus::Type, to: pg_sys::PortalStatus::Type) -> bool {
        // SAFETY: the portal exists.
        unsafe {
            let is_so = (*self.0).status == from;
            if is_so {
                (*self.0).status = to;
            }
            is_so
        }
    }

    /// Closes the cursor, unless it is running or a PL/pgSQL loop uses it.
    pub fn close(self) {
        // SAFETY: the portal exists. It is dropped only if no code is using it.
        unsafe {
            if !(*self.0).portalPinned && (*self.0).status == pg_sys::PortalStatus::PORTAL_READY {
                pg_sys::PortalDrop(self.0, false);
            }
        }
    }

    /// Calls `forget` with the cursor when PostgreSQL drops it.
    pub fn on_drop(self, forget: fn(Cursor)) {
        // SAFETY: the callback and its argument are allocated in the memory context whose deletion triggers it.
        unsafe {
            let context = (*self.0).portalContext;
            let callback = pg_sys::MemoryContextAlloc(context, size_of::<Dropped>()).cast::<Dropped>();
            callback.write(Dropped { callback: pg_sys::MemoryContextCallback::default(), cursor: self, forget });
            (*callback).callback.func = Some(dropped);
            (*callback).callback.arg = callback.cast();
            pg_sys::MemoryContextRegisterResetCallback(context, &mut (*callback).callback);
        }
    }
}

#[repr(C)]
struct Dropped {
    callback: pg_sys::MemoryContextCallback,
    cursor: Cursor,
    forget: fn(Cursor),
}

#[pg_guard]
unsafe extern "C-unwind" fn dropped(argument: *mut c_void) {
    // SAFETY: the argument that `on_drop` registered, which is not freed yet.
    let dropped = unsafe { &*argument.cast::<Dropped>() };
    (dropped.forget)(dropped.cursor);
}
