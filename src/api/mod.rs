//! The SQL functions, in a file per table of the reference. Each function converts its arguments, authorizes the
//! caller, calls one of the modules below, and returns the result.

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

/// The result of an SQL function. pgrx raises the report unchanged. It recognizes the type only by the name `Result`.
type Result<T> = std::result::Result<T, ErrorReport>;

/// Converts an error into the report that PostgreSQL raises.
fn answer<T>(run: impl FnOnce() -> error::Result<T>) -> Result<T> {
    run().map_err(ErrorReport::from)
}

/// Returns the value of an argument. Raises invalid_argument if it is NULL.
fn required<T>(argument: &str, value: Option<T>) -> error::Result<T> {
    value.ok_or_else(|| Error::null_argument(argument))
}
