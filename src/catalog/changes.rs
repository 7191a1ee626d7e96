//! Notices when the catalog changes: here or in another session, as soon as the server's invalidation messages say so.
//!
//! A statement trigger on each watched table invalidates the table's relation cache entry, which reaches this backend
//! at its next command and the others when the change commits; a rollback does the same here. Caches remember the
//! generation they were filled in, and forget all when it has passed.

use std::cell::{Cell, RefCell};
use std::ffi::CStr;

use pgrx::prelude::*;

/// The tables that answers about access depend on.
const WATCHED: [&CStr; 3] = [c"tenants", c"members", c"instance_admins"];

thread_local! {
    static GENERATION: Cell<u64> = const { Cell::new(1) };
    static RELATION_CHANGES: Cell<u64> = const { Cell::new(1) };
    static WATCHED_OIDS: RefCell<Vec<pg_sys::Oid>> = const { RefCell::new(Vec::new()) };
}

/// Once per backend, from _PG_init: the server has room for few callbacks.
pub fn install() {
    // SAFETY: both callbacks live as long as the library, which is never unloaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0usize));
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            Some(schema_changed),
            pg_sys::Datum::from(0usize),
        );
    }
}

/// The number to compare what a cache was filled in; `None` where the extension is not installed in this database.
pub fn generation() -> Option<u64> {
    let known = WATCHED_OIDS.with_borrow(|oids| !oids.is_empty());
    if !known && !find_watched() {
        return None;
    }
    Some(GENERATION.get())
}

/// The number to compare what a cache of relations was filled in: another one after each change of any relation.
pub fn of_relations() -> u64 {
    RELATION_CHANGES.get()
}

/// Takes in what other sessions have committed so far.
pub fn catch_up() {
    // SAFETY: may be called wherever catalogs may be read; without messages it compares two numbers.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Called by the statement triggers.
pub fn announce(relation: pg_sys::Relation) {
    // SAFETY: the trigger's own relation, open while the trigger runs.
    unsafe { pg_sys::CacheInvalidateRelcache(relation) };
}

fn find_watched() -> bool {
    // SAFETY: lookups by C string; missing_ok, and InvalidOid for tables that are not there.
    let found: Vec<pg_sys::Oid> = unsafe {
        let schema = pg_sys::get_namespace_oid(c"fluxbase_tenant".as_ptr(), true);
        if schema == pg_sys::InvalidOid {
            return false;
        }
        WATCHED.iter().map(|table| pg_sys::get_relname_relid(table.as_ptr(), schema)).collect()
    };
    if found.contains(&pg_sys::InvalidOid) {
        return false;
    }
    WATCHED_OIDS.set(found);
    true
}

fn advance() {
    GENERATION.set(GENERATION.get() + 1);
    RELATION_CHANGES.set(RELATION_CHANGES.get() + 1);
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    RELATION_CHANGES.set(RELATION_CHANGES.get() + 1);
    let everything = relation == pg_sys::InvalidOid;
    if everything || WATCHED_OIDS.with_borrow(|oids| oids.contains(&relation)) {
        // The tables themselves may be new ones, after DROP and CREATE EXTENSION.
        WATCHED_OIDS.take();
        advance();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn schema_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    advance();
}
