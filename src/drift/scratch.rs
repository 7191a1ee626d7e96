//! Scratch tenants: made like any other, migrated as a ledger says, looked at, and rolled back.

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
    /// What was made or changed by migrations whose text is not any more the one that was applied: of these nobody knows
    /// what they should be.
    pub touched: Vec<Thing>,
}

/// What came of each ledger so far; `None` where it changed while it was replayed.
#[derive(Default)]
pub struct Scratches(HashMap<Vec<Entry>, Option<Expected>>);

impl Scratches {
    /// What the schema of `like` should be, which has this ledger.
    pub fn expected(&mut self, catalog: &Catalog, ledger: Vec<Entry>, like: Uuid) -> Result<Option<&Expected>> {
        let expected = match self.0.entry(ledger) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => {
                let expected = replayed(catalog, slot.key(), like)?;
                slot.insert(expected)
            }
        };
        Ok(expected.as_ref())
    }
}

fn replayed(catalog: &Catalog, ledger: &[Entry], like: Uuid) -> Result<Option<Expected>> {
    rolled_back(|| {
        // What migrations say was said to who applied them.
        let quiet = guc::Scope::open();
        quiet.set(c"client_min_messages", "error")?;
        let scratch = create(catalog)?;
        let names = names(&scratch);
        let id = scratch.id;
        let mut touched = Vec::new();
        if ledger.iter().all(Entry::is_current) {
            migrations::replay(catalog, scratch, like, None)?;
        } else {
            touched = replay_watching(catalog, scratch, ledger, like)?;
        }
        let replayed = applied::ledger(catalog, id)?;
        let texts = |ledger: &[Entry]| -> Vec<_> {
            ledger.iter().map(|entry| (entry.version.clone(), entry.registered.clone())).collect()
        };
        if texts(&replayed) != texts(ledger) {
            return Ok(None);
        }
        let hash = fingerprints::hash(catalog, &names)?;
        Ok(Some(Expected { hash, things: fingerprints::things(catalog, &names)?, touched }))
    })
}

/// As every tenant begins, without members.
fn create(catalog: &Catalog) -> Result<Tenant> {
    let id = ids::new();
    let slug = Slug::parse(&format!("scratch-{}", ids::hex(id)))?;
    tenants::provision(catalog, Some(id), Some(slug), "scratch", None)
}

/// What the migrations changed that are not what `like` applied.
fn replay_watching(catalog: &Catalog, scratch: Tenant, ledger: &[Entry], like: Uuid) -> Result<Vec<Thing>> {
    let names = names(&scratch);
    let mut scratch = scratch;
    let mut touched = Vec::new();
    for migration in catalog::migrations::applied(catalog, like, None)? {
        let changed = ledger.iter().any(|entry| entry.version == migration.version && !entry.is_current());
        let before = if changed { fingerprints::things(catalog, &names)? } else { Vec::new() };
        scratch = migrations::apply(catalog, scratch, std::slice::from_ref(&migration), None)?;
        if changed {
            let after = fingerprints::things(catalog, &names)?;
            touched.extend(compare::touched(before, after));
        }
    }
    Ok(touched)
}
