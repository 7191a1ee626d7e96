//! The state of this backend.

use pgrx::pg_sys;

pub fn is_in_parallel_mode() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::IsInParallelMode() }
}

pub fn is_parallel_worker() -> bool {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::ParallelWorkerNumber >= 0 }
}

pub fn database() -> pg_sys::Oid {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::MyDatabaseId }
}

pub fn process_id() -> i32 {
    // SAFETY: reads a backend-local variable.
    unsafe { pg_sys::MyProcPid }
}

/// Reports whether a transaction block or a subtransaction is open. A statement inside a function cannot be
/// distinguished from a top-level statement.
pub fn is_in_transaction_block() -> bool {
    // SAFETY: reads the state of the backend's transaction.
    unsafe { pg_sys::IsTransactionBlock() || pg_sys::IsSubTransaction() }
}

/// Returns why the current transaction cannot write, worded as in PostgreSQL's own errors, or `None` if it can.
pub fn why_read_only() -> Option<&'static str> {
    // SAFETY: reads the state of the server and of the backend's transaction.
    unsafe {
        if pg_sys::RecoveryInProgress() {
            Some("during recovery")
        } else if pg_sys::XactReadOnly {
            Some("in a read-only transaction")
        } else {
            None
        }
    }
}

/// Reports whether a transaction is open and has not failed.
pub fn is_in_transaction() -> bool {
    // SAFETY: reads the state of the backend's transaction.
    unsafe { pg_sys::IsTransactionState() }
}
