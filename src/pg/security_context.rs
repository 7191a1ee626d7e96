//! As whom code runs, and how restricted: the server's user id and security context, kept and put back in one place.

use std::cell::Cell;

use pgrx::prelude::*;

use super::roles;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecurityContext {
    role: pg_sys::Oid,
    flags: i32,
}

thread_local! {
    /// The extension's own SQL, and who asked for it.
    static ELEVATED: Cell<Option<Elevation>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Elevation {
    own: SecurityContext,
    caller: SecurityContext,
}

// SAFETY: as the server declares it. pgrx's own declaration guards against errors, which costs more than the call where every
// query comes by; the function reads two variables of the backend and raises none.
unsafe extern "C" {
    fn GetUserIdAndSecContext(role: *mut pg_sys::Oid, flags: *mut i32);
}

impl SecurityContext {
    pub fn now() -> Self {
        let mut now = SecurityContext { role: pg_sys::InvalidOid, flags: 0 };
        // SAFETY: reads two variables of the backend.
        unsafe { GetUserIdAndSecContext(&mut now.role, &mut now.flags) };
        now
    }

    /// That of whoever asked for the extension's own SQL, where that is what runs.
    pub fn of_caller() -> Self {
        let now = SecurityContext::now();
        match ELEVATED.get() {
            Some(elevation) if elevation.own == now => elevation.caller,
            _ => now,
        }
    }

    /// The same for another role, who cannot leave it or do what would outlast it in the session.
    pub fn restricted_to(self, role: pg_sys::Oid) -> Self {
        let restrictions = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        SecurityContext { role, flags: self.flags | restrictions as i32 }
    }

    /// The same, and policies that are forced on a table's owner do not apply, as in the server's checks of foreign keys.
    pub fn with_policies_unforced(self) -> Self {
        SecurityContext { flags: self.flags | pg_sys::SECURITY_NOFORCE_RLS as i32, ..self }
    }

    pub fn with_policies_forced(self) -> Self {
        SecurityContext { flags: self.flags & !(pg_sys::SECURITY_NOFORCE_RLS as i32), ..self }
    }

    /// The bootstrap superuser, for the extension's own SQL; SET ROLE is refused.
    fn elevated(self) -> Self {
        let role = pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID);
        SecurityContext { role, flags: self.flags | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32 }
    }

    fn has(self, flag: u32) -> bool {
        self.flags & flag as i32 != 0
    }

    /// Code runs so from now on. Where it ends in another place than it begins; else see `enter`.
    pub fn set(self) {
        // SAFETY: the server puts back what it knows when a (sub)transaction aborts.
        unsafe { pg_sys::SetUserIdAndSecContext(self.role, self.flags) };
    }

    /// Code runs so until the guard drops.
    pub fn enter(self) -> SecurityGuard {
        let before = SecurityContext::now();
        self.set();
        SecurityGuard { before, elevation: ELEVATED.get() }
    }
}

/// While it lives, another security context is in force than before. After an error the end of the (sub)transaction puts it
/// back as well.
pub struct SecurityGuard {
    before: SecurityContext,
    elevation: Option<Elevation>,
}

impl Drop for SecurityGuard {
    fn drop(&mut self) {
        ELEVATED.set(self.elevation);
        self.before.set();
    }
}

/// Runs the extension's own SQL from now on, until the guard drops.
pub(super) fn elevate() -> SecurityGuard {
    let (own, caller) = (SecurityContext::now().elevated(), SecurityContext::of_caller());
    let guard = own.enter();
    ELEVATED.set(Some(Elevation { own, caller }));
    guard
}

/// The role whose privileges count, and where the extension's own SQL runs that of who asked for it.
pub fn calling_role() -> pg_sys::Oid {
    SecurityContext::of_caller().role
}

/// Whether maintenance runs code of somebody else than the session's role. A SECURITY DEFINER function counts, also one's own and in
/// maintenance of one's own table: others' code may have called it.
pub fn is_maintenance_of_others() -> bool {
    let context = SecurityContext::of_caller();
    context.has(pg_sys::SECURITY_RESTRICTED_OPERATION)
        && (context.role != roles::outer() || context.has(pg_sys::SECURITY_LOCAL_USERID_CHANGE))
}

/// Whether somebody's SECURITY DEFINER function or the like runs within maintenance, such as ANALYZE, which runs the functions of a
/// table as its owner, whoever gave the command.
pub fn is_called_in_maintenance() -> bool {
    let context = SecurityContext::of_caller();
    context.has(pg_sys::SECURITY_RESTRICTED_OPERATION) && context.has(pg_sys::SECURITY_LOCAL_USERID_CHANGE)
}
