//! Detects changes of the catalog, in this session and in others, through PostgreSQL's invalidation messages.
//!
//! Caches of access decisions depend on a few catalog tables. A statement that changes one of them invalidates the
//! relation cache entry of `WATCHED`: the extension's own statements call `announce`, and a trigger calls it for all
//! other statements. This backend processes the message at its next command, and other backends after the commit. A
//! rollback invalidates the entry in this backend again. Each cache records the generation in which it was filled and
//! is emptied when the generation has advanced.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::prelude::*;

use super::{EXTENSION, SCHEMA};
use crate::pg::{caches, catalogs, guc};

/// The table whose relation cache entry is invalidated for a change of any of the tables. Few statements use this
/// table, which matters because PostgreSQL replans all statements that use an invalidated table.
const WATCHED: &CStr = c"instance_admins";
/// Tables whose own invalidation also counts as a change, because their triggers may have been disabled and enabled
/// again, with unannounced changes in between.
const DEPENDED_ON: [&CStr; 2] = [c"tenants", c"members"];

thread_local! {
    static GENERATION: Cell<u64> = const { Cell::new(1) };
    static RELATION_CHANGES: Cell<u64> = const { Cell::new(1) };
    static ROLE_CHANGES: Cell<u64> = const { Cell::new(1) };
    static WATCHED_OID: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
    static DEPENDED_ON_OIDS: Cell<[pg_sys::Oid; 2]> = const { Cell::new([pg_sys::InvalidOid; 2]) };
}

/// Registers the invalidation callbacks. Called once per backend, from _PG_init: PostgreSQL has room for few callbacks,
/// and they cannot be unregistered.
pub fn install() {
    // SAFETY: the callbacks are functions of the library, which is never unloaded.
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

/// Returns the current generation. A cache that was filled in another generation is stale. Returns `None` if the
/// extension is not installed in this database.
pub fn generation() -> Option<u64> {
    if WATCHED_OID.get() == pg_sys::InvalidOid && !find_watched() {
        return None;
    }
    Some(GENERATION.get())
}

/// Returns a counter that advances at each change of any relation, for caches about relations.
pub fn of_relations() -> u64 {
    RELATION_CHANGES.get()
}

/// Returns a counter that advances at each change of a role, for caches about roles.
pub fn of_roles() -> u64 {
    ROLE_CHANGES.get()
}

/// Processes pending invalidation messages, so that the counters reflect what other sessions have committed so far.
pub fn catch_up() {
    // SAFETY: may be called wherever system catalogs may be read. If no message is pending, it only compares two
    // numbers.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Announces a change of the catalog. Code that changes one of the tables calls it, and so do their triggers.
pub fn announce() {
    if find_watched() {
        // SAFETY: `find_watched` has just found this OID in the system catalogs.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(WATCHED_OID.get()) };
    }
}

/// Reports whether the extension is installed in this database. Only then is the schema `fluxbase_tenant` the catalog:
/// in another database, any role that can create a schema could have created a schema of that name.
pub fn is_installed() -> bool {
    WATCHED_OID.get() != pg_sys::InvalidOid || catalogs::extension_exists(EXTENSION)
}

fn find_watched() -> bool {
    let Some(schema) = catalogs::schema_by_name(SCHEMA).filter(|_| catalogs::extension_exists(EXTENSION)) else {
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
    // The effective search_path depends on which tenants the caller can access.
    guc::find_search_path_again();
    caches::forget_folded();
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    RELATION_CHANGES.set(RELATION_CHANGES.get() + 1);
    if relation == pg_sys::InvalidOid || relation == WATCHED_OID.get() {
        // Look the table up again: after DROP and CREATE EXTENSION it has another OID.
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
