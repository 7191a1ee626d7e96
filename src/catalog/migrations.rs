//! Table `migrations`: the registered migrations.

use pgrx::Uuid;
use pgrx::datum::{DatumWithOid, TimestampWithTimeZone};

use super::Catalog;
use crate::error::{Error, Result};
use crate::pg::{Row, query};

pub struct Migration {
    pub version: String,
    pub name: String,
    pub up: String,
    pub down: Option<String>,
    pub transactional: bool,
    pub repeatable: bool,
    pub checksum: String,
    pub created_at: TimestampWithTimeZone,
}

pub struct NewMigration<'a> {
    pub version: &'a str,
    pub sort_key: &'a str,
    pub name: &'a str,
    pub up: &'a str,
    pub down: Option<&'a str>,
    pub transactional: bool,
    pub repeatable: bool,
    pub checksum: &'a str,
}

macro_rules! columns {
    () => {
        "m.version, m.name, m.up, m.down, m.transactional, m.repeatable, m.checksum, m.created_at"
    };
}

fn migration(row: &Row) -> Result<Migration> {
    Ok(Migration {
        version: row.need(1)?,
        name: row.need(2)?,
        up: row.need(3)?,
        down: row.get(4),
        transactional: row.need(5)?,
        repeatable: row.need(6)?,
        checksum: row.need(7)?,
        created_at: row.need(8)?,
    })
}

/// A registered migration without its scripts.
pub struct Registered {
    pub version: String,
    pub sort_key: String,
    pub name: String,
    pub repeatable: bool,
}

/// Returns all registered migrations without their scripts, in the order of versions.
pub fn registered(catalog: &Catalog) -> Result<Vec<Registered>> {
    query(
        catalog.scope(),
        "SELECT version, sort_key, name, repeatable FROM fluxbase_tenant.migrations ORDER BY sort_key",
        &[],
        |row| {
            Ok(Registered {
                version: row.need(1)?,
                sort_key: row.need(2)?,
                name: row.need(3)?,
                repeatable: row.need(4)?,
            })
        },
    )
}

/// Returns all registered migrations, in the order of versions.
pub fn list(catalog: &Catalog) -> Result<Vec<Migration>> {
    query(
        catalog.scope(),
        concat!("SELECT ", columns!(), " FROM fluxbase_tenant.migrations m ORDER BY m.sort_key"),
        &[],
        migration,
    )
}

/// Returns the migration with the sort key. Versions that differ only in spelling, such as `7` and `007`, have the same
/// one.
pub fn by_sort_key(catalog: &Catalog, sort_key: &str) -> Result<Option<Migration>> {
    query(
        catalog.scope(),
        concat!("SELECT ", columns!(), " FROM fluxbase_tenant.migrations m WHERE m.sort_key = $1"),
        &[sort_key.into()],
        migration,
    )
    .map(|rows| rows.into_iter().next())
}

/// Returns the migration with the sort key, and locks its row against changes by other transactions. Transactions that
/// apply the migration do not wait.
pub fn lock_for_change(catalog: &Catalog, sort_key: &str) -> Result<Option<Migration>> {
    query(
        catalog.scope(),
        concat!("SELECT ", columns!(), " FROM fluxbase_tenant.migrations m WHERE m.sort_key = $1 FOR NO KEY UPDATE"),
        &[sort_key.into()],
        migration,
    )
    .map(|rows| rows.into_iter().next())
}

/// Returns the migration with the sort key, and locks its row exclusively: waits for transactions that apply the
/// migration, and blocks new ones.
pub fn lock(catalog: &Catalog, sort_key: &str) -> Result<Option<Migration>> {
    query(
        catalog.scope(),
        concat!("SELECT ", columns!(), " FROM fluxbase_tenant.migrations m WHERE m.sort_key = $1 FOR UPDATE"),
        &[sort_key.into()],
        migration,
    )
    .map(|rows| rows.into_iter().next())
}

pub fn delete(catalog: &Catalog, version: &str) -> Result<()> {
    query(catalog.scope(), "DELETE FROM fluxbase_tenant.migrations WHERE version = $1", &[version.into()], |_| Ok(()))?;
    Ok(())
}

/// Returns the error for a migration that another transaction removed while it was being applied.
pub(super) fn removed(version: &str) -> Error {
    Error::conflict(
        format!("migration version \"{version}\" was removed concurrently"),
        "Call the function again. tenant_migration_list() shows which migrations are registered.",
    )
}

/// Registers a migration. Returns `None` if the version already exists, including if a transaction that this one waited
/// for has inserted it.
pub fn insert(catalog: &Catalog, new: NewMigration) -> Result<Option<Migration>> {
    query(
        catalog.scope(),
        concat!(
            "INSERT INTO fluxbase_tenant.migrations AS m
                 (version, sort_key, name, up, down, transactional, repeatable, checksum)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING ",
            columns!()
        ),
        &new.arguments(),
        migration,
    )
    .map(|rows| rows.into_iter().next())
}

/// Replaces the script of a repeatable migration. Returns `None` if the version is not registered as a repeatable
/// migration.
pub fn replace(catalog: &Catalog, new: NewMigration) -> Result<Option<Migration>> {
    query(
        catalog.scope(),
        concat!(
            "UPDATE fluxbase_tenant.migrations m SET name = $3, up = $4, down = $5, transactional = $6, checksum = $8,
                 revision = revision + (checksum <> $8)::int
             WHERE version = $1 AND sort_key = $2 AND repeatable AND $7 RETURNING ",
            columns!()
        ),
        &new.arguments(),
        migration,
    )
    .map(|rows| rows.into_iter().next())
}

impl NewMigration<'_> {
    fn arguments(&self) -> [DatumWithOid<'_>; 8] {
        [
            self.version.into(),
            self.sort_key.into(),
            self.name.into(),
            self.up.into(),
            self.down.into(),
            self.transactional.into(),
            self.repeatable.into(),
            self.checksum.into(),
        ]
    }
}

/// Returns the migrations that a tenant has not applied, in the order of versions. If the sort key `up_to` is set,
/// returns only those up to and including it.
pub fn pending(catalog: &Catalog, tenant: Uuid, up_to: Option<&str>) -> Result<Vec<Migration>> {
    query(
        catalog.scope(),
        concat!(
            "SELECT ",
            columns!(),
            " FROM fluxbase_tenant.migrations m WHERE ($2 IS NULL OR m.sort_key <= $2) AND NOT EXISTS (
                 SELECT 1 FROM fluxbase_tenant.applied_migrations a WHERE a.tenant_id = $1 AND a.version = m.version
                 AND (a.checksum = m.checksum OR NOT m.repeatable))
             ORDER BY m.sort_key"
        ),
        &[tenant.into(), up_to.into()],
        migration,
    )
}

/// Returns the migrations that a tenant has applied, in the order of versions. If the sort key `after` is set, returns
/// only those after it.
pub fn applied(catalog: &Catalog, tenant: Uuid, after: Option<&str>) -> Result<Vec<Migration>> {
    query(
        catalog.scope(),
        concat!(
            "SELECT ",
            columns!(),
            " FROM fluxbase_tenant.migrations m JOIN fluxbase_tenant.applied_migrations a ON a.version = m.version
             WHERE a.tenant_id = $1 AND ($2 IS NULL OR m.sort_key > $2) ORDER BY m.sort_key"
        ),
        &[tenant.into(), after.into()],
        migration,
    )
}
