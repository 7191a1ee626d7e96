//! Applies pending migrations to one tenant, in the caller's transaction.

use pgrx::Uuid;

use super::sandbox;
use super::script::Script;
use super::version::Version;
use crate::catalog::migrations::Migration;
use crate::catalog::tenants::Tenant;
use crate::catalog::{Catalog, applied, migrations, versions};
use crate::error::{Error, Result};

/// What becomes of migrations that are marked to run outside a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Nontransactional {
    /// They are refused, before anything ran: the caller's transaction is all there is.
    Refused,
    /// The first of them ends the work and is handed to the caller.
    Deferred,
    /// They run inside after all: nobody else sees the schema yet, or what was done will be undone.
    InTransaction,
}

pub struct Outcome {
    /// The tenant as it is afterwards.
    pub tenant: Tenant,
    pub from_version: Option<String>,
    pub applied: i32,
    /// Pending next, and to be run outside a transaction.
    pub next: Option<Migration>,
}

/// `tenant` is locked by the caller. DDL and ledger rows commit together or not at all.
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
            return Err(Error::OutsideTransaction { version: pending[index].version.clone(), slug: tenant.slug });
        }
    };
    super::lock::take(&tenant)?;
    let applied = pending.len() as i32;
    let tenant = apply(catalog, tenant, &pending, by)?;
    Ok(Outcome { tenant, from_version, applied, next })
}

/// Applies what another tenant has, so that the schema becomes like that one's.
pub fn replay(catalog: &Catalog, tenant: Tenant, like: Uuid, by: Option<Uuid>) -> Result<Tenant> {
    let migrations = migrations::applied(catalog, like, None)?;
    apply(catalog, tenant, &migrations, by)
}

/// Applies these, in this order.
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

/// The sort key of a target, which must be registered.
pub fn target_key(catalog: &Catalog, target: Option<&str>) -> Result<Option<String>> {
    target.map(|target| registered(catalog, target)).transpose()
}

pub(super) fn registered(catalog: &Catalog, target: &str) -> Result<String> {
    let version = Version::parse(target)?;
    match migrations::by_sort_key(catalog, &version.sort_key)? {
        Some(_) => Ok(version.sort_key),
        None => Err(Error::invalid(
            format!("migration version \"{target}\" is not registered"),
            "See tenant_migration_list() for the versions that are.",
        )),
    }
}
