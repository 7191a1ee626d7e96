//! Registers and unregisters migrations.

use pgrx::prelude::*;

use super::version::Version;
use super::{lock, script};
use crate::access::InstancePermit;
use crate::catalog::migrations::{self, Migration, NewMigration};
use crate::catalog::{Catalog, applied, tenants, unfinished};
use crate::error::{Error, Result};
use crate::pg::context;
use crate::pg::locks::with_lock_wait;

/// A migration to be registered.
pub struct Registration<'a> {
    pub version: &'a str,
    pub name: &'a str,
    pub up: &'a str,
    pub down: Option<&'a str>,
    /// The default is the registered value, or true for a new migration.
    pub transactional: Option<bool>,
}

/// What `register` did.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Added,
    /// The migration was registered already.
    Unchanged,
    /// The text of a repeatable migration was replaced.
    Changed,
}

impl Done {
    pub fn name(self) -> &'static str {
        match self {
            Done::Added => "added",
            Done::Unchanged => "unchanged",
            Done::Changed => "changed",
        }
    }
}

/// Registers a migration. Returns the existing row if it is registered already. If the version is registered with
/// another text, replaces a repeatable migration, and raises conflict for any other. Scripts are parsed here, so that a
/// syntax error is raised now and not at the first tenant.
pub fn register(catalog: &Catalog, _permit: &InstancePermit, new: &Registration) -> Result<(Migration, Done)> {
    let version = Version::parse(new.version)?;
    if version.is_repeatable() && new.down.is_some() {
        return Err(Error::invalid("a repeatable migration cannot have a down script", "Omit down."));
    }
    let label = format!("migration version \"{}\" ({})", version.text, new.name);
    let transactional = new.transactional.unwrap_or(true);
    context::at(&label, || script::statements(new.up, transactional))?;
    if let Some(down) = new.down {
        context::at(&format!("{label}, down"), || script::statements(down, transactional))?;
    }
    let checksum = script::checksum(new.up, new.down);
    let row = |transactional| NewMigration {
        version: &version.text,
        sort_key: &version.sort_key,
        name: new.name,
        up: new.up,
        down: new.down,
        transactional,
        repeatable: version.is_repeatable(),
        checksum: &checksum,
    };
    if let Some(inserted) = migrations::insert(catalog, row(transactional))? {
        return Ok((inserted, Done::Added));
    }
    let is_unchanged = |existing: &Migration| {
        existing.version == version.text
            && existing.checksum == checksum
            && new.transactional.is_none_or(|transactional| transactional == existing.transactional)
    };
    match migrations::by_sort_key(catalog, &version.sort_key)? {
        // The row is not locked if nothing changes: waiting for a lock on it could cause a deadlock, because the
        // transaction that holds the lock may be waiting for a tenant that this transaction has locked.
        Some(existing) if is_unchanged(&existing) => return Ok((existing, Done::Unchanged)),
        _ => {}
    }
    match migrations::lock_for_change(catalog, &version.sort_key)? {
        Some(existing) if is_unchanged(&existing) => Ok((existing, Done::Unchanged)),
        Some(existing) if existing.version != version.text => Err(Error::conflict(
            format!("migration version \"{}\" is the same number as \"{}\"", version.text, existing.version),
            "Write a version in one way only.",
        )),
        Some(existing) if existing.repeatable => {
            let replaced = migrations::replace(catalog, row(new.transactional.unwrap_or(existing.transactional)))?;
            let replaced = replaced.ok_or_else(|| Error::internal("registered migration no longer exists"))?;
            Ok((replaced, Done::Changed))
        }
        Some(existing) if existing.checksum == checksum => Err(Error::conflict(
            format!("migration version \"{}\" is registered with another value of transactional", version.text),
            "Remove it with tenant_migration_remove() first, if no tenant has applied it.",
        )),
        Some(_) => Err(Error::conflict(
            format!("migration version \"{}\" is registered with another text", version.text),
            "Register the change as a new version: tenants may have applied the old text.",
        )),
        None => Err(Error::internal("registered migration no longer exists")),
    }
}

/// Limit on the wait for transactions that have applied the migration and have not ended.
const LOCK_WAIT: &str = "2s";

pub fn being_applied(version: &str) -> Error {
    Error::conflict(
        format!("migration version \"{version}\" is being applied by transactions that have not ended"),
        "Try again later, or end these transactions. To find them, set lock_timeout, call the function again, and call \
         pg_blocking_pids() from another session while it waits.",
    )
}

pub fn refuse_applied(version: &str, tenants: i64) -> Result<()> {
    if tenants > 0 {
        return Err(Error::conflict(
            format!("migration version \"{version}\" is applied to {tenants} tenants"),
            "Register the change as a new version.",
        ));
    }
    Ok(())
}

/// Unregisters a migration. Raises conflict if a tenant has applied it, because the tenant's ledger refers to it.
pub fn unregister(catalog: &Catalog, _permit: &InstancePermit, version: &str) -> Result<Migration> {
    let version = Version::parse(version)?;
    let not_found = || Error::NotFound { what: "migration" };
    let locked = with_lock_wait(LOCK_WAIT, || migrations::lock(catalog, &version.sort_key))?;
    let migration = locked.ok_or_else(|| being_applied(&version.text))?.ok_or_else(not_found)?;
    // Checks what is committed now, whatever the isolation level: a transaction that applied the migration held a lock
    // on its row until it ended.
    refuse_applied(&migration.version, applied::tenants_with(&Catalog::latest()?, &migration.version)?)?;
    for id in unfinished::tenants_with(catalog, &migration.version)? {
        if let Some(tenant) = tenants::by_id(catalog, id)? {
            lock::take(&tenant)?;
        }
    }
    let unfinished = unfinished::forget(catalog, &migration.version)?;
    if unfinished > 0 {
        ereport!(
            WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!(
                "{unfinished} tenants keep the changes of the first statements of this migration: see tenant_drift()"
            )
        );
    }
    migrations::delete(catalog, &migration.version)?;
    Ok(migration)
}
