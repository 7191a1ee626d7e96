//! Transactions of a background worker, whose errors become results.

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
    /// Whether another attempt may succeed: a lock was not to be had.
    pub may_pass: bool,
}

pub type Attempted<T> = std::result::Result<T, Failure>;

thread_local! {
    static KEPT: RefCell<Vec<ObjectLock>> = const { RefCell::new(Vec::new()) };
}

/// Takes the lock for the rest of the session, if nobody has it or when they let go: the server gives back what a session
/// holds when one of its transactions aborts, and the next one takes it again.
pub fn keep(lock: ObjectLock, wait: bool) -> bool {
    let is_held = lock.hold(wait);
    if is_held {
        KEPT.with_borrow_mut(|kept| kept.push(lock));
    }
    is_held
}

/// Gives all such locks back.
pub fn give_back() {
    KEPT.take().iter().for_each(ObjectLock::release);
}

fn take_again() {
    KEPT.with_borrow(|kept| {
        for lock in kept.iter().filter(|lock| !lock.is_held()) {
            lock.hold(false);
        }
    });
}

/// The owner of a database may have its transactions read only, and views hidden.
pub fn write_whatever_the_database_says() -> Result<()> {
    guc::set(c"default_transaction_read_only", "off", Lifetime::Session)?;
    match guc::get("restrict_nonsystem_relation_kind")? {
        None => Ok(()),
        Some(_) => guc::set(c"restrict_nonsystem_relation_kind", "", Lifetime::Session),
    }
}

/// Runs a transaction; an error of the server or of ours rolls it back and becomes the result.
pub fn transaction<T>(run: impl FnOnce() -> Result<T>) -> Attempted<T> {
    caught(|| {
        // SAFETY: the snapshot pushed is the active one again when it is popped.
        unsafe { pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot()) };
        let answer = run()?;
        // SAFETY: as above.
        unsafe { pg_sys::PopActiveSnapshot() };
        Ok(answer)
    })
}

/// The same for a command that begins and ends transactions itself.
pub fn command(run: impl FnOnce() -> Result<()>) -> Attempted<()> {
    caught(run)
}

fn caught<T>(run: impl FnOnce() -> Result<T>) -> Attempted<T> {
    let mut answer = None;
    let mut body = Some(run);
    let began_as = SecurityContext::now();
    let failure = PgTryBuilder::new(std::panic::AssertUnwindSafe(|| {
        // SAFETY: a worker between transactions; the abort below ends whatever an error leaves open.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
        }
        take_again();
        match (body.take()?)() {
            Ok(value) => {
                // SAFETY: the transaction begun above, or the last one that the command began.
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
            // SAFETY: ends the transaction that the error left.
            unsafe { pg_sys::AbortCurrentTransaction() };
            // To as whom the transaction began: one that a command began as its owner ends as that one.
            began_as.set();
            Err(failure.unwrap_or_else(|| Failure::from_error(&Error::internal("a transaction without a result"))))
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
            may_pass: matches!(
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

/// Five characters of six bits each, as the server packs them.
fn sqlstate_text(code: PgSqlErrorCode) -> String {
    let code = code as i32;
    (0..5).map(|i| char::from(((code >> (6 * i)) & 0x3f) as u8 + b'0')).collect()
}
