//! A scope with the privileges of the bootstrap superuser, for the extension's SQL on its own catalog and for
//! provisioning.
//!
//! The extension's functions open such a scope instead of being SECURITY DEFINER, because they must know which role
//! called them.

use std::marker::PhantomData;

use pgrx::prelude::*;

use super::security_context::{SecurityGuard, elevate};
use super::{guc, roles};
use crate::error::{Error, Result};

/// Which snapshot the statements of a scope use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// The active snapshot, which is the calling statement's. For STABLE functions: the scope cannot write, so it also
    /// works on a hot standby.
    Active,
    /// A snapshot for each statement, taken as the transaction's isolation level requires. For VOLATILE functions: the
    /// scope can write.
    Transaction,
    /// The latest snapshot, which shows what is committed now, at every isolation level. The scope cannot write.
    Latest,
}

/// While it lives, SQL runs as the bootstrap superuser under `search_path = pg_catalog, pg_temp`, inside one SPI
/// connection. Dropping it restores the caller's role, settings and security context.
pub struct Elevated {
    /// The role that was current when the scope was opened.
    caller: pg_sys::Oid,
    guard: Option<SecurityGuard>,
    snapshot: Snapshot,
    settings: Option<guc::Scope>,
    pushed_snapshot: bool,
    // The scope belongs to the stack on which it was opened.
    _not_send: PhantomData<*const ()>,
}

impl Elevated {
    /// Opens a scope: connects to SPI, becomes the bootstrap superuser and sets the search_path.
    pub fn open(snapshot: Snapshot) -> Result<Self> {
        // SAFETY: connects this backend to SPI. An error unwinds before anything else has changed.
        if unsafe { pg_sys::SPI_connect() } != pg_sys::SPI_OK_CONNECT as i32 {
            return Err(Error::internal("SPI_connect failed"));
        }
        // Undone by Drop and, in any case, when the transaction aborts.
        let mut scope = Elevated {
            caller: roles::current(),
            guard: Some(elevate()),
            snapshot,
            settings: None,
            pushed_snapshot: false,
            _not_send: PhantomData,
        };
        let settings = scope.settings.insert(guc::Scope::open());
        settings.set(c"search_path", "pg_catalog, pg_temp")?;
        // The caller's settings must not affect how the extension's SQL is parsed, or the names that PostgreSQL prints
        // for it.
        // SAFETY: reads two backend-local variables.
        let (plain_strings, all_quoted) =
            unsafe { (pg_sys::standard_conforming_strings, pg_sys::quote_all_identifiers) };
        if !plain_strings {
            settings.set(c"standard_conforming_strings", "on")?;
        }
        if all_quoted {
            settings.set(c"quote_all_identifiers", "off")?;
        }
        if snapshot == Snapshot::Transaction {
            plan_for_large_catalogs(settings)?;
        }
        // SAFETY: Drop or the abort of the transaction pops the snapshot. PostgreSQL refuses to take a new one in
        // parallel mode, where the active one is used instead.
        unsafe {
            if snapshot == Snapshot::Latest && !(pg_sys::IsInParallelMode() && pg_sys::ActiveSnapshotSet()) {
                pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
                scope.pushed_snapshot = true;
            }
        }
        Ok(scope)
    }

    /// Makes the scope plan its queries for large system catalogs, as scopes that can write always do.
    pub fn with_plans_for_large_catalogs(self) -> Result<Self> {
        self.settings.as_ref().map_or(Ok(()), plan_for_large_catalogs)?;
        Ok(self)
    }

    /// Returns the role that called the extension. Its memberships decide whether the caller is an instance admin.
    pub fn caller(&self) -> pg_sys::Oid {
        self.caller
    }

    pub fn snapshot(&self) -> Snapshot {
        self.snapshot
    }
}

/// Rules out sequential scans. Plans are kept, and one made while the system catalogs were small would still scan them
/// sequentially when they are large.
fn plan_for_large_catalogs(settings: &guc::Scope) -> Result<()> {
    settings.set(c"enable_seqscan", "off")?;
    settings.set(c"plan_cache_mode", "force_generic_plan")
}

impl Drop for Elevated {
    fn drop(&mut self) {
        self.settings = None;
        self.guard = None;
        // SAFETY: undoes what open() did. After an error, SPI's stack may hold connections above this one, and
        // SPI_finish() would pop one of those. The end of the (sub)transaction cleans them all up instead.
        unsafe {
            if !std::thread::panicking() {
                if self.pushed_snapshot {
                    pg_sys::PopActiveSnapshot();
                }
                pg_sys::SPI_finish();
            }
        }
    }
}
