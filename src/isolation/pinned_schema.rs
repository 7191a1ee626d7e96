//! Commands of the extension's own on tables of others. A command names its table, and whoever owns a schema may rename it at any
//! time, also while the command waits: the name must not come to mean a table in another schema.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::pg_sys;

use crate::catalog::relations::LockedTable;
use crate::error::{Error, Result};

/// A schema, and its name as commands write it.
#[derive(Clone, Copy)]
struct Schema {
    oid: pg_sys::Oid,
    name: pg_sys::NameData,
}

thread_local! {
    static PINNED: Cell<Option<Schema>> = const { Cell::new(None) };
}

/// While it lives, the name of a table's schema means that schema or nothing. The table's own name is held by the lock on it.
pub struct Pinned(Option<Schema>);

impl Pinned {
    pub fn to(table: &LockedTable) -> Self {
        Pinned(PINNED.replace(Some(Schema { oid: table.schema, name: table.schema_name })))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        PINNED.set(self.0);
    }
}

pub fn is_any() -> bool {
    PINNED.get().is_some()
}

/// Called as a schema that a statement names has been found, whose name is what the statement says.
pub fn permit(schema: pg_sys::Oid) -> Result<()> {
    let Some(pinned) = PINNED.get().filter(|pinned| pinned.oid != schema) else {
        return Ok(());
    };
    // SAFETY: a lookup by oid, null where there is none; both are C strings.
    let is_same_name = unsafe {
        let name = pg_sys::get_namespace_name(schema);
        !name.is_null() && CStr::from_ptr(name) == CStr::from_ptr(pinned.name.data.as_ptr())
    };
    if is_same_name {
        return Err(Error::conflict(
            "the schema of the table was renamed meanwhile",
            "Nothing was changed: try again.",
        ));
    }
    Ok(())
}
