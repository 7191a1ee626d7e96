//! Background workers that a transaction requests. They are registered just before it commits, and wait until it has
//! ended.

use std::cell::Cell;
use std::thread::LocalKey;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder};
use pgrx::prelude::*;
use pgrx::{PgXactCallbackEvent, register_xact_callback};

use super::transaction::{Attempted, command, override_database_settings};
use crate::pg::backend;

/// A kind of worker. `requested` is true if the current transaction has requested one.
pub struct Kind {
    pub name: &'static str,
    pub function: &'static str,
    pub requested: &'static LocalKey<Cell<bool>>,
}

impl Kind {
    /// Requests a worker for when the current transaction has ended, and passes it `payload`. If no worker slot is free
    /// at that point, none starts until another transaction requests one.
    pub fn request(&'static self, payload: u32) {
        if self.requested.replace(true) {
            return;
        }
        register_xact_callback(PgXactCallbackEvent::PreCommit, move || {
            self.requested.set(false);
            self.register(payload);
        });
        // COMMIT PREPARED may run in another session. The next request starts a worker.
        register_xact_callback(PgXactCallbackEvent::PrePrepare, || self.requested.set(false));
        register_xact_callback(PgXactCallbackEvent::Abort, || self.requested.set(false));
    }

    /// Starts a worker at once.
    pub fn start_now(&self, payload: u32) {
        self.register_after(pg_sys::InvalidTransactionId, payload);
    }

    fn register(&self, payload: u32) {
        // SAFETY: reads the backend's transaction state.
        self.register_after(unsafe { pg_sys::GetTopTransactionIdIfAny() }, payload);
    }

    fn register_after(&self, transaction: pg_sys::TransactionId, payload: u32) {
        let database = backend::database();
        let argument = (u64::from(database.to_u32()) << 32) | u64::from(payload);
        let _ = BackgroundWorkerBuilder::new(self.name)
            .set_type(self.name)
            .set_library("fluxbase_tenant")
            .set_function(self.function)
            .set_argument(Some(pg_sys::Datum::from(argument)))
            .set_extra(&transaction.into_inner().to_string())
            .set_restart_time(None)
            .enable_spi_access()
            .load_dynamic();
    }
}

/// Prepares a worker: connects it as the bootstrap superuser, waits until the requesting transaction has ended, and
/// returns the payload passed to `request`.
pub fn begin(argument: pg_sys::Datum) -> Attempted<u32> {
    super::worker::initialize();
    let argument = argument.value() as u64;
    let requester = BackgroundWorker::get_extra().parse::<u32>().unwrap_or(0);
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(pg_sys::Oid::from((argument >> 32) as u32)), None);
    command(|| {
        if requester != 0 {
            // SAFETY: the id of a transaction that was running when it requested this worker.
            unsafe {
                let none = pg_sys::XLTW_Oper::XLTW_None;
                pg_sys::XactLockTableWait(requester.into(), std::ptr::null_mut(), std::ptr::null_mut(), none);
            }
        }
        override_database_settings()
    })?;
    Ok(argument as u32)
}
