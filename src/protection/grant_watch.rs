//! Detects whether a migration may have granted privileges. Its grants are checked only then.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::pg::parse_tree::alter_table;

thread_local! {
    static SEEN: Cell<u32> = const { Cell::new(0) };
    static MAY_GRANT: Cell<bool> = const { Cell::new(false) };
}

/// Watches the commands that run while this value lives.
pub struct Watch(());

impl Watch {
    /// Starts watching.
    pub fn begin() -> Self {
        SEEN.set(0);
        MAY_GRANT.set(false);
        Watch(())
    }

    /// Reports whether one of the commands may have granted privileges. Returns false only if at least `commands`
    /// commands were seen, none of which grants privileges, creates objects or changes an owner. If another library's
    /// hook does not call ours, commands are not seen.
    pub fn may_have_granted(&self, commands: usize) -> bool {
        MAY_GRANT.get() || (SEEN.get() as usize) < commands
    }
}

/// Records a command. Called by the hook for every command, including those of functions and of the extension.
///
/// # Safety
/// `command` must be a utility statement.
pub unsafe fn note(command: *mut pg_sys::Node) {
    use pg_sys::NodeTag::*;
    SEEN.set(SEEN.get().saturating_add(1));
    // SAFETY: a node's tag determines its type.
    let harmless = unsafe {
        match (*command).type_ {
            T_AlterTableStmt => alter_table::is_harmless(command.cast()),
            T_IndexStmt | T_ConstraintsSetStmt | T_VariableSetStmt | T_CommentStmt | T_DropStmt => true,
            _ => false,
        }
    };
    if !harmless {
        MAY_GRANT.set(true);
    }
}
