//! Ensures that only the caller who opened a cursor fetches from it, and only while that caller can access every tenant
//! whose rows the cursor may hold. Where a fetch runs the cursor's query, the query is checked again. Where the rows
//! are already stored, as for a cursor WITH HOLD, the cursor is shut when the caller changes: PostgreSQL then refuses
//! to run it, whether FETCH, a function, a trigger or a protocol message requests its rows.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use pgrx::{Uuid, pg_sys};

use super::{check, range_table};
use crate::access::{self, Caller, owner_roles};
use crate::catalog::{self, changes};
use crate::error::{Error, Result};
use crate::pg::cursor::Cursor;
use crate::pg::{backend, catalogs, lists, roles};
use crate::settings::{self, Change};

/// A cursor, and the caller, the caller's tenants and the catalog's generation when it was opened. `owner_role_of` is
/// the tenant whose owner role opened it.
#[derive(Clone)]
struct Opened {
    cursor: Cursor,
    caller: Caller,
    owner_role_of: Option<Uuid>,
    tenants: Rc<[Uuid]>,
    catalog: Option<u64>,
    shut: Option<Shut>,
}

/// Why a cursor is shut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shut {
    /// A different user or tenant was set.
    BySetting,
    /// `recheck` found that the cursor does not belong to the caller.
    ByCheck,
}

/// The moment of a check, and the role that it was made for.
type CheckedFor = (access::Moment, pg_sys::Oid);

thread_local! {
    static OPENED: RefCell<Vec<Opened>> = const { RefCell::new(Vec::new()) };
    /// The query of the unnamed portal when the user or the tenant last changed.
    static SUSPENDED: Cell<*mut pg_sys::QueryDesc> = const { Cell::new(std::ptr::null_mut()) };
    static CHECKED_AT: Cell<Option<CheckedFor>> = const { Cell::new(None) };
    /// The cursor that was active when a function that runs queries was about to run. The rows of such a function may
    /// depend on who fetches them.
    static CURSOR_OF_QUERY_FUNCTION: Cell<Option<Cursor>> = const { Cell::new(None) };
}

/// Records the active cursor, if there is one and it is not recorded yet. Called when a query or a utility command
/// starts. Does not record cursors of superusers and other roles that bypass policies, because these roles are trusted.
/// Does not record cursors of the anonymous caller either, who can access no tenant, unless the cursor's rows may
/// depend on who fetches them.
pub fn note_start() -> Result<()> {
    let Some(cursor) = Cursor::active().filter(|cursor| !is_known(*cursor)) else {
        return Ok(());
    };
    if access::is_sandboxed() || check::bypasses_policies(roles::current()) {
        return Ok(());
    }
    let caller = caller();
    let runs_queries = CURSOR_OF_QUERY_FUNCTION.take() == Some(cursor);
    if caller == Caller::Anonymous && !runs_queries && !cursor.depends_on_caller() {
        return Ok(());
    }
    let opened = Opened {
        cursor,
        caller,
        owner_role_of: owner_roles::tenant_of_current(roles::current()),
        tenants: access::tenants_of(caller)?,
        catalog: changes::generation(),
        shut: None,
    };
    cursor.on_drop(forget);
    OPENED.with_borrow_mut(|all| all.push(opened));
    CHECKED_AT.set(None);
    Ok(())
}

/// Returns the caller who opens or fetches. Code that runs as a tenant's owner role does so for the session. A caller
/// who cannot be determined counts as anonymous, and can access nothing.
fn caller() -> Caller {
    let role = roles::current();
    let caller = if owner_roles::tenant_of_current(role).is_some() { Caller::of_session() } else { Caller::of(role) };
    caller.unwrap_or(Caller::Anonymous)
}

/// Reports whether any cursor is recorded, in a transaction that has not failed.
pub fn any_open() -> bool {
    OPENED.with_borrow(|all| !all.is_empty()) && backend::is_in_transaction()
}

fn is_known(cursor: Cursor) -> bool {
    OPENED.with_borrow(|all| all.iter().any(|opened| opened.cursor == cursor))
}

fn forget(cursor: Cursor) {
    OPENED.with_borrow_mut(|all| all.retain(|opened| opened.cursor != cursor));
}

