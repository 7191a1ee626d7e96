//! The backend's caches of the server's catalogs, which know no bound.

use pgrx::pg_sys;

/// As when too many invalidation messages came at once: what is needed is read anew. In a transaction.
pub fn forget_all() {
    // SAFETY: may be called wherever catalogs may be read.
    unsafe { pg_sys::InvalidateSystemCaches() };
}
