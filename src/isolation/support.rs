//! The planner support function of `reachable`: where the check is made when the query starts, the policy's own call is
//! the constant true, and costs nothing per row.

use pgrx::pg_sys;

use super::hooks;

/// The planner's answer, as a node, or null for "leave the call as it is".
///
/// # Safety
/// `request` is the node that the server passes to support functions.
pub unsafe fn simplify(request: *mut pg_sys::Node) -> *mut pg_sys::Node {
    // SAFETY: the tag tells the node's type.
    let simplifies = unsafe { pgrx::is_a(request, pg_sys::NodeTag::T_SupportRequestSimplify) };
    if simplifies && hooks::in_force() {
        // SAFETY: allocates a node in the planner's memory context.
        unsafe { pg_sys::makeBoolConst(true, false) }
    } else {
        std::ptr::null_mut()
    }
}
