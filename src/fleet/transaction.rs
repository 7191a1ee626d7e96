//! Transactions of a background worker, which return errors as results.

use std::cell::RefCell;

use pgrx::PgTryBuilder;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::guc::{self, Lifetime};
use crate::pg::locks::ObjectLock;
use crate::pg::{SecurityContext, sandbox};

/// Why a transaction was rolled back.
pub struct Failure {
    pub sqlstate: String,
    pub message: String,
    pub place: Option<String>,
    /// Whether another attempt may succeed, because a lock was not available or transactions conflicted.
    pub is_transient: bool,
}

pub type Attempted<T> = std::result::Result<T, Failure>;

thread_local! {
    static HELD: RefCell<Vec<ObjectLock>> = const { RefCell::new(Vec::new()) };
}

/// Acquires the lock until `release_held`, and reports whether it is held. If another session holds it, waits only if
/// `wait` is true. PostgreSQL releases session-level locks when a transaction aborts, so the next transaction acquires
/// the lock again.
pub fn hold_for_session(lock: ObjectLock, wait: bool) -> bool {
    let is_held = lock.hold(wait);
    if is_held {
        HELD.with_borrow_mut(|held| held.push(lock));
    }
    is_held
}

/// Releases all locks that `hold_for_session` acquired.
pub fn release_held() {
    HELD.take().iter().for_each(ObjectLock::release);
}

fn reacquire_held() {
    HELD.with_borrow(|held| {
        for lock in held.iter().filter(|lock| !lock.is_held()) {
            // If the leader is testing the lock at this moment, the next transaction acquires it.
            lock.hold(false);
        }
    });
}

/// Overrides settings with which the owner of a database could make workers fail: default_transaction_read_only, and
/// restrict_nonsystem_relation_kind, which can forbid the use of views.
pub fn override_database_settings() -> Result<()> {
    guc::set(c"default_transaction_read_only", "off", Lifetime::Session)?;
    match guc::get("restrict_nonsystem_relation_kind")? {
        None => Ok(()),
        Some(_) => guc::set(c"restrict_nonsystem_relation_kind", "", Lifetime::Session),
    }
}

/// Runs a transaction. Any error rolls it back and is returned.
pub fn transaction<T>(run: impl FnOnce() -> Result<T>) -> Attempted<T> {
    caught(|| {
        // SAFETY: in a transaction. `run` leaves the stack of active snapshots as it was, so the pop below removes this
        // snapshot.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
        let answer = run()?;
        // SAFETY: as above.
        unsafe { pg_sys::PopActiveSnapshot() };
        Ok(answer)
    })
}

/// Runs a command that begins and ends transactions itself. An error is returned, as by `transaction`.
pub fn command(run: impl FnOnce() -> Result<()>) -> Attempted<()> {
    caught(run)
}

fn caught<T>(run: impl FnOnce() -> Result<T>) -> Attempted<T> {
    let mut answer = None;
    let mut body = Some(run);
    let began_as = SecurityContext::now();
    let failure = PgTryBuilder::new(std::panic::AssertUnwindSafe(|| {
        // SAFETY: the worker is between transactions, and the abort below ends a transaction that an error leaves open.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
        }
        reacquire_held();
        match (body.take()?)() {
            Ok(value) => {
                // SAFETY: commits the transaction started above, or the last one that the command started.
                unsafe { pg_sys::CommitTransactionCommand() };
                answer = Some(value);
                None
            }
            Err(error) => Some(Failure::from_error(&error)),
        }
    }))
    .catch_others(|caught| Some(Failure::from_caught(&caught)))
    .execute();
    match (failure, answer) {
        (None, Some(answer)) => Ok(answer),
        (failure, _) => {
            // SAFETY: ends the transaction that the error left open.
            unsafe { pg_sys::AbortCurrentTransaction() };
            // The abort restores the security context in which the last transaction started. That can be the owner's:
            // a command that runs in its own transactions starts them as the owner.
            began_as.set();
            Err(failure.unwrap_or_else(|| Failure::from_error(&Error::internal("transaction ended without a result"))))
        }
    }
}

impl Failure {
    fn new(code: PgSqlErrorCode, message: &str) -> Self {
        use PgSqlErrorCode::*;
        Failure {
            sqlstate: sqlstate_text(code),
            message: message.to_string(),
            place: sandbox::last_place(),
            is_transient: matches!(
                code,
                ERRCODE_LOCK_NOT_AVAILABLE | ERRCODE_T_R_DEADLOCK_DETECTED | ERRCODE_T_R_SERIALIZATION_FAILURE
            ),
        }
    }

    pub fn from_error(error: &Error) -> Self {
        Failure::new(error.sqlstate(), &error.message())
    }

    fn from_caught(caught: &CaughtError) -> Self {
        let report = match caught {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
            CaughtError::RustPanic { ereport, .. } => ereport,
        };
        Failure::new(report.sql_error_code(), report.message())
    }
}

/// Unpacks an SQLSTATE, which PostgreSQL packs as five characters of six bits each.
fn sqlstate_text(code: PgSqlErrorCode) -> String {
    let code = code as i32;
    (0..5).map(|i| char::from(((code >> (6 * i)) & 0x3f) as u8 + b'0')).collect()
}
