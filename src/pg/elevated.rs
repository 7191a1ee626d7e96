//! A scope with the rights of the extension, for its own SQL on its own catalog and for provisioning.
//!
//! The functions are SECURITY INVOKER on purpose: they must see who calls, which a SECURITY DEFINER function cannot.

use std::marker::PhantomData;

use pgrx::prelude::*;

use super::security_context::{SecurityGuard, elevate};
use super::{guc, roles};
use crate::error::{Error, Result};

/// What the statements of a scope see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Snapshot {
    /// The active one, of the calling statement: for STABLE functions; writes nothing, so it works on a hot standby.
    Active,
    /// The transaction's, as the server takes one for a statement at this isolation level: for VOLATILE functions.
    Transaction,
    /// The latest: what is committed now, at every isolation level; reads only.
    Latest,
}

/// While it lives, SQL runs as the bootstrap superuser under `search_path = pg_catalog, pg_temp`, inside one SPI
/// connection. Dropping it puts the caller's role, settings and security context back.
pub struct Elevated {
    /// The role that called.
    caller: pg_sys::Oid,
    guard: Option<SecurityGuard>,
    snapshot: Snapshot,
    settings: Option<guc::Scope>,
    pushed_snapshot: bool,
    // The scope belongs to the stack it was opened on.
    _not_send: PhantomData<*const ()>,
}

impl Elevated {
    pub fn open(snapshot: Snapshot) -> Result<Self> {
        // SAFETY: connects this backend to SPI; an error unwinds before anything was changed.
        if unsafe { pg_sys::SPI_connect() } != pg_sys::SPI_OK_CONNECT as i32 {
            return Err(Error::internal("SPI_connect failed"));
        }
        // Undone by Drop, and by transaction abort whatever happens.
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
        // How our own SQL reads, and what it reads of the server's, is not the caller's to change.
        // SAFETY: reads two variables of the backend.
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
        // SAFETY: the server refuses to take a new snapshot in parallel mode, where the one in force has to do. The push
        // is undone by Drop, or by the abort of the transaction.
        unsafe {
            if snapshot == Snapshot::Latest && !(pg_sys::IsInParallelMode() && pg_sys::ActiveSnapshotSet()) {
                pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
                scope.pushed_snapshot = true;
            }
        }
        Ok(scope)
    }

    /// As scopes that write do: for queries on the server's catalogs.
    pub fn with_plans_for_large_catalogs(self) -> Result<Self> {
        self.settings.as_ref().map_or(Ok(()), plan_for_large_catalogs)?;
        Ok(self)
    }

    /// The role that called, whose membership decides about instance admins.
    pub fn caller(&self) -> pg_sys::Oid {
        self.caller
    }

    pub fn snapshot(&self) -> Snapshot {
        self.snapshot
    }
}

/// Plans are kept, and those made while the server's catalogs were small would scan them when they are large.
fn plan_for_large_catalogs(settings: &guc::Scope) -> Result<()> {
    settings.set(c"enable_seqscan", "off")?;
    settings.set(c"plan_cache_mode", "force_generic_plan")
}

impl Drop for Elevated {
    fn drop(&mut self) {
        self.settings = None;
        self.guard = None;
        // SAFETY: what open() did. After an error SPI's stack may hold connections above this one, and the end of the
        // (sub)transaction cleans them all; finishing here would pop somebody else's.
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
