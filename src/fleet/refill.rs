//! Keeps spare tenants ready: a transaction that created a tenant asks for a worker as it commits.

use std::cell::Cell;

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder};
use pgrx::prelude::*;
use pgrx::{PgXactCallbackEvent, register_xact_callback};

use super::leader::database;
use super::transaction::{command, transaction};
use super::worker::accept_signals;
use crate::catalog::Catalog;
use crate::pg::locks::ObjectLock;
use crate::settings;
use crate::tenancy::{self, Filled};

thread_local! {
    /// Whether this transaction has asked already.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Where fluxbase_tenant.spare_tenants says so.
pub fn after_commit() {
    let wanted = settings::spare_tenants();
    if wanted == 0 || ASKED.replace(true) {
        return;
    }
    register_xact_callback(PgXactCallbackEvent::PreCommit, move || {
        ASKED.set(false);
        start(wanted);
    });
    register_xact_callback(PgXactCallbackEvent::PrePrepare, || ASKED.set(false));
    register_xact_callback(PgXactCallbackEvent::Abort, || ASKED.set(false));
}

/// Without a free worker the next tenant that is created asks again.
fn start(wanted: i32) {
    // SAFETY: reads a variable of the backend.
    let transaction = unsafe { pg_sys::GetTopTransactionIdIfAny() };
    let argument = (u64::from(database().to_u32()) << 32) | u64::from(wanted.unsigned_abs());
    let _ = BackgroundWorkerBuilder::new("fluxbase_tenant spares")
        .set_type("fluxbase_tenant spares")
        .set_library("fluxbase_tenant")
        .set_function("fluxbase_tenant_spares_worker")
        .set_argument(Some(pg_sys::Datum::from(argument)))
        .set_extra(&transaction.into_inner().to_string())
        .set_restart_time(None)
        .enable_spi_access()
        .load_dynamic();
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fluxbase_tenant_spares_worker(argument: pg_sys::Datum) {
    accept_signals();
    let argument = argument.value() as u64;
    let (database, wanted) = (pg_sys::Oid::from((argument >> 32) as u32), (argument & 0x7fff_ffff) as i32);
    let asker = BackgroundWorker::get_extra().parse::<u32>().unwrap_or(0);
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(database), None);
    // What the asker took is taken once it has committed.
    let waited = command(|| {
        if asker != 0 {
            // SAFETY: a transaction that was running when it asked for this worker.
            unsafe {
                let none = pg_sys::XLTW_Oper::XLTW_None;
                pg_sys::XactLockTableWait(asker.into(), std::ptr::null_mut(), std::ptr::null_mut(), none);
            }
        }
        Ok(())
    });
    if waited.is_err() {
        return;
    }
    // One worker at a time is enough. What is taken while it has the lock, it sees once it has let go.
    while transaction(|| Ok(lock().hold(false))).unwrap_or(false) {
        let filled = fill(wanted);
        let let_go = transaction(|| {
            lock().release();
            Ok(())
        });
        let more =
            filled && let_go.is_ok() && transaction(|| tenancy::is_short(&Catalog::latest()?, wanted)).unwrap_or(false);
        if !more {
            return;
        }
    }
}

fn lock() -> ObjectLock {
    ObjectLock::of_extension()
}

/// False where it cannot be done: the server's log says why.
fn fill(wanted: i32) -> bool {
    let mut filled = Filled::default();
    loop {
        match transaction(|| tenancy::fill_one(&Catalog::write()?, wanted, &mut filled)) {
            Ok(true) => {}
            Ok(false) => return true,
            Err(failure) => {
                ereport!(
                    LOG,
                    PgSqlErrorCode::ERRCODE_WARNING,
                    format!("fluxbase_tenant could not make a spare tenant: {}", failure.message)
                );
                return false;
            }
        }
    }
}
