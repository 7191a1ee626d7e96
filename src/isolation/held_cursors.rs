//! A cursor belongs to the caller who opened it: nobody else fetches from it, and its opener no more after losing a tenant
//! whose rows it may hold. Where a fetch runs the query on, the query is asked. Where the rows are in store, as those of a cursor
//! WITH HOLD are, the cursor is shut when the caller changes, so that no road leads to them: not FETCH, not a function or a
//! trigger, not the protocol.

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

/// A cursor, and what was so when it was opened.
#[derive(Clone)]
struct Opened {
    cursor: Cursor,
    caller: Caller,
    tenants: Rc<[Uuid]>,
    catalog: Option<u64>,
    shut: Option<Shut>,
}

/// Why a cursor is shut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shut {
    /// Another user or tenant was set, as the setting said.
    BySetting,
    /// The caller was looked at.
    ByLook,
}

/// As whom the cursors were looked at last: the identity settings, the catalog and the role then.
type Moment = (access::Moment, pg_sys::Oid);

thread_local! {
    static OPENED: RefCell<Vec<Opened>> = const { RefCell::new(Vec::new()) };
    /// The query of the portal without a name when the user changed.
    static SUSPENDED: Cell<*mut pg_sys::QueryDesc> = const { Cell::new(std::ptr::null_mut()) };
    static LOOKED_AT: Cell<Option<Moment>> = const { Cell::new(None) };
    /// The cursor whose query starts with a function that runs queries.
    static RUNS_QUERIES: Cell<Option<Cursor>> = const { Cell::new(None) };
}

/// Called as a query or a command starts, which may be that of a cursor. A cursor of nobody's, who reaches no tenant, is anybody's, but
/// for one that asks who is calling only as it is fetched from. Superusers and other roles that bypass policies are trusted with theirs.
pub fn note_start() -> Result<()> {
    let Some(cursor) = Cursor::active().filter(|cursor| !is_known(*cursor)) else {
        return Ok(());
    };
    if access::is_sandboxed() || check::bypasses_policies(roles::current()) {
        return Ok(());
    }
    let caller = caller();
    let runs_queries = RUNS_QUERIES.take() == Some(cursor);
    if caller == Caller::Anonymous && !runs_queries && !cursor.asks_who_fetches() {
        return Ok(());
    }
    let opened =
        Opened { cursor, caller, tenants: access::tenants_of(caller)?, catalog: changes::generation(), shut: None };
    cursor.on_drop(forget);
    OPENED.with_borrow_mut(|all| all.push(opened));
    LOOKED_AT.set(None);
    Ok(())
}

/// Who opens or fetches; what runs as a tenant's owner role does so for the session. Whoever cannot be told reaches nothing.
fn caller() -> Caller {
    let role = roles::current();
    let caller = if owner_roles::tenant_of(role).is_some() { Caller::of_session() } else { Caller::of(role) };
    caller.unwrap_or(Caller::Anonymous)
}

/// Whether there is any to look after, in a transaction that has not failed.
pub fn are_open() -> bool {
    OPENED.with_borrow(|all| !all.is_empty()) && backend::is_in_transaction()
}

fn is_known(cursor: Cursor) -> bool {
    OPENED.with_borrow(|all| all.iter().any(|opened| opened.cursor == cursor))
}

fn forget(cursor: Cursor) {
    OPENED.with_borrow_mut(|all| all.retain(|opened| opened.cursor != cursor));
}

/// Called before and after whatever may change who is calling. Shuts cursors in store that are not the caller's, and opens those
/// that are again.
pub fn settle() -> Result<()> {
    // The extension's own SQL runs as a superuser, also while a cursor is looked at.
    if !are_open() || access::is_sandboxed() || check::bypasses_policies(roles::current()) {
        return Ok(());
    }
    changes::catch_up();
    let moment = (access::Moment::now(), roles::current());
    // Settings of others change unnoticed.
    if LOOKED_AT.get() == Some(moment) && !access::is_by_foreign_settings() {
        return Ok(());
    }
    // A copy: the server may run code meanwhile.
    for opened in OPENED.with_borrow(Vec::clone) {
        if opened.cursor.is_stored() {
            let is_callers = opened.is_callers()?;
            change(opened.cursor, |shut| match shut {
                None if !is_callers && opened.cursor.shut() => Some(Shut::ByLook),
                Some(_) if is_callers => {
                    opened.cursor.open();
                    None
                }
                shut => shut,
            });
        }
    }
    LOOKED_AT.set(Some(moment));
    Ok(())
}

