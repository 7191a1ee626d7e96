//! Registers migrations.

use super::script;
use super::version::Version;
use crate::catalog::migrations::{self, Migration, NewMigration};
use crate::catalog::{Catalog, applied};
use crate::error::{Error, Result};

/// The same again is the same row; another text under a used version is a conflict. A script that does not parse is
/// refused here, not at the first tenant.
pub fn register(catalog: &Catalog, version: &str, name: &str, up: &str, down: Option<&str>) -> Result<Migration> {
    let version = Version::parse(version)?;
    script::statements(up)?;
    if let Some(down) = down {
        script::statements(down)?;
    }
    let checksum = script::checksum(up, down);
    let inserted = migrations::insert(
        catalog,
        NewMigration { version: &version.text, sort_key: &version.sort_key, name, up, down, checksum: &checksum },
    )?;
    if let Some(inserted) = inserted {
        return Ok(inserted);
    }
    match migrations::by_sort_key(catalog, &version.sort_key)? {
        Some(there) if there.version != version.text => Err(Error::conflict(
            format!("migration version \"{}\" is the same number as \"{}\"", version.text, there.version),
            "Write a version in one way only.",
        )),
        Some(there) if there.checksum != checksum => Err(Error::conflict(
            format!("migration version \"{}\" is registered with another text", version.text),
            "Register the change as a new version: tenants may have applied the old text.",
        )),
        Some(there) => Ok(there),
        None => Err(Error::internal("a migration that was there is gone")),
    }
}

/// What a tenant has applied stays: its ledger refers to it.
pub fn unregister(catalog: &Catalog, version: &str) -> Result<Migration> {
    let version = Version::parse(version)?;
    let migration = migrations::lock(catalog, &version.sort_key)?.ok_or(Error::NotFound { what: "migration" })?;
    let tenants = applied::tenants_with(catalog, &migration.version)?;
    if tenants > 0 {
        return Err(Error::conflict(
            format!("migration version \"{}\" is applied to {tenants} tenants", migration.version),
            "Register what is to be changed as a new version.",
        ));
    }
    migrations::delete(catalog, &migration.version)?;
    Ok(migration)
}
