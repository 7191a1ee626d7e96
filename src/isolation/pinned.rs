//! Commands of the extension's own on tables of others. A command names its table, and whoever owns a schema may rename it at any
//! time, also while the command waits: the name must not come to mean a table in another schema.

use std::cell::Cell;

use pgrx::pg_sys;

use crate::catalog::Catalog;
use crate::catalog::relations::{self, LockedTable};
use crate::error::{Error, Result};
use crate::pg::execute as execute_by_name;

/// The schemas that the command may name: the table's, and the extension's own.
#[derive(Clone, Copy)]
struct Allowed {
    table: pg_sys::Oid,
    extension: pg_sys::Oid,
}

thread_local! {
    static ALLOWED: Cell<Option<Allowed>> = const { Cell::new(None) };
}

/// While it lives, names in other schemas are refused.
struct Pinned(Option<Allowed>);

impl Drop for Pinned {
    fn drop(&mut self) {
        ALLOWED.set(self.0);
    }
}

/// Runs a command that names this table and no other. Its own name is held by the lock on it.
pub fn execute(catalog: &Catalog, table: &LockedTable, command: &str) -> Result<()> {
    let allowed = Allowed { table: table.schema, extension: relations::extension_schema_oid(catalog)? };
    let _pinned = Pinned(ALLOWED.replace(Some(allowed)));
    execute_by_name(catalog.scope(), command)
}

/// Called as a schema that a statement names is looked up.
pub fn permit(schema: pg_sys::Oid) -> Result<()> {
    let Some(allowed) = ALLOWED.get() else {
        return Ok(());
    };
    // SAFETY: a lookup by C string; missing_ok.
    let catalog = unsafe { pg_sys::get_namespace_oid(c"fluxbase_tenant".as_ptr(), true) };
    let own = [allowed.table, allowed.extension, catalog, pg_sys::Oid::from(pg_sys::PG_CATALOG_NAMESPACE)];
    if own.contains(&schema) {
        return Ok(());
    }
    Err(Error::conflict("the schema of the table was renamed meanwhile", "Nothing was changed: try again."))
}
