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

/// Reports whether a transaction is open and has not failed.
pub fn is_in_transaction() -> bool {
    // SAFETY: reads the state of the backend's transaction.
    unsafe { pg_sys::IsTransactionState() }
}
