//! Where SQL of others runs: as a tenant's owner role, inside a security context that refuses to leave it.

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

/// Where the last statement was that a sandbox ran, for who records failures.
pub fn last_place() -> Option<String> {
    PLACE.with_borrow(Clone::clone)
}

pub fn forget_place() {
    PLACE.set(None);
}

/// While it lives, statements run as `owner`. SET ROLE and the like are refused, as are temporary tables, LISTEN, PREPARE and
/// cursors WITH HOLD; settings changed inside are undone when it drops, cursors opened inside are closed, and other temporary
/// objects that are left are an error.
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

    /// As `enter`, and policies that are forced on the owner do not apply, as in the server's checks of foreign keys.
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

    /// Runs one statement; `place` is added to the CONTEXT of any error it raises.
    pub fn run(&self, statement: &str, place: &str) -> Result<()> {
        self.count(statement, place).map(drop)
    }

    /// As `run`; how many rows the statement returned or changed.
    pub fn count(&self, statement: &str, place: &str) -> Result<u64> {
        at(place, || spi::execute_as_is(statement, false))
    }

    /// As `run`, for what the server would refuse inside a transaction.
    pub fn run_in_transaction(&self, statement: &str, place: &str) -> Result<()> {
        at(place, || single_command::run_in_transaction(statement))
    }
}

/// Runs one command of an owner outside a transaction block; settings are the session's. The caller has begun a
/// transaction, and goes on in another one.
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
        // After an error the end of the (sub)transaction closes them.
        if !std::thread::panicking()
            && let Err(error) = self.portals.close_others().and_then(|()| self.temporary.refuse_new())
        {
            ereport!(ERROR, error.sqlstate(), error.message());
        }
    }
}
