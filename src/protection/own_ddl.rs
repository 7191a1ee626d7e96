//! The DDL that the extension itself runs.

use std::cell::Cell;

use crate::catalog::Catalog;
use crate::catalog::relations::LockedTable;
use crate::error::Result;
use crate::isolation::Pinned;
use crate::pg::execute;
use crate::pg::sql::Command;

thread_local! {
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Marks DDL as the extension's own while this value lives, so that the event triggers ignore it.
pub struct OwnDdl(bool);

impl OwnDdl {
    pub fn begin() -> Self {
        OwnDdl(BUSY.replace(true))
    }

    pub fn is_running() -> bool {
        BUSY.get()
    }
}

impl Drop for OwnDdl {
    fn drop(&mut self) {
        BUSY.set(self.0);
    }
}

/// Runs a command that names this table and no other table that another role owns.
pub fn execute_pinned(catalog: &Catalog, table: &LockedTable, command: &Command) -> Result<()> {
    let _pinned = Pinned::to(table);
    execute(catalog.scope(), command)
}
