//! Refuses commands that change the state of the session, such as its prepared statements, by code that runs as another
//! role than the session's: SECURITY DEFINER functions, and triggers in a foreign-key action. PostgreSQL refuses them in
//! its own security-restricted operations. Such code could otherwise make the session run its text later: the query of
//! a cursor WITH HOLD, for example, runs when the transaction commits, as the session's role.

use pgrx::pg_sys;

use crate::access::{self, owner_roles};
use crate::catalog::changes;
use crate::error::{Error, Result};
use crate::pg::roles;

/// Raises an error if the current role may not run the command.
///
/// # Safety
/// `command` must be a utility statement.
pub unsafe fn check(command: *mut pg_sys::Node) -> Result<()> {
    let role = roles::current();
    if role == roles::outer() || access::is_sandboxed() || roles::is_superuser(role) || !changes::is_installed() {
        return Ok(());
    }
    // SAFETY: guaranteed by the caller.
    match unsafe { refused(command, owner_roles::tenant_of_current(role).is_some()) } {
        None => Ok(()),
        Some(action) => Err(Error::forbidden(
            format!("{action} as another role than the session's"),
            "Run it in the session itself, or in a function that is not SECURITY DEFINER.",
        )),
    }
}

/// Returns what the command does, if it is refused. Code that runs as a tenant's owner role may do less, because it may
/// run in the session of another tenant's user.
///
/// # Safety
/// As for `check`.
unsafe fn refused(command: *mut pg_sys::Node, is_of_tenant: bool) -> Option<&'static str> {
    use pg_sys::NodeTag::*;
    // SAFETY: a node's tag determines its type.
    unsafe {
        match (*command).type_ {
            T_DeclareCursorStmt => {
                let options = (*command.cast::<pg_sys::DeclareCursorStmt>()).options as u32;
                (options & pg_sys::CURSOR_OPT_HOLD != 0).then_some("open a cursor WITH HOLD")
            }
            T_PrepareStmt => Some("prepare a statement"),
            T_DeallocateStmt => Some("deallocate prepared statements"),
            T_ListenStmt | T_UnlistenStmt if is_of_tenant => Some("change the channels that the session listens to"),
            T_DiscardStmt if is_of_tenant => Some("discard the state of the session"),
            T_ClosePortalStmt if is_of_tenant => Some("close cursors"),
            _ => None,
        }
    }
}
