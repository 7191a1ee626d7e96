//! Temporary objects. Until the session ends, they are found before other objects of the same name, whichever role has
//! created them. So untrusted code must not leave any behind.

use pgrx::prelude::*;

use super::dependencies;
use crate::error::{Error, Result};

/// The objects that were in the session's temporary schema when this value was created.
pub struct Temporary(Vec<(pg_sys::Oid, pg_sys::Oid)>);

impl Temporary {
    pub fn now() -> Result<Self> {
        let schema = schema();
        if schema == pg_sys::InvalidOid {
            return Ok(Temporary(Vec::new()));
        }
        // Row types and the like are parts of these objects.
        dependencies::objects_in_schema(schema).map(Temporary)
    }

    /// Raises forbidden if the temporary schema now contains other objects.
    pub fn refuse_new(&self) -> Result<()> {
        if Temporary::now()?.0.iter().all(|object| self.0.contains(object)) {
            return Ok(());
        }
        Err(Error::forbidden(
            "leave temporary objects in the session",
            "They would hide other objects of the same name. Create permanent ones instead, or drop them at the end.",
        ))
    }
}

/// Drops the session's temporary objects. Only for the extension's background workers, in a transaction.
pub fn drop_all() {
    // SAFETY: as DISCARD TEMP does.
    unsafe { pg_sys::ResetTempTableNamespace() };
}

/// Reports whether the session may have temporary objects.
pub fn may_exist() -> bool {
    schema() != pg_sys::InvalidOid
}

fn schema() -> pg_sys::Oid {
    let (mut schema, mut toast) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: reads two backend-local variables into locals.
    unsafe { pg_sys::GetTempNamespaceState(&mut schema, &mut toast) };
    schema
}
