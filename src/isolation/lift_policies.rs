//! Takes the policies of tenants' tables out of a query before it is planned. What they ask is checked when the query
//! starts; while they are there, even as the constant true, the planner orders its filters by them, makes no use of
//! statistics, and takes longer.
//!
//! Only for a caller who reaches the tenant: the planner calls operators of users with values from statistics, and knows by
//! the policies when not to.

use std::cell::Cell;
use std::ffi::c_void;

use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid, direct_function_call};

use super::check::{self, Look};
use super::{catalog_barrier, planner_support, range_table, tenant_of};
use crate::catalog::{self, changes};
use crate::error::{Error, Result};
use crate::pg::{catalogs, lists, roles};

/// What policies of tenants' tables call, and the catalog's schema.
#[derive(Clone, Copy)]
struct Extension {
    accessible: pg_sys::Oid,
    installed: pg_sys::Oid,
    schema: pg_sys::Oid,
}

/// By what others had committed when the server's messages were last taken in. Policies are lifted where the check at the start is in
/// force; those of the catalog stay, behind a barrier.
///
/// # Safety
/// A query as the planner gets it, which may be written to, as the planner does.
pub unsafe fn lift_policies(query: *mut pg_sys::Query, is_checked_at_start: bool) -> Result<()> {
    // SAFETY: by the caller's promise.
    unsafe {
        let Some(extension) = extension() else {
            return Ok(());
        };
        let current = roles::current();
        let mut lift = Lift { extension, is_checked_at_start, current, look: Look::default(), outcome: Ok(()) };
        lift.visit(query);
        lift.outcome
    }
}

/// Materialized views and foreign tables of tenants are granted to nobody: what a privilege alone opens, such as their
/// statistics, is nobody's. Whether the caller reaches them is asked as each plan starts, as of every relation.
///
/// # Safety
/// A plan that nobody has run yet.
pub unsafe fn lift_privileges(plan: *mut pg_sys::PlannedStmt) -> Result<()> {
    // SAFETY: by the caller's promise.
    unsafe {
        for entry in range_table::unguarded(plan) {
            if tenant_of::tenant_of_relation((*entry).relid)?.is_some() {
                range_table::ask_no_privilege(plan, entry);
            }
        }
    }
    Ok(())
}

struct Lift {
    extension: Extension,
    is_checked_at_start: bool,
    current: pg_sys::Oid,
    look: Look,
    /// The first error. The walk goes on through C code.
    outcome: Result<()>,
}

impl Lift {
    /// # Safety
    /// As for `lift_policies`.
    unsafe fn visit(&mut self, query: *mut pg_sys::Query) {
        // SAFETY: by the caller's promise; the kind of an entry tells which of its fields are in use, and a common table
        // expression holds a query.
        unsafe {
            if !(*query).hasRowSecurity || self.outcome.is_err() {
                return;
            }
            for entry in lists::nodes::<pg_sys::RangeTblEntry>((*query).rtable) {
                if (*entry).rtekind == pg_sys::RTEKind::RTE_SUBQUERY {
                    self.visit((*entry).subquery);
                }
            }
            for expression in lists::nodes::<pg_sys::CommonTableExpr>((*query).cteList) {
                self.visit((*expression).ctequery.cast());
            }
            if (*query).hasSubLinks {
                let rest = pg_sys::QTW_IGNORE_RT_SUBQUERIES | pg_sys::QTW_IGNORE_CTE_SUBQUERIES;
                pg_sys::query_tree_walker(query, Some(visit_queries_in), std::ptr::from_mut(self).cast(), rest as i32);
            }
            // Last, for a barrier is a query with policies too.
            if self.outcome.is_ok()
                && let Err(error) = self.lift_of(query)
            {
                self.outcome = Err(error);
            }
        }
    }

