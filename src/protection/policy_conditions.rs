//! Interprets the conditions of the extension's policies in their stored form, as node trees. PostgreSQL's function
//! that prints a condition would lock the table, and wait for any transaction that is changing it.

use std::ffi::CString;

use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid, direct_function_call};

use crate::error::{Error, Result};
use crate::isolation::planner_support;
use crate::pg::lists;

/// Returns the tenant in a condition that consists of a call of accessible(), or `None` for any other condition.
pub fn tenant(condition: &str) -> Result<Option<Uuid>> {
    let accessible = function("fluxbase_tenant.accessible(pg_catalog.uuid)");
    // SAFETY: `parse` returns a node. A node's tag determines its type.
    unsafe {
        let node = parse(condition)?;
        if !pgrx::is_a(node, pg_sys::NodeTag::T_FuncExpr) {
            return Ok(None);
        }
        let call = node.cast::<pg_sys::FuncExpr>();
        Ok(if Some((*call).funcid) == accessible { planner_support::tenant_argument(call) } else { None })
    }
}

/// Returns the column in a condition of the form `column = ANY ((SELECT accessible_tenant_ids()))`, or `None` for any
/// other condition.
pub fn column(condition: &str) -> Result<Option<i16>> {
    let function = function("fluxbase_tenant.accessible_tenant_ids()");
    // SAFETY: `parse` returns a node. A node's tag determines its type, and an operator with an array has two
    // arguments.
    unsafe {
        let node = parse(condition)?;
        if !pgrx::is_a(node, pg_sys::NodeTag::T_ScalarArrayOpExpr) {
            return Ok(None);
        }
        let comparison = node.cast::<pg_sys::ScalarArrayOpExpr>();
        let mut arguments = lists::nodes::<pg_sys::Node>((*comparison).args);
        let (Some(left), Some(right)) = (arguments.next(), arguments.next()) else {
            return Ok(None);
        };
        let is_any_equal = (*comparison).useOr && (*comparison).opfuncid.to_u32() == pg_sys::F_UUID_EQ;
        if !is_any_equal || !pgrx::is_a(left, pg_sys::NodeTag::T_Var) || called_in(right) != function {
            return Ok(None);
        }
        let variable = left.cast::<pg_sys::Var>();
        let is_own = (*variable).varno as u32 == 1 && (*variable).varlevelsup == 0 && (*variable).varattno > 0;
        Ok(is_own.then_some((*variable).varattno))
    }
}

/// Returns the function in an expression of the form `(SELECT function())`.
///
/// # Safety
/// `expression` must be an expression.
unsafe fn called_in(expression: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    // SAFETY: a node's tag determines its type. A sub-select in an expression holds a query, and a query holds a
    // join tree.
    unsafe {
        if !pgrx::is_a(expression, pg_sys::NodeTag::T_SubLink) {
            return None;
        }
        let link = expression.cast::<pg_sys::SubLink>();
        if (*link).subLinkType != pg_sys::SubLinkType::EXPR_SUBLINK {
            return None;
        }
        let query = (*link).subselect.cast::<pg_sys::Query>();
        let source = (*query).jointree;
        let is_plain = (*query).commandType == pg_sys::CmdType::CMD_SELECT
            && (*query).rtable.is_null()
            && (*query).cteList.is_null()
            && (*query).limitCount.is_null()
            && (*query).limitOffset.is_null()
            && (*query).havingQual.is_null()
            && (*query).setOperations.is_null()
            && (*source).fromlist.is_null()
            && (*source).quals.is_null();
        let mut targets = lists::nodes::<pg_sys::TargetEntry>((*query).targetList);
        let (Some(target), None) = (targets.next(), targets.next()) else {
            return None;
        };
        let called = (*target).expr.cast::<pg_sys::Node>();
        (is_plain && pgrx::is_a(called, pg_sys::NodeTag::T_FuncExpr))
            .then(|| called.cast::<pg_sys::FuncExpr>())
            .filter(|call| (**call).args.is_null())
            .map(|call| (*call).funcid)
    }
}

/// Reads a node from its text.
///
/// # Safety
/// `condition` must be the text of a node, written by PostgreSQL.
unsafe fn parse(condition: &str) -> Result<*mut pg_sys::Node> {
    let text = CString::new(condition).map_err(|_| Error::internal("condition of a policy contains a zero byte"))?;
    // SAFETY: guaranteed by the caller. Only PostgreSQL can create a value of type pg_node_tree.
    Ok(unsafe { pg_sys::stringToNode(text.as_ptr()) }.cast())
}

fn function(signature: &str) -> Option<pg_sys::Oid> {
    // SAFETY: calls a built-in function with its one argument, a text. It returns NULL if there is no such function.
    unsafe { direct_function_call(pg_sys::to_regprocedure, &[signature.into_datum()]) }
}
