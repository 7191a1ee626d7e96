//! Whether a migration may have granted something: only then are its grants looked for.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::pg::parse_tree::alter_table;

thread_local! {
    static SEEN: Cell<u32> = const { Cell::new(0) };
    static MAY_GRANT: Cell<bool> = const { Cell::new(false) };
}

/// Watches the commands that run while it lives, for one that may have granted something.
pub struct Watch(());

impl Watch {
    pub fn begin() -> Self {
        SEEN.set(0);
        MAY_GRANT.set(false);
        Watch(())
    }

    /// False only where at least so many commands were seen, and none of them makes, gives away or grants anything. A
    /// library that does not call our hook leaves them unseen.
    pub fn may_have_granted(&self, commands: usize) -> bool {
        MAY_GRANT.get() || (SEEN.get() as usize) < commands
    }
}

/// Called by the hook, for every command whoever runs it.
///
/// # Safety
/// A utility statement.
pub unsafe fn note(command: *mut pg_sys::Node) {
    use pg_sys::NodeTag::*;
    SEEN.set(SEEN.get().saturating_add(1));
    // SAFETY: the tag tells the node's type.
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