/// Shuts the stored cursors that do not belong to the caller, and opens the shut ones that do. Called before and after
/// anything that can change who is calling.
pub fn recheck() -> Result<()> {
    // The extension's own SQL runs as a superuser, also while a cursor is checked.
    if !any_open() || access::is_sandboxed() || check::bypasses_policies(roles::current()) {
        return Ok(());
    }
    changes::catch_up();
    let moment = (access::Moment::now(), roles::current());
    // Foreign settings change without notice.
    if CHECKED_AT.get() == Some(moment) && !access::is_by_foreign_settings() {
        return Ok(());
    }
    // Iterate over a copy, because PostgreSQL may run code that changes the list.
    for opened in OPENED.with_borrow(Vec::clone) {
        if opened.cursor.is_stored() {
            let belongs_to_caller = opened.belongs_to_caller()?;
            change(opened.cursor, |shut| match shut {
                None if !belongs_to_caller && opened.cursor.shut() => Some(Shut::ByCheck),
                Some(_) if belongs_to_caller => {
                    opened.cursor.open();
                    None
                }
                shut => shut,
            });
        }
    }
    CHECKED_AT.set(Some(moment));
    Ok(())
}

/// Shuts and opens stored cursors according to the new value of an identity setting. Called by the setting's assign
/// hook, also at the end of a transaction, where errors are not allowed.
pub fn on_identity_change(change: Change) {
    CHECKED_AT.set(None);
    if access::is_sandboxed() || access::is_by_foreign_settings() {
        return;
    }
    // The unnamed portal, which the protocol can suspend, is not recorded.
    if change.is_different()
        && let Some(unnamed) = Cursor::unnamed()
    {
        unnamed.shut();
        SUSPENDED.set(unnamed.query());
    }
    // A tenant that was chosen for a user makes no service context.
    let is_chosen = settings::choice().is_some();
    let no_user = || settings::user_id().is_ok_and(|user| user.is_none());
    OPENED.with_borrow_mut(|all| {
        for opened in all.iter_mut().filter(|opened| opened.cursor.is_stored()) {
            let belongs_to_caller = match (change, opened.caller) {
                // Without a user, the caller is the service context of the tenant that is set, or anonymous.
                (Change::User(None), Caller::Service(id)) => {
                    !is_chosen && settings::tenant_id().is_ok_and(|tenant| tenant == Some(id))
                }
                (Change::User(None), Caller::Anonymous) => {
                    is_chosen || settings::tenant_id().is_ok_and(|tenant| tenant.is_none())
                }
                // With a user, the caller is that user, whatever the tenant.
                (Change::User(user), caller) => caller.user() == user,
                (Change::Tenant(tenant), Caller::Service(id)) => !is_chosen && no_user() && tenant == Some(id),
                (Change::Tenant(tenant), Caller::Anonymous) => no_user() && (is_chosen || tenant.is_none()),
                (Change::Tenant(_), _) => continue,
            };
            match opened.shut {
                None if !belongs_to_caller && opened.cursor.shut() => opened.shut = Some(Shut::BySetting),
                Some(Shut::BySetting) if belongs_to_caller => {
                    opened.cursor.open();
                    opened.shut = None;
                }
                _ => {}
            }
        }
    });
}

/// Checks that the caller may fetch from the cursor. Called before FETCH and MOVE.
///
/// # Safety
/// `name` must be the name of a cursor.
pub unsafe fn check_fetch(name: *const std::ffi::c_char) -> Result<()> {
    // SAFETY: guaranteed by the caller.
    let cursor = unsafe { Cursor::by_name(name) };
    match cursor {
        Some(cursor) => permit(cursor),
        None => Ok(()),
    }
}

/// Checks that the caller may continue this query. Called when a query runs that did not just start.
pub fn check_resume(query: *mut pg_sys::QueryDesc) -> Result<()> {
    if SUSPENDED.get() == query && !check::bypasses_policies(roles::current()) {
        return Err(Error::Inaccessible { kind: "cursor", name: String::new() });
    }
    match Cursor::active().filter(|cursor| cursor.query() == query) {
        Some(cursor) => permit(cursor),
        None => Ok(()),
    }
}

