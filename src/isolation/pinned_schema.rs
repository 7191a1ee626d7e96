//! Guards the commands that the extension runs on other roles' tables. A command names its table, but the owner of a
//! schema may rename the schema at any time, even while the command waits for a lock. The name must not end up
//! referring to a table in another schema.

use std::cell::RefCell;
use std::ffi::CString;

use pgrx::pg_sys;

use crate::catalog::relations::LockedTable;
use crate::error::{Error, Result};
use crate::pg::catalogs;

/// A schema, and its name as commands use it.
struct Schema {
    oid: pg_sys::Oid,
    name: CString,
}

thread_local! {
    static PINNED: RefCell<Option<Schema>> = const { RefCell::new(None) };
}

/// While this value lives, the name of the table's schema means that schema, or its use is an error. The caller holds a
/// lock on the table, which keeps the table's own name from changing.
pub struct Pinned(Option<Schema>);

impl Pinned {
    /// Pins the schema of this table.
    pub fn to(table: &LockedTable) -> Self {
        Pinned(PINNED.replace(Some(Schema { oid: table.schema, name: table.schema_name.clone() })))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        PINNED.set(self.0.take());
    }
}

/// Reports whether a schema is pinned.
pub fn any_pinned() -> bool {
    PINNED.with_borrow(Option::is_some)
}

/// Raises an error if another schema now has the pinned schema's name. Called when PostgreSQL has resolved the name of
/// a schema in a statement.
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
            "the schema of the table was renamed concurrently",
            "Nothing was changed. Try again.",
        ));
    }
    Ok(())
}
