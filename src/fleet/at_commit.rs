//! Background workers that a transaction asks for and that start as it commits.

use std::cell::Cell;
use std::thread::LocalKey;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder};
use pgrx::prelude::*;
use pgrx::{PgXactCallbackEvent, register_xact_callback};

use super::transaction::{Attempted, command, write_whatever_the_database_says};
use crate::pg::backend;

/// A kind of worker. `asked`: whether this transaction has asked already.
pub struct Kind {
    pub name: &'static str,
    pub function: &'static str,
    pub asked: &'static LocalKey<Cell<bool>>,
}

impl Kind {
    /// `number` is for the worker, with the database. Without a free worker the next transaction that asks has better luck.
    pub fn start(&'static self, number: u32) {
        if self.asked.replace(true) {
            return;
        }
        register_xact_callback(PgXactCallbackEvent::PreCommit, move || {
            self.asked.set(false);
            self.register(number);
        });
        register_xact_callback(PgXactCallbackEvent::PrePrepare, || self.asked.set(false));
        register_xact_callback(PgXactCallbackEvent::Abort, || self.asked.set(false));
    }

    /// Without a transaction to wait for.
    pub fn start_now(&self, number: u32) {
        self.register_after(pg_sys::InvalidTransactionId, number);
    }

    fn register(&self, number: u32) {
        // SAFETY: reads a variable of the backend.
        self.register_after(unsafe { pg_sys::GetTopTransactionIdIfAny() }, number);
    }

    fn register_after(&self, transaction: pg_sys::TransactionId, number: u32) {
        let database = backend::database();
        let argument = (u64::from(database.to_u32()) << 32) | u64::from(number);
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

/// What the worker does first: connects as the superuser, and waits until the transaction that asked has ended. The number.
pub fn begin(argument: pg_sys::Datum) -> Attempted<u32> {
    super::worker::settle_in();
    let argument = argument.value() as u64;
    let asker = BackgroundWorker::get_extra().parse::<u32>().unwrap_or(0);
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(pg_sys::Oid::from((argument >> 32) as u32)), None);
    command(|| {
        if asker != 0 {
            // SAFETY: a transaction that was running when it asked for this worker.
            unsafe {
                let none = pg_sys::XLTW_Oper::XLTW_None;
                pg_sys::XactLockTableWait(asker.into(), std::ptr::null_mut(), std::ptr::null_mut(), none);
            }
        }
        write_whatever_the_database_says()
    })?;
    Ok(argument as u32)
}
