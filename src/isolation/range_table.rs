//! Reads the relations that a query or a plan uses from its range table.

use pgrx::pg_sys;

#[cfg(not(feature = "pg15"))]
use crate::pg::nodes;
use crate::pg::{lists, roles};

/// The use of a relation in a query. `role` is the role whose privileges count. It is `None` for a child that the
/// planner added for its parent, because PostgreSQL 16 and later do not record a role for it. Earlier, it is that of
/// the parent.
#[derive(Clone, Copy)]
pub struct Use {
    pub relation: pg_sys::Oid,
    pub role: Option<pg_sys::Oid>,
    /// Whether a view or a rule uses the relation, so that `role` is the owner of the view or rule.
    pub is_by_view: bool,
    /// Whether the relation is a materialized view or a foreign table, to which policies cannot apply. If it belongs to
    /// a tenant, PostgreSQL checks no privilege on it: see `lift_policies::skip_select_checks`.
    pub cannot_have_policies: bool,
}

/// Returns the relations in a range table.
///
/// # Safety
/// `permissions` must be the permissions that belong to the range table, from PostgreSQL 16 on. Both lists must outlive
/// the result, and may be NIL.
pub unsafe fn uses(
    range_table: *mut pg_sys::List,
    permissions: *mut pg_sys::List,
) -> impl Iterator<Item = Use> + Clone {
    let current = roles::current();
    // SAFETY: guaranteed by the caller.
    let entries = unsafe { lists::nodes::<pg_sys::RangeTblEntry>(range_table) };
    // SAFETY: these are entries of a range table.
    entries.filter_map(move |entry| unsafe {
        // An expanded view is a subquery that keeps the view's OID for the permission check.
        let relation = (*entry).relid;
        let is_relation = matches!((*entry).rtekind, pg_sys::RTEKind::RTE_RELATION | pg_sys::RTEKind::RTE_SUBQUERY);
        (is_relation && relation != pg_sys::InvalidOid).then(|| {
            let named = named_role(entry, permissions);
            Use {
                relation,
                role: named.map(|role| if role == pg_sys::InvalidOid { current } else { role }),
                is_by_view: named.is_some_and(|role| role != pg_sys::InvalidOid),
                cannot_have_policies: cannot_have_policies(entry),
            }
        })
    })
}

/// Reports whether an entry is a materialized view or a foreign table.
///
/// # Safety
/// `entry` must be an entry of a range table.
pub unsafe fn cannot_have_policies(entry: *mut pg_sys::RangeTblEntry) -> bool {
    // SAFETY: guaranteed by the caller.
    matches!(unsafe { (*entry).relkind } as u8, pg_sys::RELKIND_MATVIEW | pg_sys::RELKIND_FOREIGN_TABLE)
}

/// Returns the entries of a plan that are materialized views or foreign tables.
///
/// # Safety
/// `plan` must be a planned statement that outlives the result.
pub unsafe fn entries_without_policies(
    plan: *mut pg_sys::PlannedStmt,
) -> impl Iterator<Item = *mut pg_sys::RangeTblEntry> {
    // SAFETY: guaranteed by the caller.
    unsafe { lists::nodes::<pg_sys::RangeTblEntry>((*plan).rtable).filter(|entry| cannot_have_policies(*entry)) }
}

/// Makes PostgreSQL check no privilege to read an entry's relation. The other privileges are still checked.
///
/// # Safety
/// `entry` must be an entry of the range table of `plan`, which has not been executed yet.
pub unsafe fn skip_select_check(plan: *mut pg_sys::PlannedStmt, entry: *mut pg_sys::RangeTblEntry) {
    // SAFETY: guaranteed by the caller.
    #[cfg(feature = "pg15")]
    unsafe {
        let _ = plan;
        (*entry).requiredPerms &= !pg_sys::AclMode::from(pg_sys::ACL_SELECT);
    }
    // SAFETY: as above.
    #[cfg(not(feature = "pg15"))]
    unsafe {
        if let Some(permission) = permission_of(entry, (*plan).permInfos) {
            (*permission).requiredPerms &= !pg_sys::AclMode::from(pg_sys::ACL_SELECT);
        }
    }
}

/// Reports whether a query reads system columns of an entry's table, such as `ctid`.
///
/// # Safety
/// `entry` must be an entry of the range table of `query`.
pub unsafe fn uses_system_columns(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry) -> bool {
    // SAFETY: guaranteed by the caller. The column set is ordered by column number.
    unsafe {
        #[cfg(feature = "pg15")]
        let columns = {
            let _ = query;
            (*entry).selectedCols
        };
        #[cfg(not(feature = "pg15"))]
        let columns = match permission_of(entry, (*query).rteperminfos) {
            Some(permission) => (*permission).selectedCols,
            None => return false,
        };
        // Column 0 is the whole row, not a system column.
        let first = pg_sys::bms_next_member(columns, -1);
        (0..-pg_sys::FirstLowInvalidHeapAttributeNumber).contains(&first)
    }
}

