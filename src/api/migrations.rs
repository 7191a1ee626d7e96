//! Migrations of tenant schemas: registers and lists them, and applies them to one tenant.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use super::{Result, answer, required};
use crate::access::{authorize, authorize_instance};
use crate::catalog::migrations::Migration;
use crate::catalog::{self, Catalog, applied};
use crate::migrations::{self, Registration, Sections};
use crate::{fleet, tenants};

macro_rules! returns_migrations {
    ($($(#[$meta:meta])* fn $name:ident($($args:tt)*) $body:block)+) => {$(
        $(#[$meta])*
        fn $name($($args)*) -> Result<
            TableIterator<'static, (
                name!(version, String),
                name!(name, String),
                name!(up, String),
                name!(down, Option<String>),
                name!(transactional, bool),
                name!(repeatable, bool),
                name!(checksum, String),
                name!(created_at, TimestampWithTimeZone),
            )>,
        > {
            let migrations = answer(|| $body)?;
            Ok(TableIterator::new(Vec::from_iter(migrations).into_iter().map(
                |m: Migration| {
                    (m.version, m.name, m.up, m.down, m.transactional, m.repeatable, m.checksum, m.created_at)
                },
            )))
        }
    )+};
}

returns_migrations! {
    /// Registers a migration. Does nothing if the same migration is registered already.
    #[pg_extern(sql = false)]
    fn tenant_migration_add(
        version: Option<String>,
        name: Option<String>,
        up: Option<String>,
        down: Option<String>,
        transactional: Option<bool>
    ) {
        let catalog = Catalog::write()?;
        let permit = authorize_instance(&catalog, "register a migration")?;
        let (version, name, up) = (required("version", version)?, required("name", name)?, required("up", up)?);
        let sections = Sections::of(&up, down.as_deref(), transactional)?;
        migrations::register(&catalog, &permit, &Registration {
            version: &version,
            name: &name,
            up: &sections.up,
            down: sections.down.as_deref(),
            transactional: Some(sections.transactional.unwrap_or(true)),
        })
        .map(|(migration, _)| Some(migration))
    }

    /// Unregisters a migration that no tenant has applied.
    #[pg_extern(sql = false)]
    fn tenant_migration_remove(version: Option<String>) {
        let catalog = Catalog::write()?;
        let permit = authorize_instance(&catalog, "remove a migration")?;
        let removed = tenants::unregister_migration(&catalog, &permit, &required("version", version)?)?;
        fleet::remove_after_commit(&catalog)?;
        Ok(Some(removed))
    }

    /// Returns the registered migrations, in the order of versions.
    #[pg_extern(sql = false)]
    fn tenant_migration_list() {
        let catalog = Catalog::read()?;
        authorize_instance(&catalog, "list migrations")?;
        catalog::migrations::list(&catalog)
    }
}

/// Applies the pending migrations to one tenant, up to `target`, in the caller's transaction.
#[pg_extern(sql = false)]
fn tenant_migrate(
    tenant_id: Option<Uuid>,
    target: Option<String>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(tenant_id, Uuid),
            name!(slug, String),
            name!(status, String),
            name!(from_version, Option<String>),
            name!(to_version, Option<String>),
            name!(applied, i32),
        ),
    >,
> {
    let (status, outcome) = answer(|| {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, Some(required("tenant_id", tenant_id)?), "migrate a tenant")?;
        tenants::migrate(&catalog, permit, target.as_deref())
    })?;
    let tenant = outcome.tenant;
    Ok(TableIterator::once((
        tenant.id,
        tenant.slug,
        status.to_string(),
        outcome.from_version,
        tenant.schema_version,
        outcome.applied,
    )))
}

/// Rolls back the migrations of one tenant after `target`, in the caller's transaction.
#[pg_extern(sql = false)]
fn tenant_rollback(
    tenant_id: Option<Uuid>,
    target: Option<String>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(tenant_id, Uuid),
            name!(slug, String),
            name!(from_version, Option<String>),
            name!(to_version, Option<String>),
            name!(undone, i32),
        ),
    >,
> {
    let outcome = answer(|| {
        let catalog = Catalog::write()?;
        let (tenant_id, target) = (required("tenant_id", tenant_id)?, required("target", target)?);
        let permit = authorize(&catalog, Some(tenant_id), "roll back a tenant")?;
        tenants::rollback(&catalog, permit, &target)
    })?;
    let tenant = outcome.tenant;
    Ok(TableIterator::once((tenant.id, tenant.slug, outcome.from_version, tenant.schema_version, outcome.applied)))
}

/// Returns the migration status of all tenants that are not deleted, oldest first.
#[pg_extern(sql = false)]
fn tenant_migration_status() -> Result<
    TableIterator<
        'static,
        (
            name!(tenant_id, Uuid),
            name!(slug, String),
            name!(version, Option<String>),
            name!(pending, i64),
            name!(unfinished, Option<String>),
            name!(last_error, Option<String>),
        ),
    >,
> {
    let progress = answer(|| {
        let catalog = Catalog::read()?;
        authorize_instance(&catalog, "see the migration status of all tenants")?;
        applied::progress(&catalog)
    })?;
    Ok(TableIterator::new(
        progress.into_iter().map(|p| (p.tenant_id, p.slug, p.version, p.pending, p.unfinished, p.last_error)),
    ))
}
