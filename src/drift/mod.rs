//! Drift: compares a tenant's schema with what it should be according to the tenant's ledger.
//!
//! The ledger is replayed into a scratch schema, which no other session can see, and the result is compared with the
//! tenant's schema. Tenants with the same ledger share the result. A hash shows which tenants need a detailed
//! comparison.

mod compare;
mod scratch;

use std::collections::HashSet;

use pgrx::{PgSqlErrorCode, Uuid};

use self::scratch::{Expected, ExpectedByLedger};
use crate::access::{Instance, InstancePermit, Permit};
use crate::catalog::applied::{self, Entry};
use crate::catalog::fingerprints::{self, Names};
use crate::catalog::tenants::{self, Tenant};
use crate::catalog::{Catalog, unfinished};
use crate::error::{Error, Result};
use crate::model;
use crate::pg::locks::with_lock_wait;
use crate::pg::{attempt, guc, rolled_back};

pub struct Drift {
    pub tenant_id: Uuid,
    pub slug: String,
    pub object: String,
    pub problem: &'static str,
    pub expected: Option<String>,
    pub found: Option<String>,
}

/// Returns the drift of one tenant.
pub fn of_tenant(catalog: &Catalog, permit: &Permit<Instance>) -> Result<Vec<Drift>> {
    compare_locked(catalog, &mut ExpectedByLedger::default(), permit.tenant().id)
}

/// Errors that PostgreSQL raises about tables that another transaction is altering or dropping: they are locked, or
/// disappear while they are being described.
const CONCURRENT_CHANGE: [PgSqlErrorCode; 2] =
    [PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, PgSqlErrorCode::ERRCODE_INTERNAL_ERROR];
/// Limit on lock waits while hashes are compared. Shorter than deadlock_timeout, so that the deadlock detector cancels
/// no other session's migration because of this session.
const LOCK_WAIT: &str = "100ms";
/// Limit on lock waits in the detailed comparison of one tenant.
const LOCK_WAIT_FOR_ONE: &str = "2s";

/// Returns the drift of all tenants that are not deleted, oldest tenant first.
pub fn of_fleet(catalog: &Catalog, _permit: &InstancePermit) -> Result<Vec<Drift>> {
    let mut by_ledger = ExpectedByLedger::default();
    let mut found = Vec::new();
    for tenant in tenants::list(catalog)? {
        // Rolling back after each tenant frees its memory, and releases the locks on the relations that its views use.
        let as_expected =
            attempt(|| rolled_back(|| is_as_expected(catalog, &mut by_ledger, &tenant)), &CONCURRENT_CHANGE)?;
        if as_expected != Some(true) {
            let compare = || compare_locked(catalog, &mut by_ledger, tenant.id);
            found.extend(with_lock_wait(LOCK_WAIT_FOR_ONE, compare)?.unwrap_or_else(|| vec![locked(&tenant)]));
        }
    }
    Ok(found)
}

/// Reports whether the schema's hash is the expected one. May wrongly return false, because the tenant may be migrated
/// between two statements.
fn is_as_expected(catalog: &Catalog, by_ledger: &mut ExpectedByLedger, tenant: &Tenant) -> Result<bool> {
    let settings = guc::Scope::open();
    settings.set(c"lock_timeout", LOCK_WAIT)?;
    let ledger = applied::ledger(catalog, tenant.id)?;
    if !ledger.iter().all(Entry::is_current) || unfinished::get(catalog, tenant.id)?.is_some() {
        return Ok(false);
    }
    let found = fingerprints::hash(catalog, &names(tenant))?;
    let expected = by_ledger.expected(catalog, ledger, tenant.id)?;
    Ok(found.is_some() && expected.is_some_and(|expected| expected.hash == found))
}

/// Returns a row which says that the tenant could not be compared.
fn locked(tenant: &Tenant) -> Drift {
    let object = format!("schema {}", tenant.schema_name);
    let (tenant_id, slug) = (tenant.id, tenant.slug.clone());
    Drift { tenant_id, slug, object, problem: "locked", expected: None, found: None }
}

/// Locks the tenant's row, so that no other session migrates it, and compares in detail.
fn compare_locked(catalog: &Catalog, by_ledger: &mut ExpectedByLedger, tenant_id: Uuid) -> Result<Vec<Drift>> {
    rolled_back(|| match tenants::lock(catalog, tenant_id)? {
        Some(tenant) => compare_in_detail(catalog, by_ledger, &tenant),
        None => Ok(Vec::new()),
    })
}

fn compare_in_detail(catalog: &Catalog, by_ledger: &mut ExpectedByLedger, tenant: &Tenant) -> Result<Vec<Drift>> {
    let ledger = applied::ledger(catalog, tenant.id)?;
    let mut drift = of_ledger(catalog, tenant, &ledger)?;
    let Some(Expected { things, undetermined, .. }) = by_ledger.expected(catalog, ledger, tenant.id)? else {
        return Err(Error::conflict("a migration was changed concurrently", "Call the function again."));
    };
    let names = names(tenant);
    let found = fingerprints::things(catalog, &names)?;
    let expected = fingerprints::normalize_with(catalog, &names, things)?;
    let undetermined = fingerprints::normalize_with(catalog, &names, undetermined)?;
    let ignored: HashSet<&str> = undetermined.iter().map(|thing| thing.object.as_str()).collect();
    let put_back = |text: &String| names.put_back(text);
    drift.extend(compare::differences(&expected, &found, &ignored).into_iter().map(|difference| Drift {
        tenant_id: tenant.id,
        slug: tenant.slug.clone(),
        object: names.put_back(difference.object),
        problem: difference.problem(),
        expected: difference.expected.map(put_back),
        found: difference.found.map(put_back),
    }));
    Ok(drift)
}

/// Returns rows for migrations whose result cannot be determined: those whose text has changed since they were applied,
/// which is common for repeatable migrations, and unfinished ones.
fn of_ledger(catalog: &Catalog, tenant: &Tenant, ledger: &[Entry]) -> Result<Vec<Drift>> {
    let row = |version: &str, problem, expected: String, found: String| Drift {
        tenant_id: tenant.id,
        slug: tenant.slug.clone(),
        object: format!("migration \"{version}\""),
        problem,
        expected: Some(expected),
        found: Some(found),
    };
    let changed = ledger.iter().filter(|entry| !entry.is_current());
    let mut drift: Vec<Drift> = changed
        .map(|entry| {
            let checksum = |sum: &str| format!("checksum {sum}");
            row(&entry.version, "different", checksum(&entry.registered), checksum(&entry.checksum))
        })
        .collect();
    if let Some(unfinished) = unfinished::get(catalog, tenant.id)? {
        let statements = |count: i32| format!("{count} statements done");
        let (all, done) = (statements(unfinished.statements), statements(unfinished.statements_done));
        drift.push(row(&unfinished.version, "unfinished", all, done));
    }
    Ok(drift)
}

fn names(tenant: &Tenant) -> Names {
    Names { schema: tenant.schema_name.clone(), owner: model::owner_role(tenant.id), id: tenant.id.to_string() }
}
