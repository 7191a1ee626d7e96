//! SECURITY DEFINER functions that are running, and who called them.
//!
//! A superuser's session reaches every tenant, and does not vouch for code of others that it runs: maintenance, such as ANALYZE, runs the
//! functions of a table as its owner, and these may come by a tenant's functions.

use std::cell::RefCell;
use std::collections::HashSet;

use foldhash::fast::RandomState;
use pgrx::pg_sys;

use super::owner_roles;
use super::sandbox_identity::is_sandboxed;
use crate::pg::{own_transaction, roles, security_context};

thread_local! {
    /// Their owners, the last begun last.
    static RUNNING: RefCell<Vec<pg_sys::Oid>> = const { RefCell::new(Vec::new()) };
    /// Functions that code of an owner role calls in maintenance, and in which transaction: ANALYZE has one for each table.
    static CALLED_BY_OWNERS: RefCell<(pg_sys::LocalTransactionId, HashSet<pg_sys::Oid, RandomState>)> = RefCell::default();
}

pub fn is_any() -> bool {
    RUNNING.with_borrow(|running| !running.is_empty())
}

/// The owner of the one that was begun last.
pub fn running() -> Option<pg_sys::Oid> {
    RUNNING.with_borrow(|running| running.last().copied())
}

/// Whether what is said of their owners is so of all.
pub fn are_all(is_so: impl Fn(pg_sys::Oid) -> bool) -> bool {
    RUNNING.with_borrow(|running| running.iter().all(|owner| is_so(*owner)))
}

pub fn begin(owner: pg_sys::Oid) {
    RUNNING.with_borrow_mut(|running| running.push(owner));
}

pub fn end() {
    RUNNING.with_borrow_mut(|running| running.pop());
}

/// Called as an expression with a function is prepared, which the current role may call.
pub fn note_call(function: pg_sys::Oid) {
    if owner_roles::tenant_of(roles::current()).is_some() && roles::bypasses_policies(roles::outer()) {
        CALLED_BY_OWNERS.with_borrow_mut(|(within, called)| {
            if *within != own_transaction() {
                called.clear();
                *within = own_transaction();
            }
            called.insert(function);
        });
    }
}

/// Called as a command begins: what is called in it is called by whoever owns what it maintains.
pub fn begin_command() {
    CALLED_BY_OWNERS.with_borrow_mut(|(_, called)| called.clear());
}

/// Whether a function of a tenant's owner role may begin, for all that the session says. In maintenance it is called by that role's own
/// code: an expression, or another function of the role's. A trigger there, or what a type of a stranger calls, is not.
pub fn may_begin(function: pg_sys::Oid, owner: pg_sys::Oid) -> bool {
    is_own_doing(owner)
        || CALLED_BY_OWNERS.with_borrow(|(within, called)| *within == own_transaction() && called.contains(&function))
}

/// Whether code that runs as a tenant's owner role does so on its own account.
pub fn is_own_doing(owner: pg_sys::Oid) -> bool {
    is_sandboxed()
        || !security_context::is_called_in_maintenance()
        || !roles::bypasses_policies(roles::outer())
        || RUNNING.with_borrow(|running| running.contains(&owner))
}
