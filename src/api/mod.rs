//! The SQL surface: functions alone, a file per table of the reference. Each converts, authorizes, calls, returns.

mod drift;
mod fleet;
mod instance_admins;
mod internal;
mod isolation;
mod members;
mod migration_files;
mod migrations;
mod relation_type;
mod rows;
mod session;
mod tenants;
mod tenants_lifecycle;

use pgrx::pg_sys::panic::ErrorReport;

use crate::error::{self, Error};

/// What an extern returns: pgrx raises the report as it is, and knows the type by this name alone.
type Result<T> = std::result::Result<T, ErrorReport>;

fn answer<T>(run: impl FnOnce() -> error::Result<T>) -> Result<T> {
    run().map_err(ErrorReport::from)
}

/// An argument that has no default to stand in for NULL.
fn required<T>(argument: &str, value: Option<T>) -> error::Result<T> {
    value.ok_or_else(|| Error::null_argument(argument))
}
