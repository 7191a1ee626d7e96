//! Registers migrations from files on the server.

use pgrx::prelude::*;

use super::{Result, answer, required};
use crate::access::{authorize_instance, require_server_files};
use crate::catalog::Catalog;
use crate::migrations::{self, Loaded};

const ACTION: &str = "load migration files from the server";

/// Registers the migrations in a directory, in the caller's transaction.
#[pg_extern(sql = false)]
fn tenant_migrations_load(
    directory: Option<String>,
) -> Result<
    TableIterator<'static, (name!(version, String), name!(name, String), name!(file, String), name!(status, String))>,
> {
    let loaded = answer(|| {
        let catalog = Catalog::write()?;
        let permit = authorize_instance(&catalog, ACTION)?;
        require_server_files(&catalog, ACTION)?;
        migrations::load(&catalog, &permit, &required("directory", directory)?)
    })?;
    Ok(TableIterator::new(loaded.into_iter().map(|l: Loaded| (l.version, l.name, l.file, l.done.name().to_string()))))
}
