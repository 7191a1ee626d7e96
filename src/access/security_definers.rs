//! Tracks which functions are running as another role than their caller, SECURITY DEFINER functions and triggers, and
//! who called them.
//!
//! A superuser's session can access every tenant, but must not lend that access to another role's code. Maintenance
//! such as ANALYZE runs the functions of a table as the table's owner, and these can call a tenant's functions.

use std::cell::RefCell;
use std::collections::HashSet;

use foldhash::fast::RandomState;
use pgrx::pg_sys;

use super::owner_roles;
use super::sandbox_identity::is_sandboxed;
use crate::pg::{own_transaction, roles, security_context};

thread_local! {
    /// The roles as which these functions run, innermost last.
    static RUNNING: RefCell<Vec<pg_sys::Oid>> = const { RefCell::new(Vec::new()) };
    /// In a session that bypasses policies, maintenance runs expressions as a tenant's owner role. These are the
    /// functions that such expressions have called in a transaction, and that transaction: ANALYZE uses one for each
    /// table.
    static CALLED_BY_OWNERS: RefCell<(pg_sys::LocalTransactionId, HashSet<pg_sys::Oid, RandomState>)> = RefCell::default();
}

/// Reports whether such a function is running.
pub fn any_running() -> bool {
    RUNNING.with_borrow(|running| !running.is_empty())
}

/// Returns the role of the innermost running function.
pub fn innermost_role() -> Option<pg_sys::Oid> {
    RUNNING.with_borrow(|running| running.last().copied())
}

/// Reports whether the predicate holds for the roles of all running functions.
pub fn all_owners(predicate: impl Fn(pg_sys::Oid) -> bool) -> bool {
    RUNNING.with_borrow(|running| running.iter().all(|owner| predicate(*owner)))
}

/// Records that a function begins to run as this role.
pub fn begin(owner: pg_sys::Oid) {
    RUNNING.with_borrow_mut(|running| running.push(owner));
}

/// Records that the innermost function has ended.
pub fn end() {
    RUNNING.with_borrow_mut(|running| running.pop());
}

/// Records that the current role calls this function. Called when PostgreSQL prepares an expression that contains it,
/// after checking that the role may execute it.
pub fn note_call(function: pg_sys::Oid) {
    if owner_roles::tenant_of_current(roles::current()).is_some() && roles::bypasses_policies(roles::outer()) {
        CALLED_BY_OWNERS.with_borrow_mut(|(transaction, called)| {
            if *transaction != own_transaction() {
                called.clear();
                *transaction = own_transaction();
            }
            called.insert(function);
        });
    }
}

/// Forgets the recorded calls. Called when a command begins, because the owner of the table that the new command
/// maintains may be another role.
pub fn begin_command() {
    CALLED_BY_OWNERS.with_borrow_mut(|(_, called)| called.clear());
}

/// Reports whether a SECURITY DEFINER function of a tenant's owner role may begin in a session that bypasses policies.
/// In maintenance, only the owner role's own code may call it: an expression, or another function of the same role. For
/// example, in a superuser's ANALYZE an index expression may call it; a trigger of another role's table, or a function
/// of another role's type, may not.
pub fn may_begin(function: pg_sys::Oid, owner: pg_sys::Oid) -> bool {
    may_use_session_access(owner)
        || CALLED_BY_OWNERS
            .with_borrow(|(transaction, called)| *transaction == own_transaction() && called.contains(&function))
}

/// Reports whether code that runs as this owner role may use the session's access. It may not if maintenance in a
/// session that bypasses policies called it, unless a SECURITY DEFINER function of the same owner role is already
/// running.
pub fn may_use_session_access(owner: pg_sys::Oid) -> bool {
    is_sandboxed()
        || !security_context::is_called_in_maintenance()
        || !roles::bypasses_policies(roles::outer())
        || RUNNING.with_borrow(|running| running.contains(&owner))
}
