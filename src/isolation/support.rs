//! The planner support function of `reachable`: where the check is made when the query starts, the policy's own call is
//! the constant true, and costs nothing per row.

use pgrx::{FromDatum, PgList, Uuid, pg_sys};

use super::{hooks, relations};
use crate::error::Result;

/// The planner's answer, as a node, or null for "leave the call as it is".
///
/// # Safety
/// `request` is the node that the server passes to support functions.
pub unsafe fn simplify(request: *mut pg_sys::Node) -> Result<*mut pg_sys::Node> {
    // SAFETY: the tag tells the node's type; makeBoolConst allocates in the planner's memory context.
    unsafe {
        let simplifies = pgrx::is_a(request, pg_sys::NodeTag::T_SupportRequestSimplify)
            && hooks::in_force()
            && is_checked_at_start(request.cast())?;
        Ok(if simplifies { pg_sys::makeBoolConst(true, false) } else { std::ptr::null_mut() })
    }
}

/// Whether the query uses a relation in the schema of the tenant that is asked about. A table whose policy names another
/// tenant than its schema does, or that left its tenant's schema, has its policy evaluated.
///
/// # Safety
/// A request made by the planner.
unsafe fn is_checked_at_start(request: *mut pg_sys::SupportRequestSimplify) -> Result<bool> {
    // SAFETY: no root means no query; a call of reachable(uuid) has one argument, and constants are told by their tag.
    unsafe {
        let root = (*request).root;
        let Some(argument) = PgList::<pg_sys::Node>::from_pg((*(*request).fcall).args).get_ptr(0) else {
            return Ok(false);
        };
        if root.is_null() || !pgrx::is_a(argument, pg_sys::NodeTag::T_Const) {
            return Ok(false);
        }
        let argument = argument.cast::<pg_sys::Const>();
        let Some(tenant) = Uuid::from_datum((*argument).constvalue, (*argument).constisnull) else {
            return Ok(false);
        };
        for entry in PgList::<pg_sys::RangeTblEntry>::from_pg((*(*root).parse).rtable).iter_ptr() {
            if (*entry).rtekind == pg_sys::RTEKind::RTE_RELATION
                && relations::tenant_of_relation((*entry).relid)? == Some(tenant)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
