//! Scratch schemas: a tenant is provisioned like any other, migrated according to a ledger, described, and rolled back.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use pgrx::Uuid;

use super::{compare, names};
use crate::catalog::applied::{self, Entry};
use crate::catalog::fingerprints::{self, Thing};
use crate::catalog::tenants::Tenant;
use crate::catalog::{self, Catalog};
use crate::error::Result;
use crate::migrations;
use crate::model::{Slug, ids};
use crate::pg::{guc, rolled_back};
use crate::tenants;

/// What the schema of a tenant with a certain ledger should be.
pub struct Expected {
    pub hash: Option<String>,
    pub things: Vec<Thing>,
    /// Objects created or changed by migrations whose text is no longer the one that was applied. What these should be
    /// cannot be determined.
    pub undetermined: Vec<Thing>,
}

/// The result of each ledger that has been replayed; `None` if a migration was changed during the replay.
#[derive(Default)]
pub struct ExpectedByLedger(HashMap<Vec<Entry>, Option<Expected>>);

impl ExpectedByLedger {
    /// Returns what the schema of tenant `like`, which has this ledger, should be.
    pub fn expected(&mut self, catalog: &Catalog, ledger: Vec<Entry>, like: Uuid) -> Result<Option<&Expected>> {
        let expected = match self.0.entry(ledger) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => {
                let expected = replay(catalog, slot.key(), like)?;
                slot.insert(expected)
            }
        };
        Ok(expected.as_ref())
    }
}

/// Replays a ledger into a scratch schema and describes the result.
fn replay(catalog: &Catalog, ledger: &[Entry], like: Uuid) -> Result<Option<Expected>> {
    rolled_back(|| {
        // The notices of the migrations must not be sent to the caller of tenant_drift().
        let quiet = guc::Scope::open();
        quiet.set(c"client_min_messages", "error")?;
        let scratch = create(catalog)?;
        let names = names(&scratch);
        let id = scratch.id;
        let mut undetermined = Vec::new();
        if ledger.iter().all(Entry::is_current) {
            migrations::replay(catalog, scratch, like, None)?;
        } else {
            undetermined = replay_and_compare(catalog, scratch, ledger, like)?;
        }
        let replayed = applied::ledger(catalog, id)?;
        let texts = |ledger: &[Entry]| -> Vec<_> {
            ledger.iter().map(|entry| (entry.version.clone(), entry.registered.clone())).collect()
        };
        if texts(&replayed) != texts(ledger) {
            return Ok(None);
        }
        let hash = fingerprints::hash(catalog, &names)?;
        Ok(Some(Expected { hash, things: fingerprints::things_of_scratch(catalog, &names)?, undetermined }))
    })
}

/// Provisions the scratch tenant, without members.
fn create(catalog: &Catalog) -> Result<Tenant> {
    let id = ids::new();
    let slug = Slug::parse(&format!("scratch-{}", ids::hex(id)))?;
    tenants::provision(catalog, Some(id), Some(slug), "scratch", None)
}

/// Replays a ledger, and returns what was created or changed by migrations whose text has changed since `like` applied
/// them.
fn replay_and_compare(catalog: &Catalog, scratch: Tenant, ledger: &[Entry], like: Uuid) -> Result<Vec<Thing>> {
    let names = names(&scratch);
    let mut scratch = scratch;
    let mut undetermined = Vec::new();
    for migration in catalog::migrations::applied(catalog, like, None)? {
        let changed = ledger.iter().any(|entry| entry.version == migration.version && !entry.is_current());
        let before = if changed { fingerprints::things_of_scratch(catalog, &names)? } else { Vec::new() };
        scratch = migrations::apply(catalog, scratch, std::slice::from_ref(&migration), None)?;
        if changed {
            let after = fingerprints::things_of_scratch(catalog, &names)?;
            undetermined.extend(compare::changed(before, after));
        }
    }
    Ok(undetermined)
}
