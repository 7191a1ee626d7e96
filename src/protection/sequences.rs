//! `nextval()` for columns of tenants' tables. No privilege on a tenant's sequence is granted to any role: a grant
//! would let the users of every tenant call nextval on the sequences of every tenant, at least by OID.

use std::ffi::{CString, c_void};

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;

use crate::catalog::Catalog;
use crate::catalog::relations::{self, Default};
use crate::error::{Error, Result};
use crate::isolation::check;
use crate::pg::defaults;

unsafe extern "C-unwind" {
    // Declared in commands/sequence.h, which pgrx's bindings do not include.
    fn nextval_internal(relation: pg_sys::Oid, check_permissions: bool) -> i64;
}

/// Returns the next value of a sequence. If the sequence belongs to a tenant, that tenant must be accessible. If it
/// belongs to no tenant, the caller needs the usual privilege.
pub fn next_value(sequence: pg_sys::Oid) -> Result<i64> {
    let access = check::access_to(sequence)?;
    if access == check::RelationAccess::Denied {
        return Err(Error::Inaccessible { kind: "sequence", name: check::relation_name(sequence) });
    }
    let check_permissions = access == check::RelationAccess::NoTenant;
    // SAFETY: calls PostgreSQL's own function, which raises an error if the relation is not a sequence.
    Ok(unsafe { pg_guard_ffi_boundary(|| nextval_internal(sequence, check_permissions)) })
}

/// Makes the defaults of a table's columns call the extension's `nextval()`. The default of a serial column calls
/// PostgreSQL's `nextval()` with the privileges of the inserting role, which has none on tenants' sequences. Changes
/// the stored form of the default, because parsing a default may run code, such as the check of a domain.
pub fn guard_defaults(catalog: &Catalog, table: pg_sys::Oid) -> Result<()> {
    let defaults = relations::defaults_with_sequences(catalog, table)?;
    if defaults.is_empty() {
        return Ok(());
    }
    let mut guard = Guard { nextval: relations::guarded_nextval(catalog)?, changed: false };
    for Default { table, column, expression } in defaults {
        let expression =
            CString::new(expression).map_err(|_| Error::internal("default of a column contains a zero byte"))?;
        guard.changed = false;
        // SAFETY: the text is a node's, written by PostgreSQL.
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
    /// The OID of `fluxbase_tenant.nextval`.
    nextval: pg_sys::Oid,
    changed: bool,
}

/// Replaces calls of PostgreSQL's `nextval()` in an expression by calls of the extension's.
///
/// # Safety
/// `node` must be a node or null, and `guard` the context that was passed to the tree walker.
#[pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, guard: *mut c_void) -> bool {
    // SAFETY: guaranteed by the caller. A node's tag determines its type.
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
