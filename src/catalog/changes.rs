//! Notices when the catalog changes: here or in another session, as soon as the server's invalidation messages say so.
//!
//! Whoever changes a table that answers about access depend on invalidates the relation cache entry of one of them: our own
//! statements do, and a trigger does for others. That reaches this backend at its next command and the others when the change
//! commits; a rollback does the same here. Caches remember the generation they were filled in, and forget all when it has
//! passed.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::prelude::*;

use super::SCHEMA;
use crate::pg::{caches, catalogs, guc};

/// The table that stands for all: few statements use it, and an invalidation makes the server plan those again.
const WATCHED: &CStr = c"instance_admins";
/// Tables whose own invalidation counts too: somebody may have switched their triggers off, and on again.
const DEPENDED_ON: [&CStr; 2] = [c"tenants", c"members"];

thread_local! {
    static GENERATION: Cell<u64> = const { Cell::new(1) };
    static RELATION_CHANGES: Cell<u64> = const { Cell::new(1) };
    static ROLE_CHANGES: Cell<u64> = const { Cell::new(1) };
    static WATCHED_OID: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
    static DEPENDED_ON_OIDS: Cell<[pg_sys::Oid; 2]> = const { Cell::new([pg_sys::InvalidOid; 2]) };
}

/// Once per backend, from _PG_init: the server has room for few callbacks.
pub fn install() {
    // SAFETY: the callbacks live as long as the library, which is never unloaded.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0usize));
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            Some(schema_changed),
            pg_sys::Datum::from(0usize),
        );
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::AUTHOID as i32,
            Some(role_changed),
            pg_sys::Datum::from(0usize),
        );
    }
}

/// The number to compare what a cache was filled in; `None` where the extension is not installed in this database.
pub fn generation() -> Option<u64> {
    if WATCHED_OID.get() == pg_sys::InvalidOid && !find_watched() {
        return None;
    }
    Some(GENERATION.get())
}

/// The number to compare what a cache of relations was filled in: another one after each change of any relation.
pub fn of_relations() -> u64 {
    RELATION_CHANGES.get()
}

/// The same for attributes of roles.
pub fn of_roles() -> u64 {
    ROLE_CHANGES.get()
}

/// Takes in what other sessions have committed so far.
pub fn catch_up() {
    // SAFETY: may be called wherever catalogs may be read; without messages it compares two numbers.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Called by whoever changes one of the tables, and by their triggers.
pub fn announce() {
    if find_watched() {
        // SAFETY: the oid of a relation.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(WATCHED_OID.get()) };
    }
}

fn find_watched() -> bool {
    let Some(schema) = catalogs::schema_by_name(SCHEMA) else {
        return false;
    };
    DEPENDED_ON_OIDS.set(DEPENDED_ON.map(|table| catalogs::relation_in(schema, table)));
    let found = catalogs::relation_in(schema, WATCHED);
    WATCHED_OID.set(found);
    found != pg_sys::InvalidOid
}

fn advance() {
    GENERATION.set(GENERATION.get() + 1);
    RELATION_CHANGES.set(RELATION_CHANGES.get() + 1);
    // Which schemas are searched depends on what the caller reaches.
    guc::find_search_path_again();
    caches::forget_folded();
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    RELATION_CHANGES.set(RELATION_CHANGES.get() + 1);
    if relation == pg_sys::InvalidOid || relation == WATCHED_OID.get() {
        // The table itself may be a new one, after DROP and CREATE EXTENSION.
        WATCHED_OID.set(pg_sys::InvalidOid);
        advance();
    } else if DEPENDED_ON_OIDS.get().contains(&relation) {
        advance();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn schema_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    advance();
}

#[pg_guard]
unsafe extern "C-unwind" fn role_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    ROLE_CHANGES.set(ROLE_CHANGES.get() + 1);
}
