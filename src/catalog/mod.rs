//! All SQL on the catalog, the extension's own tables, with one file for each subject. The functions here read and
//! write rows. They do not check whether the caller is authorized: `access` has done that.

pub mod applied;
pub mod changes;
pub mod copying;
pub mod findings;
pub mod fingerprints;
pub mod fleet;
pub mod instance_admins;
pub mod members;
pub mod migrations;
pub mod owned_objects;
pub mod relations;
pub mod removals;
pub mod schemas;
pub mod shared_tables;
pub mod spares;
pub mod standings;
pub mod taken;
pub mod tenants;
pub mod unfinished;
pub mod versions;

use std::ffi::CStr;

use pgrx::pg_sys;

use crate::error::{Error, Result};
use crate::pg::{Elevated, Snapshot, backend};

/// The extension's name.
pub const EXTENSION: &CStr = c"fluxbase_tenant";
/// The schema of the catalog.
pub const SCHEMA: &CStr = c"fluxbase_tenant";

/// A scope in which the extension runs its own SQL with its own privileges. It lasts no longer than one function call.
pub struct Catalog(Elevated);

impl Catalog {
    /// Opens a scope for STABLE functions. Its queries see what the calling statement sees.
    pub fn read() -> Result<Self> {
        open(Snapshot::Active).map(Catalog)
    }

    /// Opens a scope for VOLATILE functions. Each query takes its snapshot as a statement of the transaction would, so
    /// in a READ COMMITTED transaction it also sees what was committed while an earlier query waited for a lock.
    /// Raises an error in a transaction that cannot write.
    pub fn write() -> Result<Self> {
        require_writable()?;
        open(Snapshot::Transaction).map(Catalog)
    }

    /// Opens a read-only scope for answers that are cached. At every isolation level, its queries see what is committed
    /// now and what this transaction has done so far, as PostgreSQL's own privilege checks do.
    pub fn latest() -> Result<Self> {
        open(Snapshot::Latest).map(Catalog)
    }

    /// Opens a scope as `latest` does, for the queries on system catalogs that event triggers run after each command.
    /// Their cached plans must suit large catalogs.
    pub fn latest_after_command() -> Result<Self> {
        open(Snapshot::Latest)?.with_plans_for_large_catalogs().map(Catalog)
    }

    /// Returns the role that called the function.
    pub fn caller_role(&self) -> pg_sys::Oid {
        self.0.caller()
    }

    pub fn scope(&self) -> &Elevated {
        &self.0
    }
}

/// Raises an error in a transaction that cannot write: on a standby, or in one that is declared READ ONLY.
pub fn require_writable() -> Result<()> {
    backend::why_read_only().map_or(Ok(()), |reason| Err(Error::ReadOnly { reason }))
}

/// Opens a scope with the extension's privileges. Raises an error in a database without the extension, where another
/// role could have created tables with the catalog's names.
fn open(snapshot: Snapshot) -> Result<Elevated> {
    if !changes::is_installed() {
        return Err(Error::internal("extension fluxbase_tenant is not installed in this database"));
    }
    Elevated::open(snapshot)
}
