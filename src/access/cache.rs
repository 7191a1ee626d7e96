//! A backend-local cache of users' standings in tenants, of instance admins, of the active tenants of users, and of the
//! last verdict. It is emptied when the generation of `catalog::changes` advances.

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

/// Maximum number of entries of each kind. When a map is full, all entries are dropped, so that a backend that serves a
/// million users does not grow without bound.
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

/// The last answer to "can the caller access this tenant?". Most sessions need the answer for each query, about the
/// same tenant. It contains no role, because it is kept only for callers whom a user determines: see `keep_verdict`.
#[derive(Clone, Copy)]
struct Verdict {
    at: Moment,
    tenant: Uuid,
    is_accessible: bool,
}

/// A point in time, identified by the number of changes so far to the identity settings and to the catalog. If two
/// moments are equal, neither has changed between them. The database role is not part of it.
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

/// Returns the last answer if it is about this tenant and still valid, else `None`.
pub fn verdict(at: Moment, tenant: Uuid) -> Option<bool> {
    VERDICT.get().filter(|known| known.at == at && known.tenant == tenant).map(|known| known.is_accessible)
}

/// Stores an answer for `verdict`. The caller guarantees that the answer depends only on the extension's own identity
/// settings and the catalog. An answer that depends on anything else, such as the database role, would be returned
/// after that has changed.
pub fn keep_verdict(at: Moment, tenant: Uuid, is_accessible: bool) {
    // For parallel mode, see `cached`.
    let in_parallel_mode = backend::is_in_parallel_mode();
    if at.catalog.is_some() && at == Moment::now() && !in_parallel_mode {
        VERDICT.set(Some(Verdict { at, tenant, is_accessible }));
    }
}

/// Returns the user's standing in the tenant, or `None` if the tenant does not exist or the user is not a member.
/// Without a user, returns only the tenant's status.
pub fn standing(user: Option<Uuid>, tenant: Uuid) -> Result<Option<Standing>> {
    let key = (user, tenant);
    cached(
        |cache| cache.standings.get(&key).copied(),
        || standings::get(user, tenant),
        |cache, answer| {
            cache.standings.insert(key, *answer);
        },
    )
    .map(Option::flatten)
}

/// Reports whether the user is an instance admin.
pub fn is_instance_admin(user: Uuid) -> Result<bool> {
    cached(
        |cache| cache.instance_admins.get(&user).copied(),
        || instance_admins::contains(user),
        |cache, answer| {
            cache.instance_admins.insert(user, *answer);
        },
    )
    .map(Option::unwrap_or_default)
}

/// Returns the ids of the active tenants that the user is a member of.
pub fn active_tenants(user: Uuid) -> Result<Rc<[Uuid]>> {
    cached(
        |cache| cache.active_tenants.get(&user).cloned(),
        || Ok(tenants::active_ids_of_user(&Catalog::latest()?, user)?.into()),
        |cache, answer: &Rc<[Uuid]>| {
            cache.active_tenants.insert(user, answer.clone());
        },
    )
    .map(Option::unwrap_or_default)
}

/// Returns the cached answer, or loads it and caches it if possible. Returns `None` if the extension is not installed
/// in this database. Does not hold a borrow of the cache while PostgreSQL runs code, because an invalidation message
/// can arrive at any time.
fn cached<T>(
    find: impl Fn(&Cache) -> Option<T>,
    load: impl Fn() -> Result<T>,
    keep: impl Fn(&mut Cache, &T),
) -> Result<Option<T>> {
    let Some(before) = changes::generation() else {
        return Ok(None);
    };
    let found = CACHE.with_borrow_mut(|cache| {
        cache.forget_unless(before);
        find(cache)
    });
    if let Some(answer) = found {
        return Ok(Some(answer));
    }
    let answer = load()?;
    // Do not cache the answer if the catalog has changed while it was loaded: the change may be newer than the answer.
    // Do not cache it in parallel mode either: a parallel worker reads with the leader's snapshot, which may be older
    // than the latest.
    let in_parallel_mode = backend::is_in_parallel_mode();
    if changes::generation() == Some(before) && !in_parallel_mode {
        CACHE.with_borrow_mut(|cache| {
            cache.forget_unless(before);
            keep(cache, &answer);
        });
    }
    Ok(Some(answer))
}

impl Cache {
    fn forget_unless(&mut self, generation: u64) {
        let full = [self.standings.len(), self.instance_admins.len(), self.active_tenants.len()].contains(&CAPACITY);
        if generation != self.generation || full {
            self.standings.clear();
            self.instance_admins.clear();
            self.active_tenants.clear();
            self.generation = generation;
        }
    }
}
