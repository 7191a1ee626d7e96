//! Code that runs as a tenant's owner role is that tenant's: index expressions, defaults and materialized views under a
//! superuser's maintenance, and SECURITY DEFINER functions.

use std::cell::Cell;

use pgrx::{Uuid, pg_sys};

use crate::catalog::changes;
use crate::ids;
use crate::pg::roles;

thread_local! {
    /// The role that was asked about last, and what roles were then.
    static OWNED: Cell<(pg_sys::Oid, u64, Option<Uuid>)> = const { Cell::new((pg_sys::InvalidOid, 0, None)) };
    /// When the transaction began in which the library was loaded by code that ran as another role than the session's.
    static LOADED_LATE: Cell<Option<pg_sys::TimestampTz>> = const { Cell::new(None) };
}

/// Once per backend, from _PG_init. Before the library is loaded nobody is kept from calling a tenant's SECURITY DEFINER
/// function: one that loads it is not trusted to have been called by who may.
pub fn note_loading() {
    // SAFETY: reads variables of the backend.
    unsafe {
        if pg_sys::IsTransactionState() && roles::current() != roles::outer() && pg_sys::ParallelWorkerNumber < 0 {
            LOADED_LATE.set(Some(pg_sys::GetCurrentTransactionStartTimestamp()));
        }
    }
}

/// The tenant that code works for which runs as this role now.
pub fn tenant_of(role: pg_sys::Oid) -> Option<Uuid> {
    if role != roles::current() {
        return None;
    }
    let changes = changes::of_roles();
    let (known, then, tenant) = OWNED.get();
    let tenant = if known == role && then == changes {
        tenant
    } else {
        let tenant = ids::of_owner_role(&roles::name(role));
        if changes::of_roles() == changes {
            OWNED.set((role, changes, tenant));
        }
        tenant
    };
    tenant.filter(|_| !is_loaded_late())
}

fn is_loaded_late() -> bool {
    // SAFETY: reads a variable of the backend.
    LOADED_LATE.get().is_some_and(|then| then == unsafe { pg_sys::GetCurrentTransactionStartTimestamp() })
}
