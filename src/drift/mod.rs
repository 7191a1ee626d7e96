//! What a tenant's schema is, beside what its ledger says it should be.
//!
//! The ledger is replayed into the schema of a scratch tenant that nobody sees, and what came of it is compared with what
//! the tenant has. Tenants with the same ledger share a scratch tenant, and a hash tells which of them to look at closer.

mod compare;
mod scratch;

use std::collections::HashSet;

use pgrx::{PgSqlErrorCode, Uuid};

use self::scratch::{Expected, Scratches};
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

pub fn of_tenant(catalog: &Catalog, permit: &Permit<Instance>) -> Result<Vec<Drift>> {
    look(catalog, &mut Scratches::default(), permit.tenant().id)
}

/// What the server says of tables that somebody else is altering or dropping: they are locked, or gone half way through.
const DISTURBED: [PgSqlErrorCode; 2] =
    [PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, PgSqlErrorCode::ERRCODE_INTERNAL_ERROR];
/// Shorter than deadlock_timeout, so that nobody else's migration is ended for our sake.
const LOCK_WAIT: &str = "100ms";
/// With a tenant that has to be looked at closer.
const LOCK_WAIT_FOR_ONE: &str = "2s";

/// Of all tenants that are not deleted, oldest first.
pub fn of_fleet(catalog: &Catalog, _permit: &InstancePermit) -> Result<Vec<Drift>> {
    let mut scratches = Scratches::default();
    let mut found = Vec::new();
    for tenant in tenants::list(catalog)? {
        // What was read of a tenant is given back before the next: memory, and the locks of what views are made of.
        let seen = attempt(|| rolled_back(|| is_as_expected(catalog, &mut scratches, &tenant)), &DISTURBED)?;
        if seen != Some(true) {
            let look = || look(catalog, &mut scratches, tenant.id);
            found.extend(with_lock_wait(LOCK_WAIT_FOR_ONE, look)?.unwrap_or_else(|| vec![locked(&tenant)]));
        }
    }
    Ok(found)
}

/// By the hash alone. It may be wrong in saying no: the tenant may have been migrated between two statements.
fn is_as_expected(catalog: &Catalog, scratches: &mut Scratches, tenant: &Tenant) -> Result<bool> {
    let patience = guc::Scope::open();
    patience.set(c"lock_timeout", LOCK_WAIT)?;
    let ledger = applied::ledger(catalog, tenant.id)?;
    if !ledger.iter().all(Entry::is_current) || unfinished::get(catalog, tenant.id)?.is_some() {
        return Ok(false);
    }
    let found = fingerprints::hash(catalog, &names(tenant))?;
    let expected = scratches.expected(catalog, ledger, tenant.id)?;
    Ok(found.is_some() && expected.is_some_and(|expected| expected.hash == found))
}

fn locked(tenant: &Tenant) -> Drift {
    let object = format!("schema {}", tenant.schema_name);
    let (tenant_id, slug) = (tenant.id, tenant.slug.clone());
    Drift { tenant_id, slug, object, problem: "locked", expected: None, found: None }
}

/// While nobody migrates the tenant.
fn look(catalog: &Catalog, scratches: &mut Scratches, tenant_id: Uuid) -> Result<Vec<Drift>> {
    rolled_back(|| match tenants::lock(catalog, tenant_id)? {
        Some(tenant) => compare_all(catalog, scratches, &tenant),
        None => Ok(Vec::new()),
    })
}

fn compare_all(catalog: &Catalog, scratches: &mut Scratches, tenant: &Tenant) -> Result<Vec<Drift>> {
    let ledger = applied::ledger(catalog, tenant.id)?;
    let mut drift = of_ledger(catalog, tenant, &ledger)?;
    let Some(Expected { things, touched, .. }) = scratches.expected(catalog, ledger, tenant.id)? else {
        return Err(Error::conflict("a migration was changed meanwhile", "Call the function again."));
    };
    let names = names(tenant);
    let found = fingerprints::things(catalog, &names)?;
    let expected = fingerprints::also_neutral(catalog, &names, things)?;
    let touched = fingerprints::also_neutral(catalog, &names, touched)?;
    let ignored: HashSet<&str> = touched.iter().map(|thing| thing.object.as_str()).collect();
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

/// Migrations of which it cannot be said what the schema should be: one whose text has changed since it was applied, as
/// repeatable ones do, and one that stopped half way.
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
