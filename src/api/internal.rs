//! Internal functions in the catalog's schema, which policies, views, event triggers and triggers call.

use pgrx::datum::{Internal, Uuid};
use pgrx::prelude::*;

use super::{Result, answer};
use crate::access;
use crate::catalog::{Catalog, changes};
use crate::isolation::planner_support;
use crate::pg::event_trigger::{self, Alteration};
use crate::pg::roles;
use crate::protection::event_triggers::{self, Command};
use crate::protection::{before_command, dependents, ownership, policy_conditions, sequences};

/// Simplifies a call of accessible() while a query is planned.
#[pg_extern(sql = false)]
fn accessible_support(request: Internal) -> Result<Internal> {
    // SAFETY: the planner passes a node.
    planner_answer(request, |node| unsafe { planner_support::simplify_accessible(node) })
}

/// Simplifies a call of installed() while a query is planned.
#[pg_extern(sql = false)]
fn installed_support(request: Internal) -> Result<Internal> {
    // SAFETY: the planner passes a node.
    planner_answer(request, |node| unsafe { planner_support::simplify_installed(node) })
}

/// Calls a support function, whose only argument is a node and whose result is a node or null.
fn planner_answer(
    request: Internal,
    simplify: impl FnOnce(*mut pg_sys::Node) -> crate::error::Result<*mut pg_sys::Node>,
) -> Result<Internal> {
    answer(|| {
        let node = request.unwrap().map_or(std::ptr::null_mut(), |datum| datum.cast_mut_ptr());
        Ok(Internal::from(Some(pg_sys::Datum::from(simplify(node)?))))
    })
}

/// Reports whether the tenant is accessible to the caller. Called by the policy tenant_isolation.
#[pg_extern(sql = false)]
fn accessible(tenant_id: Uuid) -> Result<bool> {
    answer(|| {
        changes::catch_up();
        access::is_accessible(roles::current(), tenant_id)
    })
}

/// Returns true. The policy tenant_access depends on it. It is not declared immutable, because PostgreSQL would then
/// call it for each policy of each query in order to simplify the condition.
#[pg_extern(sql = false)]
fn installed() -> bool {
    true
}

/// Replaces nextval() in the defaults of tenants' tables, because no privileges on their sequences are granted.
#[pg_extern(sql = false)]
fn nextval(sequence: pg_sys::Oid) -> Result<i64> {
    answer(|| sequences::next_value(sequence))
}

/// Returns the tenants whose catalog rows the caller may see. Called by the catalog's policies.
#[pg_extern(sql = false)]
fn visible_tenant_ids() -> Result<Vec<Uuid>> {
    answer(|| access::visible_tenant_ids(&Catalog::latest()?))
}

/// Returns the tenants whose rows of shared tables are accessible to the caller. Called by the policy tenant_isolation
/// of these tables.
#[pg_extern(sql = false)]
fn accessible_tenant_ids() -> Result<Vec<Uuid>> {
    answer(|| access::accessible_tenant_ids(&Catalog::latest()?))
}

/// Returns the tenant in a policy's condition. Called by the view isolation_policies.
#[pg_extern(sql = false)]
fn policy_tenant(condition: &str) -> Result<Option<Uuid>> {
    answer(|| policy_conditions::tenant(condition))
}

/// Returns the number of the tenant column in a policy's condition. Called by the view isolation_policies.
#[pg_extern(sql = false)]
fn policy_column(condition: &str) -> Result<Option<i16>> {
    answer(|| policy_conditions::column(condition))
}

/// Checks a command before it runs. Called by an event trigger: see `before_command`.
#[pg_extern(sql = false)]
fn before_command(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    // SAFETY: PostgreSQL calls this as an event trigger function.
    let statement = unsafe { event_trigger::statement(fcinfo) };
    statement.map_or(Ok(()), |statement| answer(|| before_command::check(&statement)))
}

/// Protects the relations that a command created or changed. Called by an event trigger: see `event_triggers`.
#[pg_extern(sql = false)]
fn after_command(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    // SAFETY: PostgreSQL calls this as an event trigger function.
    let command = match unsafe { event_trigger::alteration(fcinfo) } {
        Alteration::Harmless => return Ok(()),
        Alteration::Attaches => Command::Attaches,
        Alteration::InPlace => Command::AltersInPlace,
        Alteration::Moves => Command::Moves,
        Alteration::None => Command::Other,
    };
    answer(|| event_triggers::after_command(command))
}

/// Gives what a superuser created to the owner role, and checks the dependencies of what other roles created or changed.
/// Called by an event trigger: see `ownership` and `dependents`.
#[pg_extern(sql = false)]
fn after_any_command(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    // SAFETY: PostgreSQL calls this as an event trigger function.
    let may_be_elsewhere = unsafe { event_trigger::may_create_elsewhere(fcinfo) };
    answer(|| {
        ownership::after_any_command()?;
        dependents::after_any_command(may_be_elsewhere)
    })
}

/// Refuses to drop the policy tenant_isolation. Called by an event trigger: see `event_triggers`.
#[pg_extern(sql = false)]
fn after_drop(_fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    answer(event_triggers::after_drop)
}

/// Invalidates the caches of all sessions. Called by the triggers of the catalog's tables.
#[pg_extern(sql = false)]
fn catalog_changed(fcinfo: pg_sys::FunctionCallInfo) {
    // SAFETY: the function manager passes a valid call.
    if unsafe { event_trigger::is_trigger(fcinfo) } {
        changes::announce();
    }
}
