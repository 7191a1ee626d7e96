//! The hook for commands, which start no query and of which event triggers hear too late or not at all.

use std::ffi::c_char;

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;

use super::{before_command, grant_watch};
use crate::access::{self, owner_roles, security_definers};
use crate::catalog::{Catalog, relations};
use crate::error::Result;
use crate::isolation::{self, Raise, Use, check, held_cursors, keep_for_others, permit};
use crate::pg::parse_tree::{Statement, commands};
use crate::pg::{nodes, roles};

/// The hook that was there before ours. Written once, by `install`.
static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;

/// Once per backend.
pub fn install() {
    // SAFETY: once per backend, before any command runs through the hook, which calls what it replaces.
    unsafe {
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(utility);
    }
}

#[pg_guard]
#[allow(clippy::too_many_arguments)]
unsafe extern "C-unwind" fn utility(
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
        isolation::forget_start();
        let mut statement = statement;
        if commands::maintains_all((*statement).utilityStmt) && access::is_sandboxed() {
            // Others may let everybody maintain tables of theirs, with code of theirs in them.
            let tables = tables_of_the_tenant().unwrap_or_raise();
            if tables.is_empty() {
                commands::refuse_vacuum_in_a_transaction(statement, context);
                return;
            }
            statement = commands::maintaining(statement, &tables);
        }
        // Names in it are written to, and it may be a plan that is kept.
        if pgrx::is_a((*statement).utilityStmt, pg_sys::NodeTag::T_ClusterStmt) {
            statement = nodes::copy(statement);
        }
        let command = (*statement).utilityStmt;
        grant_watch::note(command);
        security_definers::begin_command();
        permit_command(command);
        // No event trigger hears of these.
        if matches!((*command).type_, pg_sys::NodeTag::T_ReassignOwnedStmt | pg_sys::NodeTag::T_ClusterStmt) {
            before_command::permit(&Statement::read(command)).unwrap_or_raise();
        }
        match (*command).type_ {
            pg_sys::NodeTag::T_DoStmt | pg_sys::NodeTag::T_CallStmt => held_cursors::before_code_of_others(),
            pg_sys::NodeTag::T_FetchStmt => {
                held_cursors::permit_fetch((*command.cast::<pg_sys::FetchStmt>()).portalname)
            }
            _ => held_cursors::settle(),
        }
        .unwrap_or_raise();
        // A cursor on EXPLAIN, EXECUTE or the like has its rows in store.
        held_cursors::note_start().unwrap_or_raise();
        if let Some(made) = commands::explained_creation((*statement).utilityStmt) {
            check::refuse_unheard_creation(made.schema, made.is_materialized_view).unwrap_or_raise();
        }
        match PREVIOUS {
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
        held_cursors::settle().unwrap_or_raise();
    }
}

/// Of whose owner role runs.
fn tables_of_the_tenant() -> Result<Vec<pg_sys::Oid>> {
    match owner_roles::tenant_of(roles::current()) {
        None => Ok(Vec::new()),
        Some(tenant) => relations::maintained_with(&Catalog::latest()?, tenant),
    }
}

/// # Safety
/// A utility statement.
unsafe fn permit_command(command: *mut pg_sys::Node) {
    // SAFETY: by the caller's promise.
    let (tables, is_exclusive) = unsafe { (commands::tables_named_by(command), commands::locks_others_out(command)) };
    if tables.is_empty() {
        return;
    }
    let role = Some(roles::current());
    let used = |relation| Use { relation, role, is_by_view: false, is_unguarded: false };
    let uses = check::with_what_views_read(tables.into_iter().map(used).collect()).unwrap_or_raise();
    permit(uses.iter().copied());
    if is_exclusive {
        uses.iter().for_each(|used| keep_for_others(used.relation));
    }
}