    /// Of the query's own tables.
    ///
    /// # Safety
    /// As for `lift_policies`.
    unsafe fn lift_of(&mut self, query: *mut pg_sys::Query) -> Result<()> {
        // SAFETY: by the caller's promise; the result relation counts from 1, and 0 means none.
        unsafe {
            let entries = lists::nodes::<pg_sys::RangeTblEntry>((*query).rtable);
            #[cfg(feature = "pg15")]
            let permissions = std::ptr::null_mut();
            #[cfg(not(feature = "pg15"))]
            let permissions = (*query).rteperminfos;
            let target = ((*query).resultRelation as usize).checked_sub(1);
            for (index, entry) in entries.enumerate() {
                let has_checks = target == Some(index) && !(*query).withCheckOptions.is_null();
                if (*entry).rtekind != pg_sys::RTEKind::RTE_RELATION
                    || ((*entry).securityQuals.is_null() && !has_checks)
                {
                    continue;
                }
                let Some(role) = range_table::acting_role(entry, permissions, self.current) else {
                    continue;
                };
                let Some(tenant) = tenant_of::tenant_of_relation((*entry).relid)? else {
                    if catalogs::relation_schema((*entry).relid) == self.extension.schema {
                        // A MERGE that does nothing asks for no right to write, and has no barrier.
                        if target == Some(index) {
                            return Err(inaccessible((*entry).relid));
                        }
                        catalog_barrier::put(query, entry, index as i32 + 1)?;
                    }
                    continue;
                };
                // The check at the start refuses it too, but the planner asks statistics and indexes before.
                if !self.look.reaches(role, tenant)? {
                    return Err(inaccessible((*entry).relid));
                }
                if !self.is_checked_at_start {
                    continue;
                }
                let extension = self.extension;
                (*entry).securityQuals =
                    lists::retain((*entry).securityQuals, |condition| !extension.is_met(condition, tenant));
                if has_checks {
                    let checks = (*query).withCheckOptions;
                    (*query).withCheckOptions = lists::retain(checks, |check: *mut pg_sys::WithCheckOption| {
                        (*check).kind == pg_sys::WCOKind::WCO_VIEW_CHECK || !extension.is_met((*check).qual, tenant)
                    });
                }
            }
            Ok(())
        }
    }
}

fn inaccessible(relation: pg_sys::Oid) -> Error {
    Error::Inaccessible { kind: "table", name: check::relation_name(relation) }
}

/// What `lift_policies` has not seen: tables of a function's query, and what no policy covers, materialized views and foreign tables.
/// One that is out of reach is not so much as planned.
///
/// # Safety
/// A query that is being planned, and one of its entries.
pub unsafe fn permit_planning(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry) -> Result<()> {
    // SAFETY: by the caller's promise.
    unsafe {
        let Some(tenant) = tenant_of::tenant_of_relation((*entry).relid)? else {
            return Ok(());
        };
        #[cfg(feature = "pg15")]
        let permissions = {
            let _ = query;
            std::ptr::null_mut()
        };
        #[cfg(not(feature = "pg15"))]
        let permissions = (*query).rteperminfos;
        let role = range_table::acting_role(entry, permissions, roles::current()).unwrap_or_else(roles::current);
        if check::bypasses_policies(role) || Look::default().reaches(role, tenant)? {
            return Ok(());
        }
        Err(inaccessible((*entry).relid))
    }
}

impl Extension {
    /// Whether a policy's condition is one of ours, and true for whoever reaches the tenant.
    ///
    /// # Safety
    /// An expression.
    unsafe fn is_met(self, condition: *mut pg_sys::Node, tenant: Uuid) -> bool {
        // SAFETY: the tag tells the node's type.
        unsafe {
            if !pgrx::is_a(condition, pg_sys::NodeTag::T_FuncExpr) {
                return false;
            }
            let call = condition.cast::<pg_sys::FuncExpr>();
            (*call).funcid == self.installed
                || ((*call).funcid == self.accessible && planner_support::tenant_asked_about(call) == Some(tenant))
        }
    }
}

/// # Safety
/// Called by the server's tree walkers with a node, or null, and the context that they were given.
#[pg_guard]
unsafe extern "C-unwind" fn visit_queries_in(node: *mut pg_sys::Node, lift: *mut c_void) -> bool {
    // SAFETY: by the contract of walkers; the tag tells the node's type.
    unsafe {
        if node.is_null() {
            return false;
        }
        if pgrx::is_a(node, pg_sys::NodeTag::T_Query) {
            (*lift.cast::<Lift>()).visit(node.cast());
            return false;
        }
        pg_sys::expression_tree_walker(node, Some(visit_queries_in), lift)
    }
}

thread_local! {
    static EXTENSION: Cell<(u64, Option<Extension>)> = const { Cell::new((0, None)) };
}

/// `None` where it is not installed in this database.
fn extension() -> Option<Extension> {
    let generation = changes::generation()?;
    let (known_in, known) = EXTENSION.get();
    if known_in == generation {
        return known;
    }
    let schema = catalogs::schema_by_name(catalog::SCHEMA)?;
    let found = find("fluxbase_tenant.accessible(pg_catalog.uuid)")
        .zip(find("fluxbase_tenant.installed()"))
        .map(|(accessible, installed)| Extension { accessible, installed, schema });
    if found.is_some() && changes::generation() == Some(generation) {
        EXTENSION.set((generation, found));
    }
    found
}

fn find(signature: &str) -> Option<pg_sys::Oid> {
    // SAFETY: a function of the server called with its one argument, a text; NULL where there is no such function.
    unsafe { direct_function_call(pg_sys::to_regprocedure, &[signature.into_datum()]) }
}
