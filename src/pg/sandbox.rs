//! The sandbox for untrusted SQL: a security-restricted operation as the role that owns the tenant schema or the table.
//! The SQL cannot leave it.

use std::cell::RefCell;
use std::ffi::CStr;
use std::marker::PhantomData;

use pgrx::prelude::*;

use super::portals::Portals;
use super::security_context::{SecurityContext, SecurityGuard};
use super::temporary::Temporary;
use super::{context, guc, single_command, spi};
use crate::error::Result;

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Returns the place of the last statement that a sandbox ran, for the record of a failure.
pub fn last_place() -> Option<String> {
    PLACE.with_borrow(Clone::clone)
}

pub fn forget_place() {
    PLACE.set(None);
}

/// While it lives, statements run as the role passed to `enter`. PostgreSQL refuses SET ROLE and the like, temporary
/// tables, LISTEN, PREPARE and cursors WITH HOLD. When the sandbox drops, it restores the settings that were changed
/// inside and closes the cursors that were opened inside. If other temporary objects remain, it raises an error.
pub struct Sandbox {
    guard: Option<SecurityGuard>,
    settings: Option<guc::Scope>,
    portals: Portals,
    temporary: Temporary,
    _not_send: PhantomData<*const ()>,
}

impl Sandbox {
    pub fn enter(owner: pg_sys::Oid, settings: &[(&CStr, &str)]) -> Result<Self> {
        Sandbox::enter_context(SecurityContext::now().restricted_to(owner), settings)
    }

    /// Enters the sandbox with FORCE ROW LEVEL SECURITY ignored, as in PostgreSQL's foreign-key checks.
    pub fn enter_unforced(owner: pg_sys::Oid, settings: &[(&CStr, &str)]) -> Result<Self> {
        Sandbox::enter_context(SecurityContext::now().restricted_to(owner).with_policies_unforced(), settings)
    }

    fn enter_context(context: SecurityContext, settings: &[(&CStr, &str)]) -> Result<Self> {
        let portals = Portals::now()?;
        let temporary = Temporary::now()?;
        let scope = guc::Scope::open();
        for (name, value) in settings {
            scope.set(name, value)?;
        }
        Ok(Sandbox { guard: Some(context.enter()), settings: Some(scope), portals, temporary, _not_send: PhantomData })
    }

    /// Runs one statement. Adds `place` to the CONTEXT of any error that it raises.
    pub fn run(&self, statement: &str, place: &str) -> Result<()> {
        self.count(statement, place).map(drop)
    }

    /// Runs one statement as `run` does, and returns how many rows the statement returned or changed.
    pub fn count(&self, statement: &str, place: &str) -> Result<u64> {
        at(place, || spi::execute_as_is(statement, false))
    }

    /// Runs a command that PostgreSQL refuses inside a transaction block: see `single_command::run_in_transaction`.
    pub fn run_in_transaction(&self, statement: &str, place: &str) -> Result<()> {
        at(place, || single_command::run_in_transaction(statement))
    }
}

/// Runs one command as `owner` outside a transaction block, with the session's settings. The caller must have begun a
/// transaction. The command may end it, and leaves another one open.
pub fn run_out_of_transaction(
    owner: pg_sys::Oid,
    statement: &str,
    change: single_command::Change,
    place: &str,
) -> Result<()> {
    let _as_owner = SecurityContext::now().restricted_to(owner).enter();
    at(place, || single_command::run_out_of_transaction(statement, change))
}

fn at<T>(place: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
    PLACE.set(Some(place.to_string()));
    context::at(place, run)
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.guard = None;
        self.settings = None;
        // After an error, the end of the (sub)transaction closes the cursors and drops the temporary objects.
        if !std::thread::panicking()
            && let Err(error) = self.portals.close_new().and_then(|()| self.temporary.refuse_new())
        {
            ereport!(ERROR, error.sqlstate(), error.message());
        }
    }
}
