//! Applies pending migrations to one tenant, in the caller's transaction.

use pgrx::Uuid;

use super::sandbox;
use super::script::Script;
use super::version::Version;
use crate::catalog::migrations::Migration;
use crate::catalog::tenants::Tenant;
use crate::catalog::{Catalog, applied, migrations, versions};
use crate::error::{Error, Result};

/// How to treat nontransactional migrations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Nontransactional {
    /// Raises an error before any migration runs, because everything has to happen in the caller's transaction.
    Refused,
    /// Stops before the first one and returns it to the caller.
    Deferred,
    /// Runs them in the transaction nevertheless. For a schema that no other session can see yet, or a transaction that
    /// will be rolled back.
    InTransaction,
}

pub struct Outcome {
    /// The tenant's row after the migrations.
    pub tenant: Tenant,
    pub from_version: Option<String>,
    pub applied: i32,
    /// The next pending migration, if it is nontransactional and was deferred.
    pub next: Option<Migration>,
}

/// Applies the pending migrations, up to `target`. The caller must have locked the tenant. DDL and ledger rows are
/// committed together or not at all.
pub fn migrate(
    catalog: &Catalog,
    tenant: Tenant,
    target: Option<&str>,
    by: Option<Uuid>,
    nontransactional: Nontransactional,
) -> Result<Outcome> {
    let from_version = tenant.schema_version.clone();
    let up_to = target_key(catalog, target)?;
    let mut pending = migrations::pending(catalog, tenant.id, up_to.as_deref())?;
    if pending.is_empty() {
        if up_to.is_none() {
            versions::recount(catalog, tenant.id)?;
        }
        return Ok(Outcome { tenant, from_version, applied: 0, next: None });
    }
    let first = pending.iter().position(|migration| !migration.transactional);
    let next = match (first, nontransactional) {
        (None, _) | (_, Nontransactional::InTransaction) => None,
        (Some(index), Nontransactional::Deferred) => pending.drain(index..).next(),
        (Some(index), Nontransactional::Refused) => {
            return Err(Error::NontransactionalMigration {
                version: pending[index].version.clone(),
                slug: tenant.slug,
            });
        }
    };
    super::lock::take(&tenant)?;
    let applied = pending.len() as i32;
    let tenant = apply(catalog, tenant, &pending, by)?;
    Ok(Outcome { tenant, from_version, applied, next })
}

/// Applies the migrations that tenant `like` has applied, so that the schema becomes equal to that tenant's.
pub fn replay(catalog: &Catalog, tenant: Tenant, like: Uuid, by: Option<Uuid>) -> Result<Tenant> {
    let migrations = migrations::applied(catalog, like, None)?;
    apply(catalog, tenant, &migrations, by)
}

/// Applies the migrations in this order, and returns the tenant's row after that.
pub fn apply(catalog: &Catalog, tenant: Tenant, migrations: &[Migration], by: Option<Uuid>) -> Result<Tenant> {
    if migrations.is_empty() {
        return Ok(tenant);
    }
    for migration in migrations {
        let script = Script::up(migration)?;
        sandbox::run(catalog, &tenant, &script, 0..script.statements.len())?;
        applied::record(catalog, tenant.id, migration, by)?;
    }
    versions::set_schema_version(catalog, tenant.id)?.ok_or_else(Error::tenant_not_found)
}

/// Returns the sort key of a target. Raises an error if that version is not registered.
pub fn target_key(catalog: &Catalog, target: Option<&str>) -> Result<Option<String>> {
    target.map(|target| registered_key(catalog, target)).transpose()
}

pub(super) fn registered_key(catalog: &Catalog, target: &str) -> Result<String> {
    let version = Version::parse(target)?;
    match migrations::by_sort_key(catalog, &version.sort_key)? {
        Some(_) => Ok(version.sort_key),
        None => Err(Error::invalid(
            format!("migration version \"{target}\" is not registered"),
            "tenant_migration_list() shows the registered versions.",
        )),
    }
}
