//! The state of this backend.

use pgrx::pg_sys;

pub fn is_in_parallel_mode() -> bool {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::IsInParallelMode() }
}

pub fn is_parallel_worker() -> bool {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::ParallelWorkerNumber >= 0 }
}

pub fn database() -> pg_sys::Oid {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::MyDatabaseId }
}

pub fn process_id() -> i32 {
    // SAFETY: reads a variable of the backend.
    unsafe { pg_sys::MyProcPid }
}

/// What runs inside a function cannot be told from a statement of its own; a transaction block can.
pub fn is_in_transaction_block() -> bool {
    // SAFETY: reads the state of the backend's transaction.
    unsafe { pg_sys::IsTransactionBlock() || pg_sys::IsSubTransaction() }
}

/// Whether there is a transaction, and it has not failed.
pub fn is_in_transaction() -> bool {
    // SAFETY: reads the state of the backend's transaction.
    unsafe { pg_sys::IsTransactionState() }
}