/// Forgets the suspended query. A query that starts is a new one, even if it is at the same address.
pub fn forget_suspended(query: *mut pg_sys::QueryDesc) {
    if SUSPENDED.get() == query {
        SUSPENDED.set(std::ptr::null_mut());
    }
}

fn permit(cursor: Cursor) -> Result<()> {
    let opened = OPENED.with_borrow(|all| all.iter().find(|opened| opened.cursor == cursor).cloned());
    match opened {
        Some(opened) if !access::is_sandboxed() && !opened.belongs_to_caller()? => {
            Err(Error::Inaccessible { kind: "cursor", name: cursor.name() })
        }
        _ => Ok(()),
    }
}

/// Closes the cursors that are shut. Called before another role's code runs, so that the code finds no such cursor
/// instead of one that cannot be run.
pub fn before_untrusted_code() -> Result<()> {
    if !any_open() || check::bypasses_policies(roles::current()) {
        return Ok(());
    }
    recheck()?;
    for opened in OPENED.with_borrow(Vec::clone).into_iter().filter(|opened| opened.shut.is_some()) {
        opened.cursor.open();
        change(opened.cursor, |_| None);
        opened.cursor.close();
        // PostgreSQL does not close a cursor in use, so shut it again.
        if is_known(opened.cursor) && opened.cursor.shut() {
            change(opened.cursor, |_| Some(Shut::ByCheck));
        }
    }
    Ok(())
}

/// Closes the cursors that are shut if the function might fetch from them. Called before a function runs.
pub fn before_function(function: pg_sys::Oid) -> Result<()> {
    if catalogs::runs_queries(function) {
        CURSOR_OF_QUERY_FUNCTION.set(Cursor::active());
    }
    if !any_open() || !may_fetch(function) {
        return Ok(());
    }
    before_untrusted_code()
}

/// Reports whether the function might fetch from a cursor: the built-in functions that take a cursor do, and any
/// function that is neither built in nor in the catalog's schema might. Other built-in functions do not, and one of
/// them, `set_config`, may be about to restore the user who opened the cursor. Policies call the functions in the
/// catalog's schema.
fn may_fetch(function: pg_sys::Oid) -> bool {
    let number = function.to_u32();
    if number < pg_sys::FirstNormalObjectId {
        return number == pg_sys::F_CURSOR_TO_XML || number == pg_sys::F_CURSOR_TO_XMLSCHEMA;
    }
    Some(catalogs::function_schema(function)) != catalogs::schema_by_name(catalog::SCHEMA)
}

fn change(cursor: Cursor, to: impl FnOnce(Option<Shut>) -> Option<Shut>) {
    OPENED.with_borrow_mut(|all| {
        if let Some(opened) = all.iter_mut().find(|opened| opened.cursor == cursor) {
            opened.shut = to(opened.shut);
        }
    });
}

impl Opened {
    /// Reports whether the caller is the one who opened the cursor, and can access everything that it may hold.
    fn belongs_to_caller(&self) -> Result<bool> {
        // Code that runs as an owner role may return its cursors to the session, but not use those of the session.
        let owner_role_of = owner_roles::tenant_of_current(roles::current());
        if owner_role_of.is_some() && owner_role_of != self.owner_role_of {
            return Ok(false);
        }
        let caller = caller();
        let is_same = caller == self.caller
            || matches!((self.caller, caller), (Caller::User(then), Caller::InstanceAdmin { user: Some(now) }) if then == now);
        if !is_same {
            return Ok(false);
        }
        if changes::generation() != self.catalog {
            let tenants = access::tenants_of(caller)?;
            if !matches!(caller, Caller::InstanceAdmin { .. }) && !self.tenants.iter().all(|id| tenants.contains(id)) {
                return Ok(false);
            }
        }
        // SAFETY: the statements of a portal live as long as the portal.
        let uses = unsafe {
            lists::nodes::<pg_sys::PlannedStmt>(self.cursor.statements())
                .flat_map(|plan| range_table::uses_of_plan(plan))
        };
        Ok(check::inaccessible(uses.collect::<Vec<_>>().into_iter())?.is_none())
    }
}
