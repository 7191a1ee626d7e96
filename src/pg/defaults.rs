//! Defaults of columns as the server keeps them: to parse one may run code, and names in it may come to mean other things.

use pgrx::pg_sys;

use super::locks;
use crate::error::{Error, Result};

/// Of this relation alone, not of its children. The caller's role has to own it.
///
/// # Safety
/// The expression is analyzed.
pub unsafe fn set(relation: pg_sys::Oid, column: i16, expression: *mut pg_sys::Node) -> Result<()> {
    locks::lock_for_reading(relation);
    // SAFETY: lookups, and a command of the server's own in memory of this context.
    unsafe {
        if pg_sys::get_atttype(relation, column) != pg_sys::exprType(expression) {
            return Err(Error::conflict("the column was changed meanwhile", "Try again."));
        }
        let command = pg_sys::palloc0(size_of::<pg_sys::AlterTableCmd>()).cast::<pg_sys::AlterTableCmd>();
        (*command).type_ = pg_sys::NodeTag::T_AlterTableCmd;
        (*command).subtype = pg_sys::AlterTableType::AT_CookedColumnDefault;
        (*command).num = column;
        (*command).def = expression;
        // No command for event triggers: the server would note it as part of one that has ended.
        pg_sys::EventTriggerInhibitCommandCollection();
        pg_sys::AlterTableInternal(relation, pg_sys::lappend(std::ptr::null_mut(), command.cast()), false);
        pg_sys::EventTriggerUndoInhibitCommandCollection();
    }
    Ok(())
}

/// A call of a function that takes nothing and returns a uuid.
pub fn call(function: pg_sys::Oid) -> *mut pg_sys::Node {
    let (no_collation, explicit) = (pg_sys::InvalidOid, pg_sys::CoercionForm::COERCE_EXPLICIT_CALL);
    // SAFETY: it only builds a node.
    unsafe {
        pg_sys::makeFuncExpr(function, pg_sys::UUIDOID, std::ptr::null_mut(), no_collation, no_collation, explicit)
            .cast()
    }
}
