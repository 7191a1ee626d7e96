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
    replace(defaults, pg_sys::Oid::from(pg_sys::F_NEXTVAL), relations::guarded_nextval(catalog)?)
}

/// Makes all defaults that call the extension's `nextval()` call PostgreSQL's again.
pub fn release_defaults(catalog: &Catalog) -> Result<()> {
    let guarded = relations::guarded_nextval(catalog)?;
    replace(relations::defaults_that_call(catalog, guarded)?, guarded, pg_sys::Oid::from(pg_sys::F_NEXTVAL))
}

fn replace(defaults: Vec<Default>, from: pg_sys::Oid, to: pg_sys::Oid) -> Result<()> {
    for Default { table, column, expression } in defaults {
        let expression =
            CString::new(expression).map_err(|_| Error::internal("default of a column contains a zero byte"))?;
        let mut replacement = Replacement { from, to, changed: false };
        // SAFETY: the text is a node's, written by PostgreSQL.
        unsafe {
            let expression = pg_sys::stringToNode(expression.as_ptr()).cast::<pg_sys::Node>();
            visit(expression, std::ptr::from_mut(&mut replacement).cast());
            if replacement.changed {
                defaults::set(table, column, expression)?;
            }
        }
    }
    Ok(())
}

/// Replaces a function by another one of the same signature.
struct Replacement {
    from: pg_sys::Oid,
    to: pg_sys::Oid,
    changed: bool,
}

/// Replaces the calls of the function in an expression.
///
/// # Safety
/// `node` must be a node or null, and `replacement` the context that was passed to the tree walker.
#[pg_guard]
unsafe extern "C-unwind" fn visit(node: *mut pg_sys::Node, replacement: *mut c_void) -> bool {
    // SAFETY: guaranteed by the caller. A node's tag determines its type.
    unsafe {
        if node.is_null() {
            return false;
        }
        if pgrx::is_a(node, pg_sys::NodeTag::T_FuncExpr) {
            let (call, replacement) = (node.cast::<pg_sys::FuncExpr>(), &mut *replacement.cast::<Replacement>());
            if (*call).funcid == replacement.from {
                (*call).funcid = replacement.to;
                replacement.changed = true;
            }
        }
        pg_sys::expression_tree_walker(node, Some(visit), replacement)
    }
}
