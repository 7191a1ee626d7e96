//! Raises errors in hooks, which have no result in which they could return one.

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::check;
use super::range_table::Use;
use crate::catalog::changes;
use crate::error::{Error, Result};
use crate::pg::roles;

/// Raises an error if a relation is not accessible. Called for relations that the permission hook does not see.
pub fn require_access(uses: impl Iterator<Item = Use> + Clone) {
    changes::catch_up();
    are_accessible(uses, true);
}

/// Checks that all relations are accessible. If one is not, raises an error if `raise` is true, and otherwise returns
/// false, as PostgreSQL's permission hook does.
pub fn are_accessible(uses: impl Iterator<Item = Use> + Clone, raise: bool) -> bool {
    match check::inaccessible(uses).unwrap_or_raise() {
        None => true,
        Some(relation) if raise => refuse("table", check::relation_name(relation)),
        Some(_) => false,
    }
}

/// Raises an error if the relation is a shared table of another role. Only a shared table's owner may truncate it, or
/// lock it in a mode that blocks other sessions.
#[pg_guard]
pub extern "C-unwind" fn require_owner_of_shared_table(relation: pg_sys::Oid) {
    if check::is_shared_table_of_another_role(relation, roles::current()).unwrap_or_raise() {
        refuse("table", check::relation_name(relation));
    }
}

/// Raises the error that the object is not accessible.
pub fn refuse(kind: &'static str, name: String) -> ! {
    let refused: Result<()> = Err(Error::Inaccessible { kind, name });
    refused.unwrap_or_raise();
    unreachable!()
}

/// Returns the value of a result, or raises its error.
pub trait Raise<T> {
    fn unwrap_or_raise(self) -> T;
}

impl<T> Raise<T> for Result<T> {
    fn unwrap_or_raise(self) -> T {
        self.map_err(ErrorReport::from).unwrap_or_report()
    }
}
