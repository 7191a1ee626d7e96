//! Where SQL of others runs: as a tenant's owner role, inside a security context that refuses to leave it.

use std::cell::RefCell;
use std::ffi::CStr;
use std::marker::PhantomData;

use pgrx::prelude::*;

use super::{alone, context, guc, spi};
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

/// While it lives, statements run as `owner`. SET ROLE and its kin are refused, as are temporary tables, LISTEN,
/// PREPARE and cursors that would outlive it; settings changed inside are undone when it drops.
pub struct Sandbox {
    previous_role: pg_sys::Oid,
    previous_context: i32,
    settings: Option<guc::Scope>,
    _not_send: PhantomData<*const ()>,
}

impl Sandbox {
    pub fn enter(owner: pg_sys::Oid, settings: &[(&CStr, &str)]) -> Result<Self> {
        let mut previous_role = pg_sys::InvalidOid;
        let mut previous_context = 0;
        // SAFETY: reads two variables of the backend into locals.
        unsafe { pg_sys::GetUserIdAndSecContext(&mut previous_role, &mut previous_context) };
        let scope = guc::Scope::open();
        for (name, value) in settings {
            scope.set(name, value)?;
        }
        let restricted = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;
        // SAFETY: undone by Drop, and by transaction abort whatever happens.
        unsafe { pg_sys::SetUserIdAndSecContext(owner, previous_context | restricted as i32) };
        Ok(Sandbox { previous_role, previous_context, settings: Some(scope), _not_send: PhantomData })
    }

    /// As `enter`, and policies that are forced on the owner do not apply, as in the server's checks of foreign keys.
    pub fn enter_unforced(owner: pg_sys::Oid, settings: &[(&CStr, &str)]) -> Result<Self> {
        let sandbox = Sandbox::enter(owner, settings)?;
        let mut role = pg_sys::InvalidOid;
        let mut context = 0;
        // SAFETY: reads what enter() set, and adds to it; undone by Drop.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut role, &mut context);
            pg_sys::SetUserIdAndSecContext(role, context | pg_sys::SECURITY_NOFORCE_RLS as i32);
        }
        Ok(sandbox)
    }

    /// Runs one statement; `place` is added to the CONTEXT of any error it raises.
    pub fn run(&self, statement: &str, place: &str) -> Result<()> {
        at(place, || spi::execute_as_is(statement, false))
    }

    /// As `run`, for what the server would refuse inside a transaction.
    pub fn run_inside(&self, statement: &str, place: &str) -> Result<()> {
        at(place, || alone::run_inside(statement))
    }
}

/// Runs one command of an owner outside a transaction block; settings are the session's. The caller has begun a
/// transaction, and goes on in another one.
pub fn run_outside(owner: pg_sys::Oid, statement: &str, change: alone::Change, place: &str) -> Result<()> {
    let _as_owner = ActingAs::role_restricted(owner);
    at(place, || alone::run_outside(statement, change))
}

fn at(place: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    PLACE.set(Some(place.to_string()));
    context::at(place, run)
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // SAFETY: what enter() found.
        unsafe { pg_sys::SetUserIdAndSecContext(self.previous_role, self.previous_context) };
        self.settings = None;
    }
}

/// While it lives, code runs as the role and cannot leave it; what it may do with its rights is not restricted further.
pub(super) struct ActingAs {
    previous_role: pg_sys::Oid,
    previous_context: i32,
}

impl ActingAs {
    pub(super) fn role(role: pg_sys::Oid) -> Self {
        ActingAs::with(role, pg_sys::SECURITY_LOCAL_USERID_CHANGE)
    }

    /// And cannot do what would outlast it in the session.
    fn role_restricted(role: pg_sys::Oid) -> Self {
        ActingAs::with(role, pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION)
    }

    fn with(role: pg_sys::Oid, restrictions: u32) -> Self {
        let mut previous_role = pg_sys::InvalidOid;
        let mut previous_context = 0;
        // SAFETY: reads two variables of the backend into locals; what is set is undone by Drop.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut previous_role, &mut previous_context);
            pg_sys::SetUserIdAndSecContext(role, previous_context | restrictions as i32);
        }
        ActingAs { previous_role, previous_context }
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        // SAFETY: what role() found.
        unsafe { pg_sys::SetUserIdAndSecContext(self.previous_role, self.previous_context) };
    }
}
