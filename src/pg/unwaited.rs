//! Not being waited for: CREATE INDEX CONCURRENTLY and its like wait for every transaction with a snapshot older than the
//! index, and a session that itself waits for one of them would be waited for in turn.

use std::marker::PhantomData;

use pgrx::prelude::*;

/// The server's ProcArrayLock, by its number in lwlocknames.
const PROC_ARRAY_LOCK: usize = 4;

/// While it lives, concurrent builds of indexes do not wait for this session's transaction. Its snapshot counts otherwise:
/// nothing that it sees is vacuumed.
pub struct Unwaited {
    _not_send: PhantomData<*const ()>,
}

impl Unwaited {
    /// An index built meanwhile may lack rows that only this transaction's snapshot still sees, so the caller must be
    /// waiting, not reading: what its statement goes on to do was planned before such an index was there.
    pub fn begin() -> Self {
        mark(|flags| flags | pg_sys::PROC_IN_SAFE_IC as u8);
        Unwaited { _not_send: PhantomData }
    }
}

impl Drop for Unwaited {
    fn drop(&mut self) {
        mark(|flags| flags & !(pg_sys::PROC_IN_SAFE_IC as u8));
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
