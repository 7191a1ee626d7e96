//! Keeps spare tenants ready: a transaction that created a tenant asks for a worker as it commits.

use std::cell::Cell;

use pgrx::prelude::*;

use super::at_commit::{self, Kind};
use super::transaction::transaction;
use crate::catalog::Catalog;
use crate::pg::guc::{self, Lifetime};
use crate::pg::locks::ObjectLock;
use crate::settings;
use crate::tenants::{self, Filled};

/// For locks that migrations want elsewhere: others wait behind it. The next tenant that is created asks again.
const LOCK_TIMEOUT: &str = "2s";

thread_local! {
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

static SPARES: Kind = Kind { name: "fluxbase_tenant spares", function: "fluxbase_tenant_spares_worker", asked: &ASKED };

/// Where fluxbase_tenant.spare_tenants says so.
pub fn after_commit() {
    if let Ok(wanted @ 1..) = u32::try_from(settings::spare_tenants()) {
        SPARES.start(wanted);
    }
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fluxbase_tenant_spares_worker(argument: pg_sys::Datum) {
    // What the asker took is taken once it has committed.
    let Ok(wanted) = at_commit::begin(argument) else {
        return;
    };
    let wanted = wanted as i32;
    // One worker at a time is enough. What is taken while it has the lock, it sees once it has let go.
    while transaction(|| Ok(lock().hold(false))).unwrap_or(false) {
        let filled = fill(wanted);
        let let_go = transaction(|| {
            lock().release();
            Ok(())
        });
        let more =
            filled && let_go.is_ok() && transaction(|| tenants::is_short(&Catalog::latest()?, wanted)).unwrap_or(false);
        if !more {
            return;
        }
    }
}

fn lock() -> ObjectLock {
    ObjectLock::of_spares()
}

/// False where it cannot be done: the server's log says why.
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
                    format!("fluxbase_tenant could not make a spare tenant: {}", failure.message)
                );
                return false;
            }
        }
    }
}
