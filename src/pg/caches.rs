//! The backend's caches of catalog rows, which grow without bound, and of plans.

use std::cell::Cell;

use pgrx::pg_sys;

/// Empties the catalog caches, as PostgreSQL does when a backend has missed invalidation messages. Must be called in a
/// transaction.
pub fn forget_all() {
    // SAFETY: may be called wherever catalogs may be read.
    unsafe { pg_sys::InvalidateSystemCaches() };
}

thread_local! {
    static READS: Cell<u64> = const { Cell::new(0) };
    static HAS_FOLDED: Cell<bool> = const { Cell::new(false) };
}

/// Returns how many queries that read tables have started in this session. If the number grows while a query is
/// planned, the planner has called a function declared IMMUTABLE that reads tables, and the plan contains its result.
pub fn reads() -> u64 {
    READS.get()
}

/// Counts a query that reads tables.
pub fn count_read() {
    READS.set(READS.get() + 1);
}

/// Marks a plan into which the planner has folded what a function read from tables. The plan is valid only for the
/// current caller, and the executor-start check does not see these tables.
///
/// # Safety
/// `plan` must not have been run yet.
pub unsafe fn note_folded(plan: *mut pg_sys::PlannedStmt) {
    // SAFETY: guaranteed by the caller.
    unsafe { (*plan).dependsOnRole = true };
    HAS_FOLDED.set(true);
}

/// Reports whether `note_folded` has marked a plan since plans were last invalidated.
pub fn have_folded() -> bool {
    HAS_FOLDED.get()
}

/// Invalidates all cached plans if one that `note_folded` has marked may be among them. Called when the caller or the
/// catalog changes. Can be called at any time.
pub fn forget_folded() {
    if HAS_FOLDED.replace(false) {
        // SAFETY: only marks plans as invalid.
        unsafe { pg_sys::ResetPlanCache() };
    }
}
