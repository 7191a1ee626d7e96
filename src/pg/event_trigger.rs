//! What triggers and event triggers are called with.

use pgrx::pg_sys;

use super::parse_tree::{Statement, alter_table};

/// What a command does to an object that was there before it.
pub enum Alteration {
    /// ALTER TABLE in a form that needs no look at what it did.
    Harmless,
    /// ALTER TABLE that hangs a partition under a table.
    Attaches,
    /// Any other ALTER TABLE.
    InPlace,
    /// Into another schema.
    Moves,
    /// Any other command.
    None,
}

/// The statement of an event trigger; `None` where the function is called in another way.
///
/// # Safety
/// What the server calls a function with.
pub unsafe fn statement(call: pg_sys::FunctionCallInfo) -> Option<Statement> {
    // SAFETY: by the caller's promise; the statement is that of this execution, and outlives the call.
    unsafe { parse_tree(call).map(|statement| Statement::read(statement)) }
}

/// # Safety
/// As above.
pub unsafe fn alteration(call: pg_sys::FunctionCallInfo) -> Alteration {
    // SAFETY: by the caller's promise; the tag tells the node's type.
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

/// Whether the command may make, move or give away an object that is no relation, trigger, policy or the like.
///
/// # Safety
/// As above.
pub unsafe fn may_create_elsewhere(call: pg_sys::FunctionCallInfo) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: by the caller's promise; every node has a tag.
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

/// Whether a function is called by a trigger.
///
/// # Safety
/// As above.
pub unsafe fn is_trigger(call: pg_sys::FunctionCallInfo) -> bool {
    // SAFETY: by the caller's promise; the server calls trigger functions with TriggerData as context.
    unsafe {
        let context = (*call).context;
        !context.is_null() && pgrx::is_a(context, pg_sys::NodeTag::T_TriggerData)
    }
}

/// # Safety
/// As above.
unsafe fn parse_tree(call: pg_sys::FunctionCallInfo) -> Option<*mut pg_sys::Node> {
    // SAFETY: by the caller's promise; the server calls event trigger functions with EventTriggerData as context.
    unsafe {
        let context = (*call).context;
        let is_called_so = !context.is_null() && pgrx::is_a(context, pg_sys::NodeTag::T_EventTriggerData);
        is_called_so.then(|| (*context.cast::<pg_sys::EventTriggerData>()).parsetree)
    }
}
