//! The hook for utility commands. It covers what the query hooks do not, because commands start no query, and what
//! event triggers do not, because they fire too late for some commands and not at all for others.

use std::ffi::c_char;

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;

use super::{before_command, grant_watch, session_commands};
use crate::access::{self, owner_roles, security_definers};
use crate::catalog::{Catalog, changes, relations, shared_tables};
use crate::error::Result;
use crate::isolation::{self, Raise, Use, check, held_cursors, require_access, require_owner_of_shared_table};
use crate::pg::parse_tree::Statement;
use crate::pg::parse_tree::commands::{self, Rebuilt};
use crate::pg::row_security::Enforced;
use crate::pg::{nodes, roles};

/// The hook that was installed before ours. Written once, by `install`.
static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;

/// Installs the hook. Called once per backend.
pub fn install() {
    // SAFETY: called once per backend, before any command runs through the hook. The hook calls the one that it
    // replaces.
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
    // SAFETY: the hook's contract guarantees a utility statement. The arguments are passed on to the previous hook or
    // to PostgreSQL's own function.
    unsafe {
        // SET is a utility statement and can change who is calling.
        isolation::forget_start();
        let mut statement = statement;
        if commands::maintains_all((*statement).utilityStmt) && access::is_sandboxed() {
            // Without a list of tables, the command would process every table that the owner role may maintain. Another
            // role may have granted that on its own tables, whose indexes can call its code.
            let tables = tables_of_the_tenant().unwrap_or_raise();
            if tables.is_empty() {
                commands::refuse_vacuum_in_a_transaction(statement, context);
                return;
            }
            statement = commands::maintaining(statement, &tables);
        }
        // Copy the statement, because `before_command` writes to the names in it, and it may belong to a cached plan.
        if pgrx::is_a((*statement).utilityStmt, pg_sys::NodeTag::T_ClusterStmt) {
            statement = nodes::copy(statement);
        }
        let command = (*statement).utilityStmt;
        grant_watch::note(command);
        security_definers::begin_command();
        session_commands::check(command).unwrap_or_raise();
        check_command(command);
        // No event trigger fires for these commands.
        if matches!((*command).type_, pg_sys::NodeTag::T_ReassignOwnedStmt | pg_sys::NodeTag::T_ClusterStmt) {
            before_command::check(&Statement::read(command)).unwrap_or_raise();
        }
        match (*command).type_ {
            pg_sys::NodeTag::T_DoStmt | pg_sys::NodeTag::T_CallStmt => held_cursors::before_untrusted_code(),
            pg_sys::NodeTag::T_FetchStmt => held_cursors::recheck()
                .and_then(|()| held_cursors::check_fetch((*command.cast::<pg_sys::FetchStmt>()).portalname)),
            _ => held_cursors::recheck(),
        }
        .unwrap_or_raise();
        // The rows of a cursor on EXPLAIN, EXECUTE or the like are stored.
        held_cursors::note_start().unwrap_or_raise();
        if let Some(schema) = commands::explained_creation((*statement).utilityStmt) {
            check::refuse_creation_by_explain(schema).unwrap_or_raise();
        }
        let enforced = if changes::is_installed() { Enforced::during(command) } else { None };
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
        drop(enforced);
        // Check again: a name may refer to another relation than before the command waited.
        if matches!((*command).type_, pg_sys::NodeTag::T_LockStmt | pg_sys::NodeTag::T_ReindexStmt) {
            check_command(command);
        }
        held_cursors::recheck().unwrap_or_raise();
    }
}

/// Returns the tables of the tenant whose owner role is the current role.
fn tables_of_the_tenant() -> Result<Vec<pg_sys::Oid>> {
    match owner_roles::tenant_of_current(roles::current()) {
        None => Ok(Vec::new()),
        Some(tenant) => relations::tables_to_maintain(&Catalog::latest()?, tenant),
    }
}

/// Raises an error if the current role may maintain a shared table that it does not own, as from PostgreSQL 17 on the
/// privilege MAINTAIN allows.
fn require_owner_of_maintained_tables() -> Result<()> {
    let role = roles::current();
    if roles::is_superuser(role) || changes::generation().is_none() {
        return Ok(());
    }
    // Checked after the catalog's scope has ended: in it, the current role is a superuser.
    let tables = shared_tables::maintained_by_others(&Catalog::latest()?, role)?;
    tables.into_iter().for_each(|table| require_owner_of_shared_table(table));
    Ok(())
}

/// Raises an error if the command names a table that is not accessible, or locks another role's shared table in a mode
/// that blocks other sessions. A role that may maintain the table could otherwise keep it locked in an open
/// transaction.
///
/// # Safety
/// `command` must be a utility statement.
unsafe fn check_command(command: *mut pg_sys::Node) {
    // SAFETY: guaranteed by the caller.
    let (tables, is_exclusive, rebuilt) = unsafe {
        (commands::tables_named_by(command), commands::takes_strong_lock(command), commands::tables_rebuilt_by(command))
    };
    match rebuilt {
        Rebuilt::Tables(tables) => tables.into_iter().for_each(|table| require_owner_of_shared_table(table)),
        Rebuilt::All => require_owner_of_maintained_tables().unwrap_or_raise(),
    }
    if tables.is_empty() {
        return;
    }
    let role = Some(roles::current());
    let used = |relation| Use { relation, role, is_by_view: false, cannot_have_policies: false };
    let uses = check::with_relations_read_by_views(tables.into_iter().map(used).collect()).unwrap_or_raise();
    require_access(uses.iter().copied());
    if is_exclusive {
        uses.iter().for_each(|used| require_owner_of_shared_table(used.relation));
    }
}
