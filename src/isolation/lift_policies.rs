//! Lifts the policies of tenants' tables: removes them from a query before it is planned, because the executor-start
//! check covers what they check. If they stayed, even as the constant true, the planner would order its filters by
//! them, could not use statistics, and would take longer.
//!
//! Policies are lifted only for a caller who can access the tenant; for any other, the query is refused. The planner
//! calls users' operators with values from statistics, but not for a table with policies: so lifting them for others
//! would show them these values.

use std::cell::Cell;
use std::ffi::c_void;

use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid, direct_function_call};

use super::check::{self, AccessLookup};
use super::{catalog_barrier, planner_support, range_table, tenant_of};
use crate::catalog::{self, changes};
use crate::error::{Error, Result};
use crate::pg::{catalogs, lists, roles};

/// The functions that policies of tenants' tables call, and the catalog's schema.
#[derive(Clone, Copy)]
struct Extension {
    accessible: pg_sys::Oid,
    installed: pg_sys::Oid,
    schema: pg_sys::Oid,
}

/// Lifts the policies of tenants' tables if the executor-start check is in force, and adds the catalog barrier to the
/// catalog's tables. Raises an error for a tenant's table that the caller cannot access. Decides by what other
/// transactions had committed when invalidation messages were last processed.
///
/// # Safety
/// `query` must be a query as the planner receives it. It is changed.
pub unsafe fn lift_policies(query: *mut pg_sys::Query, is_checked_at_start: bool) -> Result<()> {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let Some(extension) = extension() else {
            return Ok(());
        };
        let current = roles::current();
        let mut lift =
            Lift { extension, is_checked_at_start, current, lookup: AccessLookup::default(), outcome: Ok(()) };
        lift.visit(query);
        lift.outcome
    }
}

/// Skips PostgreSQL's checks of SELECT on tenants' materialized views and foreign tables. No role is granted a
/// privilege on them, because a privilege would also give access to what PostgreSQL protects only by privileges, such
/// as their statistics. The executor-start check determines whether the caller can access them, as for every relation.
///
/// # Safety
/// `plan` must not have been executed yet.
pub unsafe fn skip_select_checks(plan: *mut pg_sys::PlannedStmt) -> Result<()> {
    // SAFETY: guaranteed by the caller.
    unsafe {
        for entry in range_table::entries_without_policies(plan) {
            if tenant_of::tenant_of_relation((*entry).relid)?.is_some() {
                range_table::skip_select_check(plan, entry);
            }
        }
    }
    Ok(())
}

struct Lift {
    extension: Extension,
    is_checked_at_start: bool,
    current: pg_sys::Oid,
    lookup: AccessLookup,
    /// The first error. It is stored here because the tree walk passes through C code.
    outcome: Result<()>,
}

impl Lift {
    /// Lifts the policies of the query and of all its subqueries.
    ///
    /// # Safety
    /// As for `lift_policies`.
    unsafe fn visit(&mut self, query: *mut pg_sys::Query) {
        // SAFETY: guaranteed by the caller. The kind of an entry determines which of its fields are used, and a common
        // table expression holds a query.
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
            // Last, because a barrier is itself a subquery with policies, which must not be visited.
            if self.outcome.is_ok()
                && let Err(error) = self.lift_from(query)
            {
                self.outcome = Err(error);
            }
        }
    }

    /// Lifts the policies of the query's own tables.
    ///
    /// # Safety
    /// As for `lift_policies`.
    unsafe fn lift_from(&mut self, query: *mut pg_sys::Query) -> Result<()> {
        // SAFETY: guaranteed by the caller. The index of the result relation counts from 1, and 0 means that there is
        // none.
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
                        // No query may write to the catalog. PostgreSQL itself would let a MERGE pass that does
                        // nothing, and its target would have no barrier.
                        if target == Some(index) {
                            return Err(inaccessible_error((*entry).relid));
                        }
                        catalog_barrier::add(query, entry, index as i32 + 1)?;
                    }
                    continue;
                };
                // The executor-start check refuses it too, but the planner reads statistics and indexes before that.
                if !self.lookup.can_access(role, tenant)? {
                    return Err(inaccessible_error((*entry).relid));
                }
                if !self.is_checked_at_start {
                    continue;
                }
                let extension = self.extension;
                (*entry).securityQuals =
                    lists::retain((*entry).securityQuals, |condition| !extension.is_ours(condition, tenant));
                if has_checks {
                    let checks = (*query).withCheckOptions;
                    (*query).withCheckOptions = lists::retain(checks, |check: *mut pg_sys::WithCheckOption| {
                        (*check).kind == pg_sys::WCOKind::WCO_VIEW_CHECK || !extension.is_ours((*check).qual, tenant)
                    });
                }
            }
            Ok(())
        }
    }
}

fn inaccessible_error(relation: pg_sys::Oid) -> Error {
    Error::Inaccessible { kind: "table", name: check::relation_name(relation) }
}

/// Raises an error if a table is not accessible that `lift_policies` has not seen: because an inlined function brought
/// it in, or because it is a materialized view or a foreign table, to which policies cannot apply.
///
/// # Safety
/// `query` must be a query that is being planned, and `entry` one of its range table entries.
pub unsafe fn check_planned_table(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry) -> Result<()> {
    // SAFETY: guaranteed by the caller.
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
        if check::bypasses_policies(role) || AccessLookup::default().can_access(role, tenant)? {
            return Ok(());
        }
        Err(inaccessible_error((*entry).relid))
    }
}

impl Extension {
    /// Reports whether a policy's condition is a call of one of the functions that our policies call, for this tenant.
    /// Such a condition is true for every caller who can access the tenant.
    ///
    /// # Safety
    /// `condition` must be an expression.
    unsafe fn is_ours(self, condition: *mut pg_sys::Node, tenant: Uuid) -> bool {
        // SAFETY: a node's tag determines its type.
        unsafe {
            if !pgrx::is_a(condition, pg_sys::NodeTag::T_FuncExpr) {
                return false;
            }
            let call = condition.cast::<pg_sys::FuncExpr>();
            (*call).funcid == self.installed
                || ((*call).funcid == self.accessible && planner_support::tenant_argument(call) == Some(tenant))
        }
    }
}

/// Visits the subqueries of an expression.
///
/// # Safety
/// `node` must be a node or null, and `lift` the context that was passed to the tree walker.
#[pg_guard]
unsafe extern "C-unwind" fn visit_queries_in(node: *mut pg_sys::Node, lift: *mut c_void) -> bool {
    // SAFETY: guaranteed by the caller. A node's tag determines its type.
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

/// Returns the extension's functions and schema, or `None` if the extension is not installed in this database.
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
    // SAFETY: calls a built-in function with its one argument, a text. It returns NULL if there is no such function.
    unsafe { direct_function_call(pg_sys::to_regprocedure, &[signature.into_datum()]) }
}
