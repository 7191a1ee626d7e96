//! Not being waited for: CREATE INDEX CONCURRENTLY and its like wait for every transaction with a snapshot older than the
//! index, and a session that itself waits for one of them would be waited for in turn.

use std::marker::PhantomData;

use pgrx::prelude::*;

/// The server's ProcArrayLock, by its number in lwlocknames.
const PROC_ARRAY_LOCK: usize = 4;

/// While it lives, concurrent builds of indexes do not wait for this session's transaction. Its snapshot counts otherwise:
/// nothing that it sees is vacuumed.
pub struct Unwaited {
    lock_is_let_go: bool,
    _not_send: PhantomData<*const ()>,
}

impl Unwaited {
    /// An index built meanwhile may lack rows that only this transaction's snapshot still sees, so the caller must be
    /// waiting, not reading: what its statement goes on to do was planned before such an index was there.
    pub fn begin() -> Self {
        mark(|flags| flags | pg_sys::PROC_IN_SAFE_IC as u8);
        Unwaited { lock_is_let_go: false, _not_send: PhantomData }
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

impl Drop for Unwaited {
    fn drop(&mut self) {
        if self.lock_is_let_go {
            // SAFETY: the same lock as before.
            unsafe { pg_sys::VirtualXactLockTableInsert(own_virtual_transaction()) };
        }
        mark(|flags| flags & !(pg_sys::PROC_IN_SAFE_IC as u8));
    }
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
