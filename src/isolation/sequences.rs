//! nextval for columns of tenants. Sequences of tenants are granted to nobody: a grant would let every tenant's users
//! call nextval on every tenant's sequences, by oid if not by name.

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use super::check;
use crate::error::{Error, Result};

unsafe extern "C-unwind" {
    // In commands/sequence.h, which pgrx's bindings leave out.
    fn nextval_internal(relation: pg_sys::Oid, check_permissions: bool) -> i64;
}

/// The next value of a sequence: of a tenant within the caller's reach, or of none, with the caller's own privileges.
pub fn next_value(sequence: pg_sys::Oid) -> Result<i64> {
    let reach = check::reach_of(sequence)?;
    if reach == check::Reach::Refused {
        return Err(Error::OutOfReach { kind: "sequence", name: check::relation_name(sequence) });
    }
    let check_permissions = reach == check::Reach::NoTenant;
    // SAFETY: the server's own function; it refuses what is not a sequence.
    Ok(unsafe { pg_guard_ffi_boundary(|| nextval_internal(sequence, check_permissions)) })
}
