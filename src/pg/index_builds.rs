//! Not being waited for: CREATE INDEX CONCURRENTLY and its like wait for every transaction with a snapshot older than the
//! index, and a session that itself waits for one of them would be waited for in turn.

use std::cell::Cell;
use std::ffi::CStr;
use std::marker::PhantomData;

use pgrx::prelude::*;

use super::lists;

/// The server's ProcArrayLock, by its number among its named locks, which is no part of its interface: see `require_lock`.
const PROC_ARRAY_LOCK: usize = 4;
const PROC_ARRAY: &CStr = c"ProcArray";

thread_local! {
    /// The last transaction of this session, by its local number, that builds did not wait for.
    static LAST: Cell<pg_sys::LocalTransactionId> = const { Cell::new(0) };
    static INSTALLED: Cell<bool> = const { Cell::new(false) };
    static PREVIOUS: Cell<pg_sys::get_relation_info_hook_type> = const { Cell::new(None) };
}

/// In sessions that need it alone: every query that is planned would pay for it.
fn install() {
    if INSTALLED.replace(true) {
        return;
    }
    // SAFETY: a variable of the backend; what was there before is kept and called.
    unsafe {
        PREVIOUS.set(pg_sys::get_relation_info_hook);
        pg_sys::get_relation_info_hook = Some(relation_info);
    }
}

/// An index that was built meanwhile may lack rows that only the transaction's snapshot still sees: the rest of the statement
/// is planned as if it was not there.
#[pg_guard]
unsafe extern "C-unwind" fn relation_info(
    root: *mut pg_sys::PlannerInfo,
    relation: pg_sys::Oid,
    inhparent: bool,
    info: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: the planner's own; the list is the relation's alone.
    unsafe {
        if let Some(previous) = PREVIOUS.get() {
            previous(root, relation, inhparent, info);
        }
        if LAST.get() == own_virtual_transaction().localTransactionId && pg_sys::ActiveSnapshotSet() {
            let snapshot = pg_sys::GetActiveSnapshot();
            let indexes = (*info).indexlist;
            (*info).indexlist =
                lists::retain::<pg_sys::IndexOptInfo>(indexes, |index| is_visible((*index).indexoid, snapshot));
        }
    }
}

/// Whether the index was last changed before the snapshot was taken.
unsafe fn is_visible(index: pg_sys::Oid, snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: a lookup by oid; the tuple is read before it is released.
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

/// While it lives, concurrent builds of indexes do not wait for this session's transaction. Its snapshot counts otherwise:
/// nothing that it sees is vacuumed.
pub struct IgnoredByBuilds {
    lock_is_let_go: bool,
    _not_send: PhantomData<*const ()>,
}

impl IgnoredByBuilds {
    /// For a session that waits and reads nothing. What its transaction reads afterwards, it reads without the indexes that
    /// were built meanwhile.
    pub fn begin() -> Self {
        require_lock();
        install();
        LAST.set(own_virtual_transaction().localTransactionId);
        mark(|flags| flags | pg_sys::PROC_IN_SAFE_IC as u8);
        IgnoredByBuilds { lock_is_let_go: false, _not_send: PhantomData }
    }

    /// Also by a build that is waiting already, or saw the transaction before it was marked. For a transaction that has
    /// written nothing and holds no lock on a table that anybody builds an index on: others wait for those through the same
    /// lock.
    pub fn let_go(mut self) -> Self {
        // SAFETY: the transaction's own virtual lock, which Drop takes again, and whose end copes without it.
        unsafe { pg_sys::VirtualXactLockTableCleanup() };
        self.lock_is_let_go = true;
        self
    }
}

impl Drop for IgnoredByBuilds {
    fn drop(&mut self) {
        if self.lock_is_let_go {
            // SAFETY: the same lock as before.
            unsafe { pg_sys::VirtualXactLockTableInsert(own_virtual_transaction()) };
        }
        mark(|flags| flags & !(pg_sys::PROC_IN_SAFE_IC as u8));
    }
}

/// An error where the lock of this number is another one in the server that runs.
fn require_lock() {
    // SAFETY: the name of a lock by its number, a C string that lives as long as the server.
    let name = unsafe { CStr::from_ptr(pg_sys::GetLWLockIdentifier(pg_sys::PG_WAIT_LWLOCK, PROC_ARRAY_LOCK as u16)) };
    if name != PROC_ARRAY {
        ereport!(
            ERROR,
            PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
            format!("lock {PROC_ARRAY_LOCK} of this server is {name:?} and not {PROC_ARRAY:?}")
        );
    }
}

/// Which transaction of the session's this is.
pub fn own_transaction() -> pg_sys::LocalTransactionId {
    own_virtual_transaction().localTransactionId
}

fn own_virtual_transaction() -> pg_sys::VirtualTransactionId {
    // SAFETY: this backend's own entry.
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

/// The end of the transaction takes the mark away too.
fn mark(change: impl FnOnce(u8) -> u8) {
    // SAFETY: as the server's set_indexsafe_procflags() does: this backend's own entry and its copy in the dense array,
    // under the lock that guards both.
    unsafe {
        let lock = &raw mut (*pg_sys::MainLWLockArray.add(PROC_ARRAY_LOCK)).lock;
        pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE);
        let flags = change((*pg_sys::MyProc).statusFlags);
        (*pg_sys::MyProc).statusFlags = flags;
        *(*pg_sys::ProcGlobal).statusFlags.add((*pg_sys::MyProc).pgxactoff as usize) = flags;
        pg_sys::LWLockRelease(lock);
    }
}
