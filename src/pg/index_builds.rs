//! Keeps concurrent index builds from waiting for this session. CREATE INDEX CONCURRENTLY and the like wait for every
//! transaction whose snapshot is older than the index. If such a transaction waited for the build in turn, neither
//! would end.

use std::cell::Cell;
use std::ffi::CStr;
use std::marker::PhantomData;

use pgrx::prelude::*;

use super::lists;

/// The number of ProcArrayLock among PostgreSQL's LWLocks. The number is not part of PostgreSQL's interface, so
/// `require_lock` verifies it.
const PROC_ARRAY_LOCK: usize = 4;
const PROC_ARRAY: &CStr = c"ProcArray";

thread_local! {
    /// The local id of this session's latest transaction for which index builds do not wait.
    static LAST_IGNORED: Cell<pg_sys::LocalTransactionId> = const { Cell::new(0) };
    static INSTALLED: Cell<bool> = const { Cell::new(false) };
    static PREVIOUS: Cell<pg_sys::get_relation_info_hook_type> = const { Cell::new(None) };
}

/// Installs the planner hook. Called only in sessions that need it, because it makes planning every query more
/// expensive.
fn install() {
    if INSTALLED.replace(true) {
        return;
    }
    // SAFETY: a backend-local variable. The previous hook is kept and called.
    unsafe {
        PREVIOUS.set(pg_sys::get_relation_info_hook);
        pg_sys::get_relation_info_hook = Some(relation_info);
    }
}

/// Hides indexes that were built after the transaction's snapshot was taken. They may lack rows that only this snapshot
/// still sees.
#[pg_guard]
unsafe extern "C-unwind" fn relation_info(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    inhparent: bool,
    info: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the planner's own arguments. No other relation uses the list.
    unsafe {
        if let Some(previous) = PREVIOUS.get() {
            previous(root, relation, inhparent, info);
        }
        if LAST_IGNORED.get() == own_virtual_transaction().localTransactionId && pg_sys::ActiveSnapshotSet() {
            let snapshot = pg_sys::GetActiveSnapshot();
            let indexes = (*info).indexlist;
            (*info).indexlist =
                lists::retain::<pg_sys::IndexOptInfo>(indexes, |index| is_visible((*index).indexoid, snapshot));
        }
    }
}

/// Reports whether the snapshot sees the last change to the index.
unsafe fn is_visible(index: pg_sys::Oid, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: a lookup by OID. The tuple is read before it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::INDEXRELID as i32, index.into());
        if tuple.is_null() {
            return false;
        }
        let header = (*tuple).t_data;
        let frozen = pg_sys::HEAP_XMIN_FROZEN as u16;
        let is_frozen = (*header).t_infomask & frozen == frozen;
        let changed = (*header).t_choice.t_heap.t_xmin;
        pg_sys::ReleaseSysCache(tuple);
        is_frozen || !pg_sys::XidInMVCCSnapshot(changed, snapshot)
    }
}

/// While it lives, concurrent index builds do not wait for this session's transaction. The snapshot still counts for
/// VACUUM, which removes nothing that it sees.
pub struct IgnoredByBuilds {
    is_lock_released: bool,
    _not_send: PhantomData<*const ()>,
}

impl IgnoredByBuilds {
    /// Marks the session's transaction. The session must only wait, and read nothing, until this value drops. Queries
    /// that the transaction plans afterwards do not use the indexes built in between.
    pub fn begin() -> Self {
        require_lock();
        install();
        LAST_IGNORED.set(own_virtual_transaction().localTransactionId);
        mark(|flags| flags | pg_sys::PROC_IN_SAFE_IC as u8);
        IgnoredByBuilds { is_lock_released: false, _not_send: PhantomData }
    }

    /// Releases the transaction's virtual lock as well, for builds that already wait for the transaction or saw it
    /// before it was marked. The transaction must have written nothing, and must hold no lock on a table on which an
    /// index may be built: sessions that must wait for such a transaction wait for the same virtual lock.
    pub fn release_virtual_lock(mut self) -> Self {
        // SAFETY: this transaction's own virtual lock. Drop acquires it again, and a transaction can also end without
        // it.
        unsafe { pg_sys::VirtualXactLockTableCleanup() };
        self.is_lock_released = true;
        self
    }
}

impl Drop for IgnoredByBuilds {
    fn drop(&mut self) {
        if self.is_lock_released {
            // SAFETY: acquires the lock that was released.
            unsafe { pg_sys::VirtualXactLockTableInsert(own_virtual_transaction()) };
        }
        mark(|flags| flags & !(pg_sys::PROC_IN_SAFE_IC as u8));
    }
}

/// Raises an error if the lock with this number is not ProcArrayLock in the running server.
fn require_lock() {
    // SAFETY: the name of a lock is a C string that lives as long as the server.
    let name = unsafe { CStr::from_ptr(pg_sys::GetLWLockIdentifier(pg_sys::PG_WAIT_LWLOCK, PROC_ARRAY_LOCK as u16)) };
    if name != PROC_ARRAY {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            format!("LWLock {PROC_ARRAY_LOCK} of this server is {name:?}, not {PROC_ARRAY:?}")
        );
    }
}

/// Returns the local id of the session's current transaction.
pub fn own_transaction() -> pg_sys::LocalTransactionId {
    own_virtual_transaction().localTransactionId
}

fn own_virtual_transaction() -> pg_sys::VirtualTransactionId {
    // SAFETY: reads this backend's own PGPROC entry.
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    unsafe {
        pg_sys::VirtualTransactionId {
            backendId: (*pg_sys::MyProc).backendId,
            localTransactionId: (*pg_sys::MyProc).lxid,
        }
    }
    // SAFETY: as above.
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    unsafe {
        pg_sys::VirtualTransactionId {
            procNumber: (*pg_sys::MyProc).vxid.procNumber,
            localTransactionId: (*pg_sys::MyProc).vxid.lxid,
        }
    }
}

/// Changes this backend's status flags. The end of the transaction also clears the mark.
fn mark(change: impl FnOnce(u8) -> u8) {
    // SAFETY: as PostgreSQL's set_indexsafe_procflags() does. Changes this backend's own entry and its copy in the
    // dense array, under the lock that protects both.
    unsafe {
        let lock = &raw mut (*pg_sys::MainLWLockArray.add(PROC_ARRAY_LOCK)).lock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let flags = change((*pg_sys::MyProc).statusFlags);
        (*pg_sys::MyProc).statusFlags = flags;
        *(*pg_sys::ProcGlobal).statusFlags.add((*pg_sys::MyProc).pgxactoff as usize) = flags;
        pg_sys::LWLockRelease(lock);
    }
}
