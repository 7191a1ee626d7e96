//! Loads migration files from a directory on the server: plain SQL files, or those of golang-migrate, Flyway, dbmate or
//! goose.

mod assemble;
mod directory;
mod names;
mod order;

use super::register::{self, Done, Registration};
use crate::access::InstancePermit;
use crate::catalog::Catalog;
use crate::error::Result;
use crate::pg::context;

/// The result of loading one migration.
pub struct Loaded {
    pub version: String,
    pub name: String,
    pub file: String,
    pub done: Done,
}

/// Registers the migrations in a directory, in the order of versions. An error rolls back all of them.
pub fn load(catalog: &Catalog, permit: &InstancePermit, directory: &str) -> Result<Vec<Loaded>> {
    let migrations = assemble::migrations(directory::read(directory)?)?;
    order::check(catalog, &migrations)?;
    migrations.into_iter().map(|migration| register(catalog, permit, migration)).collect()
}

fn register(catalog: &Catalog, permit: &InstancePermit, migration: assemble::Migration) -> Result<Loaded> {
    let new = Registration {
        version: &migration.version.text,
        name: &migration.name,
        up: &migration.sections.up,
        down: migration.sections.down.as_deref(),
        transactional: migration.sections.transactional,
    };
    let (row, done) = in_file(&migration.file, || register::register(catalog, permit, &new))?;
    Ok(Loaded { version: row.version, name: row.name, file: migration.file, done })
}

/// Adds the file's name to errors that `run` returns or raises.
fn in_file<T>(file: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    let place = format!("file \"{file}\"");
    context::at(&place, run).map_err(|error| error.at(&place))
}
