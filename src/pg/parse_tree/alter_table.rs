//! Classifies ALTER TABLE. Only a few forms are known to be harmless. The effect of every other form is checked.

use std::ffi::CStr;

use pgrx::{PgList, pg_sys};

/// Reports whether an ALTER TABLE can neither weaken row-level security, nor give a column a default that calls
/// nextval(), nor refer to the catalog, nor change the table's owner. Most migrations of a fleet are of this kind, and
/// a check would delay them for every tenant.
///
/// # Safety
/// `statement` must come from the parser.
pub unsafe fn is_harmless(statement: *mut pg_sys::AlterTableStmt) -> bool {
    use pg_sys::AlterTableType as Kind;
    // SAFETY: guaranteed by the caller. ADD COLUMN contains a ColumnDef, and ADD CONSTRAINT a Constraint.
    unsafe {
        PgList::<pg_sys::AlterTableCmd>::from_pg((*statement).cmds).iter_ptr().all(|command| match (*command).subtype {
            Kind::AT_AddColumn => has_plain_default((*command).def.cast()),
            Kind::AT_DropColumn
            | Kind::AT_SetNotNull
            | Kind::AT_DropNotNull
            | Kind::AT_SetStatistics
            | Kind::AT_SetStorage
            | Kind::AT_ValidateConstraint
            | Kind::AT_DropConstraint => true,
            Kind::AT_AddConstraint => !may_refer_to_catalog((*command).def.cast()),
            _ => false,
        })
    }
}

/// Reports whether an ALTER TABLE attaches a partition or adds a parent.
///
/// # Safety
/// `statement` must come from the parser.
pub unsafe fn attaches(statement: *mut pg_sys::AlterTableStmt) -> bool {
    use pg_sys::AlterTableType as Kind;
    // SAFETY: guaranteed by the caller.
    unsafe {
        PgList::<pg_sys::AlterTableCmd>::from_pg((*statement).cmds)
            .iter_ptr()
            .any(|command| matches!((*command).subtype, Kind::AT_AttachPartition | Kind::AT_AddInherit))
    }
}

/// Reports whether a constraint is a foreign key that may refer to the catalog. A name without a schema may resolve to
/// a table there.
///
/// # Safety
/// `constraint` must come from the parser.
unsafe fn may_refer_to_catalog(constraint: *mut pg_sys::Constraint) -> bool {
    // SAFETY: guaranteed by the caller. A foreign key names a table, whose schema is null or a C string.
    unsafe {
        (*constraint).contype == pg_sys::ConstrType::CONSTR_FOREIGN && {
            let schema = (*(*constraint).pktable).schemaname;
            schema.is_null() || CStr::from_ptr(schema) == c"fluxbase_tenant"
        }
    }
}

/// Reports whether a new column has no default or a constant one, and does not refer to the catalog.
///
/// # Safety
/// `column` must come from the parser.
unsafe fn has_plain_default(column: *mut pg_sys::ColumnDef) -> bool {
    // SAFETY: guaranteed by the caller. A type has a list of names, of which the last is its own. A node's tag
    // determines its type.
    unsafe {
        let names = PgList::<pg_sys::Node>::from_pg((*(*column).typeName).names);
        let is_serial = match names.get_ptr(names.len().wrapping_sub(1)) {
            Some(name) if pgrx::is_a(name, pg_sys::NodeTag::T_String) => is_serial(name),
            _ => true,
        };
        !is_serial
            && PgList::<pg_sys::Constraint>::from_pg((*column).constraints).iter_ptr().all(|constraint| {
                !may_refer_to_catalog(constraint)
                    && ((*constraint).contype != pg_sys::ConstrType::CONSTR_DEFAULT
                        || is_constant((*constraint).raw_expr))
            })
    }
}

/// Reports whether a type name is one of the serial types.
///
/// # Safety
/// `name` must be a String node.
unsafe fn is_serial(name: *mut pg_sys::Node) -> bool {
    // SAFETY: guaranteed by the caller.
    let name = unsafe { CStr::from_ptr((*name.cast::<pg_sys::String>()).sval) };
    name.to_bytes().windows(6).any(|part| part == b"serial")
}

/// Reports whether an expression is a constant, a cast of one, or a value such as CURRENT_USER.
///
/// # Safety
/// `expression` must come from the parser.
unsafe fn is_constant(expression: *mut pg_sys::Node) -> bool {
    // SAFETY: a node's tag determines its type.
    unsafe {
        pgrx::is_a(expression, pg_sys::NodeTag::T_A_Const)
            || pgrx::is_a(expression, pg_sys::NodeTag::T_SQLValueFunction)
            || (pgrx::is_a(expression, pg_sys::NodeTag::T_TypeCast)
                && is_constant((*expression.cast::<pg_sys::TypeCast>()).arg))
    }
}
