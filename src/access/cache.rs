//! What this backend knows about users' standing in tenants, until the catalog changes.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use foldhash::fast::RandomState;
use pgrx::Uuid;

use crate::catalog::{Catalog, changes, instance_admins, standings, tenants};
use crate::error::Result;
use crate::model::Standing;
use crate::pg::backend;
use crate::settings;

/// Answers kept at most; beyond that all are forgotten, so that a backend that serves a million users does not grow.
const CAPACITY: usize = 1024;

#[derive(Default)]
struct Cache {
    generation: u64,
    standings: HashMap<(Option<Uuid>, Uuid), Option<Standing>, RandomState>,
    instance_admins: HashMap<Uuid, bool, RandomState>,
    active_tenants: HashMap<Uuid, Rc<[Uuid]>, RandomState>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
}

/// Whether somebody reaches a tenant, as answered last. Most sessions ask the same again with each query.
#[derive(Clone, Copy)]
struct Verdict {
    at: Moment,
    tenant: Uuid,
    reaches: bool,
}

/// While it is the same, so are the own identity settings and the catalog.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    identity: u64,
    catalog: Option<u64>,
}

impl Moment {
    pub fn now() -> Self {
        Moment { identity: settings::identity_changes(), catalog: changes::generation() }
    }
}

thread_local! {
    static VERDICT: Cell<Option<Verdict>> = const { Cell::new(None) };
}

pub fn verdict(at: Moment, tenant: Uuid) -> Option<bool> {
    VERDICT.get().filter(|known| known.at == at && known.tenant == tenant).map(|known| known.reaches)
}

/// For callers whom the own identity settings alone make what they are.
pub fn keep_verdict(at: Moment, tenant: Uuid, reaches: bool) {
    // See `remembered`.
    let in_parallel_mode = backend::is_in_parallel_mode();
    if at.catalog.is_some() && at == Moment::now() && !in_parallel_mode {
        VERDICT.set(Some(Verdict { at, tenant, reaches }));
    }
}

/// `None` where the tenant does not exist, or the user is not a member. Without a user only the status is known.
pub fn standing(user: Option<Uuid>, tenant: Uuid) -> Result<Option<Standing>> {
    let key = (user, tenant);
    remembered(
        |cache| cache.standings.get(&key).copied(),
        || standings::get(user, tenant),
        |cache, answer| {
            cache.standings.insert(key, *answer);
        },
    )
}

pub fn is_instance_admin(user: Uuid) -> Result<bool> {
    remembered(
        |cache| cache.instance_admins.get(&user).copied(),
        || instance_admins::contains(user),
        |cache, answer| {
            cache.instance_admins.insert(user, *answer);
        },
    )
}

/// The active tenants that the user is a member of.
pub fn active_tenants(user: Uuid) -> Result<Rc<[Uuid]>> {
    remembered(
        |cache| cache.active_tenants.get(&user).cloned(),
        || Ok(tenants::active_ids_of_user(&Catalog::latest()?, user)?.into()),
        |cache, answer: &Rc<[Uuid]>| {
            cache.active_tenants.insert(user, answer.clone());
        },
    )
}

/// Never borrows the cache while the server runs code: an invalidation may come at any time.
fn remembered<T>(
    find: impl Fn(&Cache) -> Option<T>,
    load: impl Fn() -> Result<T>,
    keep: impl Fn(&mut Cache, &T),
) -> Result<T> {
    let before = changes::generation();
    let found = CACHE.with_borrow_mut(|cache| {
        cache.forget_unless(before);
        find(cache)
    });
    if let Some(answer) = found {
        return Ok(answer);
    }
    let answer = load()?;
    // A change that came in meanwhile may be newer than the answer. A parallel worker reads with the leader's snapshot,
    // which may be older than the latest.
    let in_parallel_mode = backend::is_in_parallel_mode();
    if before.is_some() && changes::generation() == before && !in_parallel_mode {
        CACHE.with_borrow_mut(|cache| {
            cache.forget_unless(before);
            keep(cache, &answer);
        });
    }
    Ok(answer)
}

impl Cache {
    fn forget_unless(&mut self, generation: Option<u64>) {
        let full = [self.standings.len(), self.instance_admins.len(), self.active_tenants.len()].contains(&CAPACITY);
        if generation != Some(self.generation) || full {
            self.standings.clear();
            self.instance_admins.clear();
            self.active_tenants.clear();
            self.generation = generation.unwrap_or(0);
        }
    }
}
