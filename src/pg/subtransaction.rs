//! Subtransactions, as of BEGIN ... EXCEPTION in PL/pgSQL.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pgrx::PgTryBuilder;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use crate::error::{Error, Result};

/// What a subtransaction changes in the backend, to be put back when it ends.
struct Surroundings {
    memory: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

impl Surroundings {
    fn begin() -> Self {
        // SAFETY: in a transaction; the context goes on to be current, for what is allocated has to outlive the
        // subtransaction.
        unsafe {
            let found = Surroundings { memory: pg_sys::CurrentMemoryContext, owner: pg_sys::CurrentResourceOwner };
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::MemoryContextSwitchTo(found.memory);
            found
        }
    }

    fn end(&self, commit: bool) {
        // SAFETY: the subtransaction that begin() began is the innermost again.
        unsafe {
            if commit {
                pg_sys::ReleaseCurrentSubTransaction();
            } else {
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
            }
            pg_sys::MemoryContextSwitchTo(self.memory);
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}

/// `None` where the server refused with one of those errors, and nothing of it is left.
pub fn attempt<T>(run: impl FnOnce() -> Result<T>, forgiven: &[PgSqlErrorCode]) -> Result<Option<T>> {
    let around = Surroundings::begin();
    let mut body = Some(run);
    let mut attempt = PgTryBuilder::new(AssertUnwindSafe(|| {
        let Some(run) = body.take() else {
            return Ok(None);
        };
        let answer = run();
        around.end(answer.is_ok());
        answer.map(Some)
    }));
    for code in forgiven {
        attempt = attempt.catch_when(*code, |_| {
            around.end(false);
            Ok(None)
        });
    }
    attempt
        .catch_others(|caught| {
            around.end(false);
            caught.rethrow()
        })
        .execute()
}

/// As `attempt`, for whatever the server refuses and for conflicts; what ends the caller's statement or session does.
pub fn attempt_any<T>(run: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    let around = Surroundings::begin();
    let mut body = Some(run);
    PgTryBuilder::new(AssertUnwindSafe(|| {
        let Some(run) = body.take() else {
            return Ok(None);
        };
        let answer = run();
        around.end(answer.is_ok());
        match answer {
            Err(Error::Conflict { .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }))
    .catch_others(|caught| {
        around.end(false);
        match &caught {
            CaughtError::PostgresError(report) if !ends_the_statement(report.sql_error_code()) => Ok(None),
            _ => caught.rethrow(),
        }
    })
    .execute()
}

fn ends_the_statement(code: PgSqlErrorCode) -> bool {
    use PgSqlErrorCode::*;
    matches!(
        code,
        ERRCODE_QUERY_CANCELED
            | ERRCODE_ADMIN_SHUTDOWN
            | ERRCODE_CRASH_SHUTDOWN
            | ERRCODE_DATABASE_DROPPED
            | ERRCODE_OUT_OF_MEMORY
            | ERRCODE_DISK_FULL
    )
}

/// Rolls back whatever was done, also after an error, which goes on to the caller as it is. Locks are released, and memory
/// of the server's is freed, so the answer must hold values of Rust alone.
pub fn rolled_back<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    let around = Surroundings::begin();
    // SAFETY: this context goes with the subtransaction, and end() puts back the one that outlives it.
    unsafe { pg_sys::MemoryContextSwitchTo(pg_sys::CurTransactionContext) };
    let answer = catch_unwind(AssertUnwindSafe(run));
    // An error of the server's waits on a stack of its own meanwhile.
    around.end(false);
    answer.unwrap_or_else(|error| resume_unwind(error))
}
