//! Keeps spare tenants ready: a transaction that creates a tenant starts a worker when it commits.

use std::cell::Cell;

use pgrx::prelude::*;

use super::at_commit::{self, Kind};
use super::transaction::transaction;
use crate::catalog::Catalog;
use crate::pg::guc::{self, Lifetime};
use crate::pg::locks::ObjectLock;
use crate::settings;
use crate::tenants::{self, Filled};

/// Limit on each wait for a lock that a migration acquires outside the spare's schema. While the worker waits, other
/// sessions queue behind it. If it gives up, the next call of tenant_create() starts another worker.
const LOCK_TIMEOUT: &str = "2s";

thread_local! {
    static REQUESTED: Cell<bool> = const { Cell::new(false) };
}

static SPARES: Kind =
    Kind { name: "fluxbase_tenant spares", function: "fluxbase_tenant_spares_worker", requested: &REQUESTED };

/// Starts a worker when the transaction commits, if fluxbase_tenant.spare_tenants is greater than 0.
pub fn after_commit() {
    if let Ok(wanted @ 1..) = u32::try_from(settings::spare_tenants()) {
        SPARES.request(wanted);
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fluxbase_tenant_spares_worker(argument: pg_sys::Datum) {
    // Wait for the requesting transaction to end. Until then, the spare that it uses still counts as one.
    let Ok(wanted) = at_commit::begin(argument) else {
        return;
    };
    let wanted = wanted as i32;
    // Only one worker runs at a time. A worker that starts while this one holds the lock ends at once, so this one
    // counts the spares again after it has released the lock.
    while transaction(|| Ok(lock().hold(false))).unwrap_or(false) {
        let filled = fill(wanted);
        let released = transaction(|| {
            lock().release();
            Ok(())
        });
        let more = filled
            && released.is_ok()
            && transaction(|| tenants::is_short(&Catalog::latest()?, wanted)).unwrap_or(false);
        if !more {
            return;
        }
    }
}

fn lock() -> ObjectLock {
    ObjectLock::of_spares()
}

/// Creates and migrates spare tenants until there are as many as wanted. Returns false if that fails, and logs the
/// reason.
fn fill(wanted: i32) -> bool {
    let mut filled = Filled::default();
    let mut next = || {
        guc::set(c"lock_timeout", LOCK_TIMEOUT, Lifetime::Transaction)?;
        tenants::fill_one(&Catalog::write()?, wanted, &mut filled)
    };
    loop {
        match transaction(&mut next) {
            Ok(true) => {}
            Ok(false) => return true,
            Err(failure) => {
                ereport!(
                    LOG,
                    PgSqlErrorCode::ERRCODE_WARNING,
                    format!("fluxbase_tenant could not create a spare tenant: {}", failure.message)
                );
                return false;
            }
        }
    }
}
