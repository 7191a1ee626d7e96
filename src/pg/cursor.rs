//! Portals that outlive the statement that opened them: cursors of SQL, of PL/pgSQL and of the protocol.

use std::ffi::{CStr, c_char, c_void};

use pgrx::prelude::*;

use super::{catalogs, lists};

/// What a plan is made again for: a function, and a domain, whose CHECK may call one.
const ASKING: [i32; 2] = [pg_sys::SysCacheIdentifier::PROCOID as i32, pg_sys::SysCacheIdentifier::TYPEOID as i32];

/// A portal with a name. It is there until `on_drop` says that it is not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pg_sys::Portal);

impl Cursor {
    /// The one that is being started or run.
    pub fn active() -> Option<Self> {
        // SAFETY: a variable of the backend, null where there is none; a portal has a name, which may be empty.
        unsafe {
            let portal = pg_sys::ActivePortal;
            (!portal.is_null() && *(*portal).name != 0).then_some(Cursor(portal))
        }
    }

    /// The one that messages of the protocol and simple queries run in.
    pub fn unnamed() -> Option<Self> {
        // SAFETY: a C string.
        unsafe { Cursor::by_name(c"".as_ptr()) }
    }

    /// # Safety
    /// A C string.
    pub unsafe fn by_name(name: *const c_char) -> Option<Self> {
        // SAFETY: by the caller's promise; null where there is none, and for the name of none.
        unsafe {
            let portal = if name.is_null() { std::ptr::null_mut() } else { pg_sys::GetPortalByName(name) };
            (!portal.is_null()).then_some(Cursor(portal))
        }
    }

    pub fn name(self) -> String {
        // SAFETY: a portal's name is a C string.
        unsafe { CStr::from_ptr((*self.0).name) }.to_string_lossy().into_owned()
    }

    /// Whether it has its rows in store, so that to fetch them runs no query.
    pub fn is_stored(self) -> bool {
        // SAFETY: the portal is there.
        unsafe { !(*self.0).holdStore.is_null() }
    }

    /// Its statements, which are planned.
    pub fn statements(self) -> *mut pg_sys::List {
        // SAFETY: the portal is there.
        unsafe { (*self.0).stmts }
    }

    /// Whether its rows may depend on who fetches them: its query asks policies, or functions and domains that the server did not come
    /// with.
    pub fn asks_who_fetches(self) -> bool {
        // SAFETY: a portal's statements are planned, and live as long as it does; what makes a plan invalid is a list of such items.
        unsafe {
            lists::nodes::<pg_sys::PlannedStmt>(self.statements()).any(|plan| {
                lists::oids((*plan).relationOids).into_iter().any(catalogs::has_policies)
                    || lists::nodes::<pg_sys::PlanInvalItem>((*plan).invalItems)
                        .any(|item| ASKING.contains(&(*item).cacheId))
            })
        }
    }

    /// Has the server refuse to run one that has its rows in store, as it does when all have been fetched by the protocol; false
    /// where it is in use.
    pub fn shut(self) -> bool {
        self.is_stored() && self.change(pg_sys::PortalStatus::PORTAL_READY, pg_sys::PortalStatus::PORTAL_DONE)
    }

    /// After `shut`.
    pub fn open(self) {
        self.change(pg_sys::PortalStatus::PORTAL_DONE, pg_sys::PortalStatus::PORTAL_READY);
    }

    /// The query that a fetch runs on; null where there is none.
    pub fn query(self) -> *mut pg_sys::QueryDesc {
        // SAFETY: the portal is there.
        unsafe { (*self.0).queryDesc }
    }

    fn change(self, from: pg_sys::PortalStatus::Type, to: pg_sys::PortalStatus::Type) -> bool {
        // SAFETY: the portal is there.
        unsafe {
            let is_so = (*self.0).status == from;
            if is_so {
                (*self.0).status = to;
            }
            is_so
        }
    }

    /// Closes it; one that is running or that a loop holds stays.
    pub fn close(self) {
        // SAFETY: the portal is there, and nobody uses it.
        unsafe {
            if !(*self.0).portalPinned && (*self.0).status == pg_sys::PortalStatus::PORTAL_READY {
                pg_sys::PortalDrop(self.0, false);
            }
        }
    }

    /// Calls `forget` with the cursor when the server drops it.
    pub fn on_drop(self, forget: fn(Cursor)) {
        // SAFETY: the callback lives in the memory whose end it waits for, and so does what it is given.
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
    // SAFETY: what `on_drop` registered, not freed yet.
    let dropped = unsafe { &*argument.cast::<Dropped>() };
    (dropped.forget)(dropped.cursor);
}
