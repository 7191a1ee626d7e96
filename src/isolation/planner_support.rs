//! The planner support functions of what policies call: where the check is made when the query starts, a call is the
//! constant true, and costs nothing per row. Most calls are gone before, see `lift_policies`; what is inlined into a query while
//! it is planned still comes by here.

use pgrx::{FromDatum, Uuid, pg_sys};

use super::{hook_probe, tenant_of};
use crate::error::Result;
use crate::pg::lists;

/// The planner's answer, as a node, or null for "leave the call as it is".
///
/// # Safety
/// `request` is the node that the server passes to support functions.
pub unsafe fn simplify_accessible(request: *mut pg_sys::Node) -> Result<*mut pg_sys::Node> {
    // SAFETY: by the caller's promise.
    unsafe { simplify(request, |request| Ok(hook_probe::in_force() && is_checked_at_start(request)?)) }
}

/// The same for `installed`, which nothing but the library's presence makes true.
///
/// # Safety
/// As above.
pub unsafe fn simplify_installed(request: *mut pg_sys::Node) -> Result<*mut pg_sys::Node> {
    // SAFETY: by the caller's promise.
    unsafe { simplify(request, |_| Ok(true)) }
}

/// # Safety
/// As above.
unsafe fn simplify(
    request: *mut pg_sys::Node,
    is_true: impl FnOnce(*mut pg_sys::SupportRequestSimplify) -> Result<bool>,
) -> Result<*mut pg_sys::Node> {
    // SAFETY: the tag tells the node's type; makeBoolConst allocates in the planner's memory context.
    unsafe {
        let simplifies = pgrx::is_a(request, pg_sys::NodeTag::T_SupportRequestSimplify) && is_true(request.cast())?;
        Ok(if simplifies { pg_sys::makeBoolConst(true, false) } else { std::ptr::null_mut() })
    }
}

/// Whether the query uses a relation in the schema of the tenant that is asked about. A table whose policy names another
/// tenant than its schema does, or that left its tenant's schema, has its policy evaluated.
///
/// # Safety
/// A request made by the planner.
unsafe fn is_checked_at_start(request: *mut pg_sys::SupportRequestSimplify) -> Result<bool> {
    // SAFETY: no root means no query; a call of accessible(uuid) has one argument, and constants are told by their tag.
    unsafe {
        let root = (*request).root;
        let Some(tenant) = tenant_asked_about((*request).fcall).filter(|_| !root.is_null()) else {
            return Ok(false);
        };
        let mut is_used = false;
        for entry in lists::nodes::<pg_sys::RangeTblEntry>((*(*root).parse).rtable) {
            if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION {
                let is_tenants = tenant_of::tenant_of_relation((*entry).relid)? == Some(tenant);
                // Whose policy it is that asks, nobody says.
                if !is_tenants && !(*entry).securityQuals.is_null() {
                    return Ok(false);
                }
                is_used |= is_tenants;
            }
        }
        Ok(is_used)
    }
}

/// The tenant in a call of accessible(uuid), where it is written there as a constant.
///
/// # Safety
/// A call of that function.
pub unsafe fn tenant_asked_about(call: *mut pg_sys::FuncExpr) -> Option<Uuid> {
    // SAFETY: by the caller's promise it has one argument, a uuid; constants are told by their tag.
    unsafe {
        let argument = lists::nodes::<pg_sys::Node>((*call).args).next()?;
        if !pgrx::is_a(argument, pg_sys::NodeTag::T_Const) {
            return None;
        }
        let constant = argument.cast::<pg_sys::Const>();
        Uuid::from_datum((*constant).constvalue, (*constant).constisnull)
    }
}