/// Called as one of the settings that say who is calling gets a value, also at the end of a transaction, where nothing may fail.
pub fn identity_changes(change: Change) {
    LOOKED_AT.set(None);
    if access::is_sandboxed() || access::is_by_foreign_settings() {
        return;
    }
    // The one without a name, which the protocol may suspend, is not kept account of.
    if change.is_another()
        && let Some(unnamed) = Cursor::unnamed()
    {
        unnamed.shut();
        SUSPENDED.set(unnamed.query());
    }
    OPENED.with_borrow_mut(|all| {
        for opened in all.iter_mut().filter(|opened| opened.cursor.is_stored()) {
            let is_callers = match (change, opened.caller) {
                (Change::User(None), Caller::Service(of)) => {
                    settings::tenant_id().is_ok_and(|tenant| tenant == Some(of))
                }
                (Change::User(None), Caller::Anonymous) => settings::tenant_id().is_ok_and(|tenant| tenant.is_none()),
                (Change::User(user), caller) => caller.user() == user,
                (Change::Tenant(tenant), Caller::Service(of)) => tenant == Some(of),
                (Change::Tenant(tenant), Caller::Anonymous) => tenant.is_none(),
                (Change::Tenant(_), _) => continue,
            };
            match opened.shut {
                None if !is_callers && opened.cursor.shut() => opened.shut = Some(Shut::BySetting),
                Some(Shut::BySetting) if is_callers => {
                    opened.cursor.open();
                    opened.shut = None;
                }
                _ => {}
            }
        }
    });
}

/// Called before FETCH and MOVE.
///
/// # Safety
/// A cursor's name.
pub unsafe fn permit_fetch(name: *const std::ffi::c_char) -> Result<()> {
    // SAFETY: by the caller's promise.
    let cursor = unsafe { Cursor::by_name(name) };
    match cursor {
        Some(cursor) => permit(cursor),
        None => Ok(()),
    }
}

/// Called where a query goes on that did not just start.
pub fn permit_to_go_on(query: *mut pg_sys::QueryDesc) -> Result<()> {
    if SUSPENDED.get() == query && !check::bypasses_policies(roles::current()) {
        return Err(Error::Inaccessible { kind: "cursor", name: String::new() });
    }
    match Cursor::active().filter(|cursor| cursor.query() == query) {
        Some(cursor) => permit(cursor),
        None => Ok(()),
    }
}

/// A query that starts is not the one that was there before, even if it is in the same place.
pub fn forget_suspended(query: *mut pg_sys::QueryDesc) {
    if SUSPENDED.get() == query {
        SUSPENDED.set(std::ptr::null_mut());
    }
}

fn permit(cursor: Cursor) -> Result<()> {
    let opened = OPENED.with_borrow(|all| all.iter().find(|opened| opened.cursor == cursor).cloned());
    match opened {
        Some(opened) if !access::is_sandboxed() && !opened.is_callers()? => {
            Err(Error::Inaccessible { kind: "cursor", name: cursor.name() })
        }
        _ => Ok(()),
    }
}

/// Called before code of others runs: cursors that are shut are closed, so that it is told of no cursor rather than of one that
/// cannot be run.
pub fn before_code_of_others() -> Result<()> {
    if !are_open() || check::bypasses_policies(roles::current()) {
        return Ok(());
    }
    settle()?;
    for opened in OPENED.with_borrow(Vec::clone).into_iter().filter(|opened| opened.shut.is_some()) {
        opened.cursor.open();
        change(opened.cursor, |_| None);
        opened.cursor.close();
        // One that is in use is there yet.
        if is_known(opened.cursor) && opened.cursor.shut() {
            change(opened.cursor, |_| Some(Shut::ByLook));
        }
    }
    Ok(())
}

/// Called before a function runs.
pub fn before_function(function: pg_sys::Oid) -> Result<()> {
    if catalogs::runs_queries(function) {
        RUNS_QUERIES.set(Cursor::active());
    }
    if !are_open() || !may_fetch(function) {
        return Ok(());
    }
    before_code_of_others()
}

/// Functions of others, and the server's own that take a cursor: `cursor_to_xml` and `cursor_to_xmlschema`. Others, such as
/// `set_config`, may be what puts the user back whose cursor it is, and policies call those of the catalog's schema.
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
    /// Whether who calls now is who opened it, and reaches all that it may hold.
    fn is_callers(&self) -> Result<bool> {
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
        // SAFETY: a portal's statements live as long as the portal.
        let uses = unsafe {
            lists::nodes::<pg_sys::PlannedStmt>(self.cursor.statements())
                .flat_map(|plan| range_table::uses_of_plan(plan))
        };
        Ok(check::inaccessible(uses.collect::<Vec<_>>().into_iter())?.is_none())
    }
}
