//! Functions of the catalog's schema: what policies, event triggers and triggers call.

use pgrx::datum::{Internal, Uuid};
use pgrx::prelude::*;

use super::{Result, answer};
use crate::access;
use crate::catalog::{Catalog, changes};
use crate::isolation::planner_support;
use crate::pg::parse_tree::alter_table;
use crate::pg::roles;
use crate::protection::event_triggers::{self, Command};
use crate::protection::{before_command, dependents, policy_conditions, sequences};

/// Planner support of reachable().
#[pg_extern(sql = false)]
fn reachable_support(request: Internal) -> Result<Internal> {
    // SAFETY: the planner passes a node.
    planner_answer(request, |node| unsafe { planner_support::simplify_reachable(node) })
}

/// Planner support of installed().
#[pg_extern(sql = false)]
fn installed_support(request: Internal) -> Result<Internal> {
    // SAFETY: as above.
    planner_answer(request, |node| unsafe { planner_support::simplify_installed(node) })
}

/// The one argument of a support function is a node, the answer a node or null.
fn planner_answer(
    request: Internal,
    simplify: impl FnOnce(*mut pg_sys::Node) -> crate::error::Result<*mut pg_sys::Node>,
) -> Result<Internal> {
    answer(|| {
        let node = request.unwrap().map_or(std::ptr::null_mut(), |datum| datum.cast_mut_ptr());
        Ok(Internal::from(Some(pg_sys::Datum::from(simplify(node)?))))
    })
}

/// Whether the caller reaches the tenant's tables now; called by the policy tenant_isolation.
#[pg_extern(sql = false)]
fn reachable(tenant_id: Uuid) -> Result<bool> {
    answer(|| {
        changes::catch_up();
        access::is_reachable(roles::current(), tenant_id)
    })
}

/// True; what the policy tenant_access depends on.
/// Not declared immutable: the server would run it for each policy of each query to learn that it is true.
#[pg_extern(sql = false)]
fn installed() -> bool {
    true
}

/// nextval() for sequences of tenants, which are granted to nobody.
#[pg_extern(sql = false)]
fn nextval(sequence: pg_sys::Oid) -> Result<i64> {
    answer(|| sequences::next_value(sequence))
}

/// The tenants whose catalog rows the caller sees; called by the catalog's policies.
#[pg_extern(sql = false)]
fn visible_tenant_ids() -> Result<Vec<Uuid>> {
    answer(|| access::visible_tenant_ids(&Catalog::latest()?))
}

/// The tenants whose rows the caller reaches now; called by the policy tenant_isolation of shared tables.
#[pg_extern(sql = false)]
fn reachable_tenant_ids() -> Result<Vec<Uuid>> {
    answer(|| access::reachable_tenant_ids(&Catalog::latest()?))
}

/// The tenant in a policy's condition; called by the view isolation_policies.
#[pg_extern(sql = false)]
fn policy_tenant(condition: &str) -> Result<Option<Uuid>> {
    answer(|| policy_conditions::tenant(condition))
}

/// The tenant column in a policy's condition; called by the view isolation_policies.
#[pg_extern(sql = false)]
fn policy_column(condition: &str) -> Result<Option<i16>> {
    answer(|| policy_conditions::column(condition))
}

/// Event trigger: see `before_command`.
#[pg_extern(sql = false)]
fn before_command(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    // SAFETY: the server calls event trigger functions with EventTriggerData as context, and others not at all; the
    // tag tells the node's type.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || !pgrx::is_a(context, pg_sys::NodeTag::T_EventTriggerData) {
            return Ok(());
        }
        answer(|| before_command::permit((*context.cast::<pg_sys::EventTriggerData>()).parsetree))
    }
}

/// Event trigger: see `event_triggers`.
#[pg_extern(sql = false)]
fn after_command(fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    // SAFETY: the server calls event trigger functions with EventTriggerData as context, and others not at all; the
    // tags tell the nodes' types.
    let command = unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || !pgrx::is_a(context, pg_sys::NodeTag::T_EventTriggerData) {
            Command::Other
        } else {
            let data = context.cast::<pg_sys::EventTriggerData>();
            match (*(*data).parsetree).type_ {
                pg_sys::NodeTag::T_AlterTableStmt if alter_table::is_harmless((*data).parsetree.cast()) => {
                    return Ok(());
                }
                pg_sys::NodeTag::T_AlterTableStmt if alter_table::attaches((*data).parsetree.cast()) => {
                    Command::Attaches
                }
                pg_sys::NodeTag::T_AlterTableStmt => Command::AltersInPlace,
                pg_sys::NodeTag::T_AlterObjectSchemaStmt => Command::Moves,
                _ => Command::Other,
            }
        }
    };
    answer(|| event_triggers::after_command(command))
}

/// Event trigger: see `dependents`.
#[pg_extern(sql = false)]
fn after_any_command(_fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    answer(dependents::refuse_out_of_reach)
}

/// Event trigger: see `event_triggers`.
#[pg_extern(sql = false)]
fn after_drop(_fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
    answer(event_triggers::after_drop)
}

/// Trigger of the catalog's tables: tells the caches of all sessions.
#[pg_extern(sql = false)]
fn catalog_changed(fcinfo: pg_sys::FunctionCallInfo) {
    // SAFETY: the server calls trigger functions with TriggerData as context, and other calls without.
    unsafe {
        let context = (*fcinfo).context;
        if !context.is_null() && pgrx::is_a(context, pg_sys::NodeTag::T_TriggerData) {
            changes::announce();
        }
    }
}
