//! Changes column defaults as analyzed expressions. Parsing a default again could run code, and names in it could
//! resolve to other objects.

use pgrx::pg_sys;

use super::locks;
use crate::error::{Error, Result};

/// Sets the default of a column of this relation, but not of its children. The current role must own the relation.
///
/// # Safety
/// `expression` must be analyzed.
pub unsafe fn set(relation: pg_sys::Oid, column: i16, expression: *mut pg_sys::Node) -> Result<()> {
    locks::lock_for_reading(relation);
    // SAFETY: lookups by OID, and a command that is allocated in the current memory context.
    unsafe {
        if pg_sys::get_atttype(relation, column) != pg_sys::exprType(expression) {
            return Err(Error::conflict("column was changed concurrently", "Try again."));
        }
        let command = pg_sys::palloc0(size_of::<pg_sys::AlterTableCmd>()).cast::<pg_sys::AlterTableCmd>();
        (*command).type_ = pg_sys::NodeTag::T_AlterTableCmd;
        (*command).subtype = pg_sys::AlterTableType::AT_CookedColumnDefault;
        (*command).num = column;
        (*command).def = expression;
        // Not collected for event triggers: PostgreSQL would record it as part of a command that has already ended.
        pg_sys::EventTriggerInhibitCommandCollection();
        pg_sys::AlterTableInternal(relation, pg_sys::lappend(std::ptr::null_mut(), command.cast()), false);
        pg_sys::EventTriggerUndoInhibitCommandCollection();
    }
    Ok(())
}

/// Returns a call of a function that has no arguments and returns a uuid.
pub fn call(function: pg_sys::Oid) -> *mut pg_sys::Node {
    let (no_collation, explicit) = (pg_sys::InvalidOid, pg_sys::CoercionForm::COERCE_EXPLICIT_CALL);
    // SAFETY: only builds a node.
    unsafe {
        pg_sys::makeFuncExpr(function, pg_sys::UUIDOID, std::ptr::null_mut(), no_collation, no_collation, explicit)
            .cast()
    }
}
