//! Temporary objects: found first by name, whoever made them, until the session ends. Code of others must leave none.

use pgrx::prelude::*;

use super::dependencies;
use crate::error::{Error, Result};

/// The objects in the session's temporary schema when it was made.
pub struct Temporary(Vec<(pg_sys::Oid, pg_sys::Oid)>);

impl Temporary {
    pub fn now() -> Result<Self> {
        let schema = schema();
        if schema == pg_sys::InvalidOid {
            return Ok(Temporary(Vec::new()));
        }
        // Types of rows and the like hang on those.
        dependencies::what_is_in_schema(schema).map(Temporary)
    }

    /// Where there are others now.
    pub fn refuse_new(&self) -> Result<()> {
        if Temporary::now()?.0.iter().all(|object| self.0.contains(object)) {
            return Ok(());
        }
        Err(Error::forbidden(
            "leave temporary objects in the session",
            "They would be found in place of others of their name: create them in the schema, or drop them in the end.",
        ))
    }
}

/// For sessions of the extension's own, in a transaction.
pub fn drop_all() {
    // SAFETY: as DISCARD TEMP.
    unsafe { pg_sys::ResetTempTableNamespace() };
}

/// Whether the session may have any.
pub fn are_there() -> bool {
    schema() != pg_sys::InvalidOid
}

fn schema() -> pg_sys::Oid {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: reads two variables of the backend into locals.
    unsafe { pg_sys::GetTempNamespaceState(&mut schema, &mut toast) };
    schema
}
