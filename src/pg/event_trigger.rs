//! Reads the arguments with which PostgreSQL calls trigger functions and event trigger functions.

use pgrx::pg_sys;

use super::parse_tree::{Statement, alter_table};

/// How a command changes an existing object.
pub enum Alteration {
    /// A form of ALTER TABLE whose effect need not be checked.
    Harmless,
    /// ALTER TABLE ... ATTACH PARTITION.
    Attaches,
    /// Any other ALTER TABLE.
    InPlace,
    /// ALTER ... SET SCHEMA.
    Moves,
    /// Any other command.
    None,
}

/// Returns the statement that fired an event trigger, or `None` if the function was not called by one.
///
/// # Safety
/// `call` must be the argument with which PostgreSQL calls a function.
pub unsafe fn statement(call: pg_sys::FunctionCallInfo) -> Option<Statement> {
    // SAFETY: guaranteed by the caller. The parse tree belongs to this execution and outlives the call.
    unsafe { parse_tree(call).map(|statement| Statement::read(statement)) }
}

/// Returns how the command that fired an event trigger changes an existing object.
///
/// # Safety
/// As for `statement`.
pub unsafe fn alteration(call: pg_sys::FunctionCallInfo) -> Alteration {
    // SAFETY: guaranteed by the caller. A node's tag determines its type.
    unsafe {
        match parse_tree(call).map(|statement| (statement, (*statement).type_)) {
            Some((statement, pg_sys::NodeTag::T_AlterTableStmt)) => {
                if alter_table::is_harmless(statement.cast()) {
                    Alteration::Harmless
                } else if alter_table::attaches(statement.cast()) {
                    Alteration::Attaches
                } else {
                    Alteration::InPlace
                }
            }
            Some((_, pg_sys::NodeTag::T_AlterObjectSchemaStmt)) => Alteration::Moves,
            _ => Alteration::None,
        }
    }
}

/// Reports whether the command that fired an event trigger may create an object other than a relation, trigger, policy
/// or the like, or move an object to another schema.
///
/// # Safety
/// As for `statement`.
pub unsafe fn may_create_elsewhere(call: pg_sys::FunctionCallInfo) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: guaranteed by the caller. Every node has a tag.
    unsafe { parse_tree(call).map(|statement| (*statement).type_) }.is_some_and(|tag| {
        matches!(
            tag,
            T_CreateExtensionStmt
                | T_CreateSchemaStmt
                | T_DefineStmt
                | T_CreateEnumStmt
                | T_CreateRangeStmt
                | T_CompositeTypeStmt
                | T_CreateDomainStmt
                | T_CreateFunctionStmt
                | T_CreateSeqStmt
                | T_CreateStatsStmt
                | T_CreateConversionStmt
                | T_CreateOpClassStmt
                | T_CreateOpFamilyStmt
                | T_CreatePLangStmt
                | T_CreateFdwStmt
                | T_CreateForeignServerStmt
                | T_AlterObjectSchemaStmt
        )
    })
}

/// Reports whether a function was called by a trigger.
///
/// # Safety
/// As for `statement`.
pub unsafe fn is_trigger(call: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: guaranteed by the caller. PostgreSQL calls trigger functions with TriggerData as context.
    unsafe {
        let context = (*call).context;
        !context.is_null() && pgrx::is_a(context, pg_sys::NodeTag::T_TriggerData)
    }
}

/// Returns the parse tree of the command that fired an event trigger.
///
/// # Safety
/// As for `statement`.
unsafe fn parse_tree(call: pg_sys::FunctionCallInfo) -> Option<*mut pg_sys::Node> {
    // SAFETY: guaranteed by the caller. PostgreSQL calls event trigger functions with EventTriggerData as context.
    unsafe {
        let context = (*call).context;
        let is_event_trigger = !context.is_null() && pgrx::is_a(context, pg_sys::NodeTag::T_EventTriggerData);
        is_event_trigger.then(|| (*context.cast::<pg_sys::EventTriggerData>()).parsetree)
    }
}
