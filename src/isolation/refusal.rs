//! How hooks refuse: by an error, for they have no result to return one in.

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;

use super::check;
use super::range_table::Use;
use crate::catalog::changes;
use crate::error::{Error, Result};
use crate::pg::roles;

/// For what the permission hook does not see.
pub fn permit(uses: impl Iterator<Item = Use> + Clone) {
    changes::catch_up();
    are_accessible(uses, true);
}

pub fn are_accessible(uses: impl Iterator<Item = Use> + Clone, raise: bool) -> bool {
    match check::inaccessible(uses).unwrap_or_raise() {
        None => true,
        Some(relation) if raise => refuse("table", check::relation_name(relation)),
        Some(_) => false,
    }
}

/// A lock that keeps others from a shared table is its owner's to take, as it is to empty it.
#[pg_guard]
pub extern "C-unwind" fn keep_for_others(relation: pg_sys::Oid) {
    if check::is_shared_with_others(relation, roles::current()).unwrap_or_raise() {
        refuse("table", check::relation_name(relation));
    }
}

pub fn refuse(kind: &'static str, name: String) -> ! {
    let refused: Result<()> = Err(Error::Inaccessible { kind, name });
    refused.unwrap_or_raise();
    unreachable!()
}

pub trait Raise<T> {
    fn unwrap_or_raise(self) -> T;
}

impl<T> Raise<T> for Result<T> {
    fn unwrap_or_raise(self) -> T {
        self.map_err(ErrorReport::from).unwrap_or_report()
    }
}
