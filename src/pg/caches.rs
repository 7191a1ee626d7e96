//! The backend's caches: of the server's catalogs, which know no bound, and of plans.

use std::cell::Cell;

use pgrx::pg_sys;

/// As when too many invalidation messages came at once: what is needed is read anew. In a transaction.
pub fn forget_all() {
    // SAFETY: may be called wherever catalogs may be read.
    unsafe { pg_sys::InvalidateSystemCaches() };
}

thread_local! {
    static READS: Cell<u64> = const { Cell::new(0) };
    static HAS_FOLDED: Cell<bool> = const { Cell::new(false) };
}

/// How many queries that read tables have started in this session: more after planning than before means that the plan holds what
/// they found. Functions that are declared IMMUTABLE are called as a query is planned.
pub fn reads() -> u64 {
    READS.get()
}

pub fn count_read() {
    READS.set(READS.get() + 1);
}

/// The plan holds what a function found in tables: it is good for who is calling now, and no check at its start says so.
///
/// # Safety
/// A plan that nobody has run yet.
pub unsafe fn note_folded(plan: *mut pg_sys::PlannedStmt) {
    // SAFETY: by the caller's promise.
    unsafe { (*plan).dependsOnRole = true };
    HAS_FOLDED.set(true);
}

pub fn have_folded() -> bool {
    HAS_FOLDED.get()
}

/// Called as the caller or the catalog changes: plans that were kept are made again, if there is any such plan among them. May be called
/// at any time.
pub fn forget_folded() {
    if HAS_FOLDED.replace(false) {
        // SAFETY: marks plans as invalid.
        unsafe { pg_sys::ResetPlanCache() };
    }
}