/// Copies an entry's permissions to the query into which the entry is moved as its only one. Does nothing on PostgreSQL
/// 15, where an entry holds its own permissions.
///
/// # Safety
/// `entry` must be a copy of an entry of the range table of `query`, and `to` is the other query.
#[cfg(feature = "pg15")]
pub unsafe fn move_permission(_: *mut pg_sys::Query, _: *mut pg_sys::RangeTblEntry, _: *mut pg_sys::Query) {}

/// Copies an entry's permissions to the query into which the entry is moved as its only one.
///
/// # Safety
/// `entry` must be a copy of an entry of the range table of `query`, and `to` is the other query.
#[cfg(not(feature = "pg15"))]
pub unsafe fn move_permission(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry, to: *mut pg_sys::Query) {
    // SAFETY: guaranteed by the caller.
    unsafe {
        if let Some(permission) = permission_of(entry, (*query).rteperminfos) {
            (*to).rteperminfos = nodes::one(nodes::copy(permission).cast());
            (*entry).perminfoindex = 1;
        }
    }
}

/// Removes the permissions from an entry, so that PostgreSQL checks none for it.
///
/// # Safety
/// `entry` must be an entry of a range table.
pub unsafe fn clear_permission(entry: *mut pg_sys::RangeTblEntry) {
    // SAFETY: guaranteed by the caller.
    #[cfg(feature = "pg15")]
    unsafe {
        (*entry).requiredPerms = 0;
        (*entry).checkAsUser = pg_sys::InvalidOid;
    }
    // SAFETY: as above.
    #[cfg(not(feature = "pg15"))]
    unsafe {
        (*entry).perminfoindex = 0;
    }
}

/// Returns the role whose privileges count for an entry, or `None` for a child that the planner added.
///
/// # Safety
/// `permissions` must be the permissions that belong to the range table of `entry`.
pub unsafe fn acting_role(
    entry: *mut pg_sys::RangeTblEntry,
    permissions: *mut pg_sys::List,
    current: pg_sys::Oid,
) -> Option<pg_sys::Oid> {
    // SAFETY: guaranteed by the caller.
    let role = unsafe { named_role(entry, permissions) }?;
    Some(if role == pg_sys::InvalidOid { current } else { role })
}

/// Returns the role that an entry names. InvalidOid means the current role.
///
/// # Safety
/// As for `acting_role`.
#[cfg(feature = "pg15")]
unsafe fn named_role(entry: *mut pg_sys::RangeTblEntry, _permissions: *mut pg_sys::List) -> Option<pg_sys::Oid> {
    // SAFETY: guaranteed by the caller.
    Some(unsafe { (*entry).checkAsUser })
}

/// Returns the role that an entry names. InvalidOid means the current role.
///
/// # Safety
/// As for `acting_role`.
#[cfg(not(feature = "pg15"))]
unsafe fn named_role(entry: *mut pg_sys::RangeTblEntry, permissions: *mut pg_sys::List) -> Option<pg_sys::Oid> {
    // SAFETY: guaranteed by the caller.
    unsafe { permission_of(entry, permissions).map(|permission| (*permission).checkAsUser) }
}

/// Returns the permissions of an entry, if it has any.
///
/// # Safety
/// As for `acting_role`.
#[cfg(not(feature = "pg15"))]
unsafe fn permission_of(
    entry: *mut pg_sys::RangeTblEntry,
    permissions: *mut pg_sys::List,
) -> Option<*mut pg_sys::RTEPermissionInfo> {
    // SAFETY: guaranteed by the caller. The index counts from 1, and 0 means that there are no permissions.
    unsafe {
        let index = ((*entry).perminfoindex as usize).checked_sub(1)?;
        lists::nodes::<pg_sys::RTEPermissionInfo>(permissions).nth(index)
    }
}

/// Returns the relations that a plan uses.
///
/// # Safety
/// `plan` must be a planned statement that outlives the result.
pub unsafe fn uses_of_plan(plan: *mut pg_sys::PlannedStmt) -> impl Iterator<Item = Use> + Clone {
    // SAFETY: guaranteed by the caller.
    unsafe {
        #[cfg(feature = "pg15")]
        let permissions = std::ptr::null_mut();
        #[cfg(not(feature = "pg15"))]
        let permissions = (*plan).permInfos;
        uses((*plan).rtable, permissions)
    }
}
