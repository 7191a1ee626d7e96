//! Commands of the extension's own on tables of others. A command names its table, and whoever owns a schema may rename it at any
//! time, also while the command waits: the name must not come to mean a table in another schema.

use std::cell::RefCell;
use std::ffi::CString;

use pgrx::pg_sys;

use crate::catalog::relations::LockedTable;
use crate::error::{Error, Result};
use crate::pg::catalogs;

/// A schema, and its name as commands write it.
struct Schema {
    oid: pg_sys::Oid,
    name: CString,
}

thread_local! {
    static PINNED: RefCell<Option<Schema>> = const { RefCell::new(None) };
}

/// While it lives, the name of a table's schema means that schema or nothing. The table's own name is held by the lock on it.
pub struct Pinned(Option<Schema>);

impl Pinned {
    pub fn to(table: &LockedTable) -> Self {
        Pinned(PINNED.replace(Some(Schema { oid: table.schema, name: table.schema_name.clone() })))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        PINNED.set(self.0.take());
    }
}

pub fn is_any() -> bool {
    PINNED.with_borrow(Option::is_some)
}

/// Called as a schema that a statement names has been found, whose name is what the statement says.
pub fn permit(schema: pg_sys::Oid) -> Result<()> {
    let is_another = PINNED.with_borrow(|pinned| pinned.as_ref().is_some_and(|pinned| pinned.oid != schema));
    if !is_another {
        return Ok(());
    }
    let name = catalogs::schema_name(schema);
    if name.is_some()
        && PINNED.with_borrow(|pinned| pinned.as_ref().is_some_and(|pinned| name.as_ref() == Some(&pinned.name)))
    {
        return Err(Error::conflict(
            "the schema of the table was renamed meanwhile",
            "Nothing was changed: try again.",
        ));
    }
    Ok(())
}
