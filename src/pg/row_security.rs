//! The setting row_security while a superuser's command runs code of other roles.

use pgrx::pg_sys;

/// Sets row_security to on until it is dropped.
pub struct Enforced(bool);

impl Enforced {
    /// If the current role is a superuser, sets row_security to on while it runs the command. Superusers bypass
    /// policies, so the setting only affects code that the command runs as another role, such as the functions of a
    /// tenant's indexes. pg_restore sets row_security to off, with which such code would fail.
    ///
    /// # Safety
    /// `command` must be a utility statement.
    pub unsafe fn during(command: *mut pg_sys::Node) -> Option<Enforced> {
        use pg_sys::NodeTag::*;
        // SAFETY: guaranteed by the caller. A node's tag determines its type.
        let runs_code_of_others = unsafe {
            match (*command).type_ {
                T_RefreshMatViewStmt | T_CreateTableAsStmt | T_IndexStmt | T_ReindexStmt | T_ClusterStmt
                | T_VacuumStmt | T_AlterTableStmt => true,
                T_CopyStmt => (*command.cast::<pg_sys::CopyStmt>()).is_from,
                _ => false,
            }
        };
        // SAFETY: the backend has a current role.
        if !runs_code_of_others || !unsafe { pg_sys::superuser() } {
            return None;
        }
        // Set without GUC nesting, because some of these commands commit, which would end it.
        // SAFETY: a backend-local variable.
        let before = unsafe { pg_sys::row_security };
        // SAFETY: as above.
        unsafe { pg_sys::row_security = true };
        Some(Enforced(before))
    }
}

impl Drop for Enforced {
    fn drop(&mut self) {
        // SAFETY: a backend-local variable.
        unsafe { pg_sys::row_security = self.0 };
    }
}
