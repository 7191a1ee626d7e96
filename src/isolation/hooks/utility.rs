//! What runs without a query of its own: commands, and functions that clients call.

use std::ffi::{c_char, c_void};

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;

use super::{JUST_STARTED, PREVIOUS, Raise, permit, refuse};
use crate::catalog::changes;
use crate::identity::definers;
use crate::isolation::{before_command, check, commands, cursors, pinned, plans, relations};
use crate::pg::roles;

#[pg_guard]
#[allow(clippy::too_many_arguments)]
pub unsafe extern "C-unwind" fn utility(
    statement: *mut pg_sys::PlannedStmt,
    text: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    destination: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: a utility statement by the hook's contract; the hook that was there, or the server's own function, with its
    // own arguments.
    unsafe {
        // SET is a utility statement.
        JUST_STARTED.set(None);
        let command = (*statement).utilityStmt;
        commands::note(command);
        definers::begin_command();
        permit_command(command);
        // No event trigger hears of this one.
        if pgrx::is_a(command, pg_sys::NodeTag::T_ReassignOwnedStmt) {
            before_command::permit(command).unwrap_or_raise();
        }
        match (*command).type_ {
            pg_sys::NodeTag::T_DoStmt | pg_sys::NodeTag::T_CallStmt => cursors::before_code_of_others(),
            pg_sys::NodeTag::T_FetchStmt => cursors::permit_fetch((*command.cast::<pg_sys::FetchStmt>()).portalname),
            _ => cursors::settle(),
        }
        .unwrap_or_raise();
        // A cursor on EXPLAIN, EXECUTE or the like has its rows in store.
        cursors::note_start().unwrap_or_raise();
        if let Some(made) = plans::explained_creation((*statement).utilityStmt) {
            check::refuse_unheard_creation(made.schema, made.is_materialized_view).unwrap_or_raise();
        }
        match PREVIOUS.utility {
            Some(previous) => pg_guard_ffi_boundary(|| {
                previous(statement, text, read_only_tree, context, params, environment, destination, completion)
            }),
            None => pg_sys::standard_ProcessUtility(
                statement,
                text,
                read_only_tree,
                context,
                params,
                environment,
                destination,
                completion,
            ),
        }
        // A name may have come to mean something else while LOCK waited.
        if pgrx::is_a(command, pg_sys::NodeTag::T_LockStmt) {
            permit_command(command);
        }
        cursors::settle().unwrap_or_raise();
    }
}

/// # Safety
/// A utility statement.
unsafe fn permit_command(command: *mut pg_sys::Node) {
    // SAFETY: by the caller's promise.
    let (uses, is_exclusive) = unsafe { (plans::uses_of_command(command), plans::locks_others_out(command)) };
    if uses.is_empty() {
        return;
    }
    let uses = check::with_what_views_read(uses).unwrap_or_raise();
    permit(uses.iter().copied());
    if is_exclusive {
        uses.iter().for_each(|used| keep_for_others(used.relation));
    }
}

/// A lock that keeps others from a shared table is its owner's to take, as it is to empty it.
#[pg_guard]
extern "C-unwind" fn keep_for_others(relation: pg_sys::Oid) {
    if check::is_shared_with_others(relation, roles::current()).unwrap_or_raise() {
        refuse("table", check::relation_name(relation));
    }
}

/// Each query comes by here for the functions that it calls, so this one is without a guard: see `queries`.
pub unsafe extern "C-unwind" fn object_access(
    access: pg_sys::ObjectAccessType::Type,
    class: pg_sys::Oid,
    object: pg_sys::Oid,
    sub_object: i32,
    argument: *mut c_void,
) {
    // SAFETY: the hook that was there, with its own arguments.
    unsafe {
        if let Some(previous) = PREVIOUS.object_access {
            previous(access, class, object, sub_object, argument);
        }
    }
    match access {
        pg_sys::ObjectAccessType::OAT_FUNCTION_EXECUTE => {
            // set_config is a function, and one that a client may call without a query.
            JUST_STARTED.set(None);
            if !check::is_harmless(object) || cursors::are_open() {
                before_function(object);
            }
        }
        // Of each table that is emptied, whoever named it or not.
        pg_sys::ObjectAccessType::OAT_TRUNCATE => keep_for_others(object),
        // SAFETY: what the server passes with it.
        pg_sys::ObjectAccessType::OAT_NAMESPACE_SEARCH => unsafe {
            if !relations::is_servers_own(object) || pinned::is_any() {
                search_schema(object, &mut *argument.cast());
            }
        },
        _ => {}
    }
}

#[pg_guard]
extern "C-unwind" fn before_function(function: pg_sys::Oid) {
    cursors::before_function(function).unwrap_or_raise();
    if check::function_is_out_of_reach(function, roles::current()).unwrap_or_raise()
        || check::is_brought_by_a_key(function).unwrap_or_raise()
    {
        refuse("function", check::function_name(function));
    }
    definers::note_call(function);
}

/// A schema is searched: because a statement names it, or because it is on the search_path, from where it is dropped.
#[pg_guard]
extern "C-unwind" fn search_schema(schema: pg_sys::Oid, search: &mut pg_sys::ObjectAccessNamespaceSearch) {
    if !search.result {
        return;
    }
    if search.ereport_on_violation {
        pinned::permit(schema).unwrap_or_raise();
        changes::catch_up();
        if check::schema_is_out_of_reach(schema).unwrap_or_raise() {
            refuse("schema", check::schema_name(schema));
        }
    } else {
        search.result = !check::drops_from_path(schema);
    }
}
