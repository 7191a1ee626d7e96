//! The planner support functions of the functions that policies call. Where the executor-start check is in force, a
//! call becomes the constant true and costs nothing per row. Most calls have already been removed by `lift_policies`.
//! This covers those in functions that are inlined while the query is planned.

use pgrx::{FromDatum, Uuid, pg_sys};

use super::{hook_probe, tenant_of};
use crate::error::Result;
use crate::pg::lists;

/// Simplifies a call of `accessible`. Returns the replacement as a node, or null to leave the call as it is.
///
/// # Safety
/// `request` must be the node that PostgreSQL passes to support functions.
pub unsafe fn simplify_accessible(request: *mut pg_sys::Node) -> Result<*mut pg_sys::Node> {
    // SAFETY: guaranteed by the caller.
    unsafe { simplify(request, |request| Ok(hook_probe::in_force() && is_checked_at_start(request)?)) }
}

/// Simplifies a call of `installed`, which is always true. Policies call it so that DROP EXTENSION drops them. Returns
/// the same as `simplify_accessible`.
///
/// # Safety
/// As for `simplify_accessible`.
pub unsafe fn simplify_installed(request: *mut pg_sys::Node) -> Result<*mut pg_sys::Node> {
    // SAFETY: guaranteed by the caller.
    unsafe { simplify(request, |_| Ok(true)) }
}

/// Returns the constant true if the request is one to simplify a call and `is_true` holds, otherwise null.
///
/// # Safety
/// As for `simplify_accessible`.
unsafe fn simplify(
    request: *mut pg_sys::Node,
    is_true: impl FnOnce(*mut pg_sys::SupportRequestSimplify) -> Result<bool>,
) -> Result<*mut pg_sys::Node> {
    // SAFETY: a node's tag determines its type. makeBoolConst allocates in the planner's memory context.
    unsafe {
        let simplifies = pgrx::is_a(request, pg_sys::NodeTag::T_SupportRequestSimplify) && is_true(request.cast())?;
        Ok(if simplifies { pg_sys::makeBoolConst(true, false) } else { std::ptr::null_mut() })
    }
}

/// Reports whether the executor-start check covers the call: the query uses a relation in the schema of the tenant that
/// the call names. If a table's policy names another tenant than its schema does, or if the table left its tenant's
/// schema, its policy is evaluated.
///
/// # Safety
/// `request` must come from the planner.
unsafe fn is_checked_at_start(request: *mut pg_sys::SupportRequestSimplify) -> Result<bool> {
    // SAFETY: a null root means that there is no query. A call of accessible(uuid) has one argument. The tag of a node
    // determines its type.
    unsafe {
        let root = (*request).root;
        let Some(tenant) = tenant_argument((*request).fcall).filter(|_| !root.is_null()) else {
            return Ok(false);
        };
        let mut is_used = false;
        for entry in lists::nodes::<pg_sys::RangeTblEntry>((*(*root).parse).rtable) {
            if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION {
                let is_in_schema = tenant_of::tenant_of_relation((*entry).relid)? == Some(tenant);
                // The request does not show to which relation the policy belongs.
                if !is_in_schema && !(*entry).securityQuals.is_null() {
                    return Ok(false);
                }
                is_used |= is_in_schema;
            }
        }
        Ok(is_used)
    }
}

/// Returns the tenant that a call of accessible(uuid) names, if its argument is a constant.
///
/// # Safety
/// `call` must be a call of that function.
pub unsafe fn tenant_argument(call: *mut pg_sys::FuncExpr) -> Option<Uuid> {
    // SAFETY: guaranteed by the caller. There is one argument, a uuid. A node's tag determines its type.
    unsafe {
        let argument = lists::nodes::<pg_sys::Node>((*call).args).next()?;
        if !pgrx::is_a(argument, pg_sys::NodeTag::T_Const) {
            return None;
        }
        let constant = argument.cast::<pg_sys::Const>();
        Uuid::from_datum((*constant).constvalue, (*constant).constisnull)
    }
}
