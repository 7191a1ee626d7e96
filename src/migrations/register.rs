//! Registers migrations.

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
    /// `None`: as it is registered, or else inside a transaction.
    pub transactional: Option<bool>,
}

/// What registering did.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Added,
    /// It was there.
    Unchanged,
    /// A repeatable migration got another text.
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

/// The same again is the same row; another text under a used version is a conflict, or replaces a repeatable one. A script
/// that does not parse is refused here, not at the first tenant.
pub fn register(catalog: &Catalog, _permit: &InstancePermit, new: &Registration) -> Result<(Migration, Done)> {
    let version = Version::parse(new.version)?;
    if version.is_repeatable() && new.down.is_some() {
        return Err(Error::invalid("a repeatable migration has no down script", "Leave out down."));
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
    let is_unchanged = |there: &Migration| {
        there.version == version.text
            && there.checksum == checksum
            && new.transactional.is_none_or(|says| says == there.transactional)
    };
    match migrations::by_sort_key(catalog, &version.sort_key)? {
        // Without a lock: who applies it may be waiting for a tenant, as we may be for another version's sake.
        Some(there) if is_unchanged(&there) => return Ok((there, Done::Unchanged)),
        _ => {}
    }
    match migrations::lock_for_change(catalog, &version.sort_key)? {
        Some(there) if is_unchanged(&there) => Ok((there, Done::Unchanged)),
        Some(there) if there.version != version.text => Err(Error::conflict(
            format!("migration version \"{}\" is the same number as \"{}\"", version.text, there.version),
            "Write a version in one way only.",
        )),
        Some(there) if there.repeatable => {
            let replaced = migrations::replace(catalog, row(new.transactional.unwrap_or(there.transactional)))?;
            let replaced = replaced.ok_or_else(|| Error::internal("a migration that was there is gone"))?;
            Ok((replaced, Done::Changed))
        }
        Some(there) if there.checksum == checksum => Err(Error::conflict(
            format!("migration version \"{}\" is registered to run in another way", version.text),
            "Remove it with tenant_migration_remove() first, if no tenant has applied it.",
        )),
        Some(_) => Err(Error::conflict(
            format!("migration version \"{}\" is registered with another text", version.text),
            "Register the change as a new version: tenants may have applied the old text.",
        )),
        None => Err(Error::internal("a migration that was there is gone")),
    }
}

/// With transactions that have applied it and not ended.
const LOCK_WAIT: &str = "2s";

pub fn being_applied(version: &str) -> Error {
    Error::conflict(
        format!("migration version \"{version}\" is being applied by transactions that have not ended"),
        "Try again later, or end them: pg_blocking_pids() tells which they are while another call waits with lock_timeout set.",
    )
}

pub fn refuse_applied(version: &str, tenants: i64) -> Result<()> {
    if tenants > 0 {
        return Err(Error::conflict(
            format!("migration version \"{version}\" is applied to {tenants} tenants"),
            "Register what is to be changed as a new version.",
        ));
    }
    Ok(())
}

/// What a tenant has applied stays: its ledger refers to it.
pub fn unregister(catalog: &Catalog, _permit: &InstancePermit, version: &str) -> Result<Migration> {
    let version = Version::parse(version)?;
    let there = || Error::NotFound { what: "migration" };
    let locked = with_lock_wait(LOCK_WAIT, || migrations::lock(catalog, &version.sort_key))?;
    let migration = locked.ok_or_else(|| being_applied(&version.text))?.ok_or_else(there)?;
    // By what is committed now, at every isolation level: whoever applied it held the migration.
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
            format!("{unfinished} tenants keep what the first statements of this migration did: see tenant_drift()")
        );
    }
    migrations::delete(catalog, &migration.version)?;
    Ok(migration)
}
