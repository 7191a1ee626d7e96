//! The catalog: rows in, rows out. All SQL on the extension's own tables is in this folder, a file per table.
//! Nothing here asks whether the caller may; `access` has done so.

pub mod applied;
pub mod changes;
pub mod copying;
pub mod findings;
pub mod fingerprints;
pub mod fleet;
pub mod instance_admins;
pub mod members;
pub mod migrations;
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

use crate::error::Result;
use crate::pg::{Elevated, Snapshot};

/// The schema of the extension's own tables.
pub const SCHEMA: &CStr = c"fluxbase_tenant";

/// The right to run the extension's SQL, for the length of one function call.
pub struct Catalog(Elevated);

impl Catalog {
    /// For STABLE functions: sees what the calling statement sees.
    pub fn read() -> Result<Self> {
        Elevated::open(Snapshot::Active).map(Catalog)
    }

    /// For VOLATILE functions: sees what is committed, also after waiting for a lock.
    pub fn write() -> Result<Self> {
        Elevated::open(Snapshot::Transaction).map(Catalog)
    }

    /// For answers that are kept: sees what is committed now whatever the transaction's isolation level, as the server's
    /// own privilege checks do, and what this transaction did so far.
    pub fn latest() -> Result<Self> {
        Elevated::open(Snapshot::Latest).map(Catalog)
    }

    /// As `latest`, for what event triggers ask after each command.
    pub fn latest_after_command() -> Result<Self> {
        Elevated::open(Snapshot::Latest)?.with_plans_for_large_catalogs().map(Catalog)
    }

    pub fn caller_role(&self) -> pg_sys::Oid {
        self.0.caller()
    }

    pub fn scope(&self) -> &Elevated {
        &self.0
    }
}
