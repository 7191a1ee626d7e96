//! Subtransactions, as PL/pgSQL uses them for BEGIN ... EXCEPTION.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pgrx::PgTryBuilder;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use crate::error::{Error, Result};

/// The backend's state before a subtransaction, which is restored when the subtransaction ends.
struct SavedState {
    memory: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

impl SavedState {
    fn begin() -> Self {
        // SAFETY: a transaction is open. The memory context stays current, because what is allocated in it must outlive
        // the subtransaction.
        unsafe {
            let saved = SavedState { memory: pg_sys::CurrentMemoryContext, owner: pg_sys::CurrentResourceOwner };
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::MemoryContextSwitchTo(saved.memory);
            saved
        }
    }

    fn end(&self, commit: bool) {
        // SAFETY: the innermost subtransaction is the one that begin() started.
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

/// Runs `run` in a subtransaction. Rolls it back and returns `None` if PostgreSQL raises an error with one of these
/// SQLSTATEs. Any other error also rolls it back, and is passed on.
pub fn attempt<T>(run: impl FnOnce() -> Result<T>, sqlstates: &[PgSqlErrorCode]) -> Result<Option<T>> {
    let saved = SavedState::begin();
    let mut body = Some(run);
    let mut attempt = PgTryBuilder::new(AssertUnwindSafe(|| {
        let Some(run) = body.take() else {
            return Ok(None);
        };
        let answer = run();
        saved.end(answer.is_ok());
        answer.map(Some)
    }));
    for code in sqlstates {
        attempt = attempt.catch_when(*code, |_| {
            saved.end(false);
            Ok(None)
        });
    }
    attempt
        .catch_others(|caught| {
            saved.end(false);
            caught.rethrow()
        })
        .execute()
}

/// Runs `run` as `attempt` does, but returns `None` for every `Error::Conflict` and for every error of PostgreSQL,
/// except those that must end the caller's statement or session.
pub fn attempt_any<T>(run: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    let saved = SavedState::begin();
    let mut body = Some(run);
    PgTryBuilder::new(AssertUnwindSafe(|| {
        let Some(run) = body.take() else {
            return Ok(None);
        };
        let answer = run();
        saved.end(answer.is_ok());
        match answer {
            Err(Error::Conflict { .. }) => Ok(None),
            answer => answer.map(Some),
        }
    }))
    .catch_others(|caught| {
        saved.end(false);
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

/// Runs `run` and rolls back everything that it did. An error is passed on unchanged. The rollback releases the locks
/// acquired and frees PostgreSQL's memory, so the result must consist of Rust values only.
pub fn rolled_back<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    let saved = SavedState::begin();
    // SAFETY: this context is freed with the subtransaction, and end() switches back to the one that outlives it.
    unsafe { pg_sys::MemoryContextSwitchTo(pg_sys::CurTransactionContext) };
    let answer = catch_unwind(AssertUnwindSafe(run));
    // PostgreSQL keeps the error on its error stack, which the rollback does not touch.
    saved.end(false);
    answer.unwrap_or_else(|error| resume_unwind(error))
}
