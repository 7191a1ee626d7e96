//! nextval for columns of tenants. Sequences of tenants are granted to nobody: a grant would let every tenant's users
//! call nextval on every tenant's sequences, by oid if not by name.

use std::ffi::{CString, c_void};

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;

use crate::catalog::Catalog;
use crate::catalog::relations::{self, Default};
use crate::error::{Error, Result};
use crate::isolation::check;
use crate::pg::defaults;

unsafe extern "C-unwind" {
    // In commands/sequence.h, which pgrx's bindings leave out.
    fn nextval_internal(relation: pg_sys::Oid, check_permissions: bool) -> i64;
}

/// The next value of a sequence: of a tenant within the caller's reach, or of none, with the caller's own privileges.
pub fn next_value(sequence: pg_sys::Oid) -> Result<i64> {
    let reach = check::reach_of(sequence)?;
    if reach == check::Reach::Refused {
        return Err(Error::Inaccessible { kind: "sequence", name: check::relation_name(sequence) });
    }
    let check_permissions = reach == check::Reach::NoTenant;
    // SAFETY: the server's own function; it refuses what is not a sequence.
    Ok(unsafe { pg_guard_ffi_boundary(|| nextval_internal(sequence, check_permissions)) })
}

/// A serial column's default calls nextval with the inserting role's privileges, and that role has none on sequences of
/// tenants: the default is to call the checked one instead. It is changed as the server keeps it, for to parse a default may run
/// code, such as the check of a domain.
pub fn guard_defaults(catalog: &Catalog, table: pg_sys::Oid) -> Result<()> {
    let defaults = relations::defaults_with_sequences(catalog, table)?;
    if defaults.is_empty() {
        return Ok(());
    }
    let mut guard = Guard { nextval: relations::guarded_nextval(catalog)?, changed: false };
    for Default { table, column, expression } in defaults {
        let expression = CString::new(expression).map_err(|_| Error::internal("a zero byte in a default"))?;
        guard.changed = false;
        // SAFETY: what the server has made of a node.
        unsafe {
            let expression = pg_sys::stringToNode(expression.as_ptr()).cast::<pg_sys::Node>();
            visit(expression, std::ptr::from_mut(&mut guard).cast());
            if guard.changed {
                defaults::set(table, column, expression)?;
            }
        }
    }
    Ok(())
}

struct Guard {
    /// `fluxbase_tenant.nextval`.
    nextval: pg_sys::Oid,
    changed: bool,
}

/// # Safety
/// Called by the server's tree walker with a node, or null, and the context that it was given.
#[pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, guard: *mut c_void) -> bool {
    // SAFETY: by the contract of walkers; the tag tells the node's type.
    unsafe {
        if node.is_null() {
            return false;
        }
        if pgrx::is_a(node, pg_sys::NodeTag::T_FuncExpr) {
            let (call, guard) = (node.cast::<pg_sys::FuncExpr>(), &mut *guard.cast::<Guard>());
            if (*call).funcid.to_u32() == pg_sys::F_NEXTVAL {
                (*call).funcid = guard.nextval;
                guard.changed = true;
            }
        }
        pg_sys::expression_tree_walker(node, Some(visit), guard)
    }
}
