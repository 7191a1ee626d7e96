//! The role that code runs as, and its restrictions: PostgreSQL's user id and security context, which only this module
//! saves and restores.

use std::cell::Cell;

use pgrx::prelude::*;

use super::roles;

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecurityContext {
    role: pg_sys::Oid,
    flags: i32,
}

thread_local! {
    /// While the extension's own SQL runs: its security context and the one of its caller.
    static ELEVATED: Cell<Option<Elevation>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Elevation {
    own: SecurityContext,
    caller: SecurityContext,
}

// SAFETY: matches PostgreSQL's declaration. pgrx's declaration adds a guard against errors, which costs more than the
// call itself and which every query would pay for. The function only reads two backend-local variables and raises no
// error.
unsafe extern "C" {
    fn GetUserIdAndSecContext(role: *mut pg_sys::Oid, flags: *mut i32);
}

impl SecurityContext {
    /// Returns the security context in force.
    pub fn now() -> Self {
        let mut now = SecurityContext { role: pg_sys::InvalidOid, flags: 0 };
        // SAFETY: reads two backend-local variables.
        unsafe { GetUserIdAndSecContext(&mut now.role, &mut now.flags) };
        now
    }

    /// Returns the context of the extension's caller while the extension's own SQL runs, otherwise the context in
    /// force.
    pub fn of_caller() -> Self {
        let now = SecurityContext::now();
        match ELEVATED.get() {
            Some(elevation) if elevation.own == now => elevation.caller,
            _ => now,
        }
    }

    /// Returns this context for another role, as a security-restricted operation: code cannot change the role, or leave
    /// any state in the session.
    pub fn restricted_to(self, role: pg_sys::Oid) -> Self {
        let restrictions = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        SecurityContext { role, flags: self.flags | restrictions as i32 }
    }

    /// Returns this context with FORCE ROW LEVEL SECURITY ignored, as in PostgreSQL's foreign-key checks.
    pub fn with_policies_unforced(self) -> Self {
        SecurityContext { flags: self.flags | pg_sys::SECURITY_NOFORCE_RLS as i32, ..self }
    }

    /// Returns this context with FORCE ROW LEVEL SECURITY respected.
    pub fn with_policies_forced(self) -> Self {
        SecurityContext { flags: self.flags & !(pg_sys::SECURITY_NOFORCE_RLS as i32), ..self }
    }

    /// Returns this context as the bootstrap superuser, for the extension's own SQL. SET ROLE is refused in it.
    fn elevated(self) -> Self {
        let role = pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID);
        SecurityContext { role, flags: self.flags | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32 }
    }

    fn has(self, flag: u32) -> bool {
        self.flags & flag as i32 != 0
    }

    /// Puts the context in force until another one is set. For callers that begin and end it in different places. All
    /// other callers use `enter`.
    pub fn set(self) {
        // SAFETY: a (sub)transaction that aborts restores the context with which it began.
        unsafe { pg_sys::SetUserIdAndSecContext(self.role, self.flags) };
    }

    /// Puts the context in force until the guard drops.
    pub fn enter(self) -> SecurityGuard {
        let before = SecurityContext::now();
        self.set();
        SecurityGuard { before, elevation: ELEVATED.get() }
    }
}

/// Restores the previous security context when it drops. After an error, the end of the (sub)transaction restores it as
/// well.
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

/// Switches to the bootstrap superuser for the extension's own SQL, until the guard drops.
pub(super) fn elevate() -> SecurityGuard {
    let (own, caller) = (SecurityContext::now().elevated(), SecurityContext::of_caller());
    let guard = own.enter();
    ELEVATED.set(Some(Elevation { own, caller }));
    guard
}

/// Returns the role of the extension's caller while the extension's own SQL runs, otherwise the current role.
pub fn calling_role() -> pg_sys::Oid {
    SecurityContext::of_caller().role
}

/// Reports whether maintenance is running code as another role than the session's. A SECURITY DEFINER function in
/// maintenance always counts, even if the session's role owns both the function and the table: another role's code may
/// have called the function.
pub fn is_maintenance_of_others() -> bool {
    let context = SecurityContext::of_caller();
    context.has(pg_sys::SECURITY_RESTRICTED_OPERATION)
        && (context.role != roles::outer() || context.has(pg_sys::SECURITY_LOCAL_USERID_CHANGE))
}

/// Reports whether a SECURITY DEFINER function, a foreign-key action or a sandbox is running inside maintenance, also
/// where that runs it as the session's own role. Maintenance such as ANALYZE runs the functions of a table as the
/// table's owner, whichever role issued the command.
pub fn is_called_in_maintenance() -> bool {
    let context = SecurityContext::of_caller();
    context.has(pg_sys::SECURITY_RESTRICTED_OPERATION) && context.has(pg_sys::SECURITY_LOCAL_USERID_CHANGE)
}
