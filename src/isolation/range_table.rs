//! The relations that a query or a plan uses, read from its range table.

use pgrx::pg_sys;

#[cfg(not(feature = "pg15"))]
use crate::pg::nodes;
use crate::pg::{lists, roles};

/// A relation in a query, and the role whose privileges count for it. `None` is a child that the planner added for its
/// parent, where the server does not say for whom.
#[derive(Clone, Copy)]
pub struct Use {
    pub relation: pg_sys::Oid,
    pub role: Option<pg_sys::Oid>,
    /// Used by a view or a rule, whose owner that role is.
    pub is_by_view: bool,
    /// A materialized view or a foreign table, which no policy covers. Where it is a tenant's the server asks for no
    /// privilege on it, see `planner`.
    pub is_unguarded: bool,
}

/// # Safety
/// A range table and, from PostgreSQL 16 on, the permissions that belong to it; NIL is empty. They outlive the answer.
pub unsafe fn uses(
    range_table: *mut pg_sys::List,
    permissions: *mut pg_sys::List,
) -> impl Iterator<Item = Use> + Clone {
    let current = roles::current();
    // SAFETY: by the caller's promise.
    let entries = unsafe { lists::nodes::<pg_sys::RangeTblEntry>(range_table) };
    // SAFETY: entries of a range table.
    entries.filter_map(move |entry| unsafe {
        // A view is a subquery that keeps the view's oid for its permissions.
        let relation = (*entry).relid;
        let is_relation = matches!((*entry).rtekind, pg_sys::RTEKind::RTE_RELATION | pg_sys::RTEKind::RTE_SUBQUERY);
        (is_relation && relation != pg_sys::InvalidOid).then(|| {
            let named = named_role(entry, permissions);
            Use {
                relation,
                role: named.map(|role| if role == pg_sys::InvalidOid { current } else { role }),
                is_by_view: named.is_some_and(|role| role != pg_sys::InvalidOid),
                is_unguarded: is_unguarded(entry),
            }
        })
    })
}

/// Whether an entry is a materialized view or a foreign table.
///
/// # Safety
/// An entry of a range table.
pub unsafe fn is_unguarded(entry: *mut pg_sys::RangeTblEntry) -> bool {
    // SAFETY: by the caller's promise.
    matches!(unsafe { (*entry).relkind } as u8, pg_sys::RELKIND_MATVIEW | pg_sys::RELKIND_FOREIGN_TABLE)
}

/// The entries of a plan that are so, and what the server asks for each.
///
/// # Safety
/// A planned statement that outlives the answer.
pub unsafe fn unguarded(plan: *mut pg_sys::PlannedStmt) -> impl Iterator<Item = *mut pg_sys::RangeTblEntry> {
    // SAFETY: by the caller's promise.
    unsafe { lists::nodes::<pg_sys::RangeTblEntry>((*plan).rtable).filter(|entry| is_unguarded(*entry)) }
}

/// Has the server ask for no privilege on an entry's relation.
///
/// # Safety
/// An entry of the range table of a plan that nobody has run yet.
pub unsafe fn ask_no_privilege(plan: *mut pg_sys::PlannedStmt, entry: *mut pg_sys::RangeTblEntry) {
    // SAFETY: by the caller's promise.
    #[cfg(feature = "pg15")]
    unsafe {
        let _ = plan;
        (*entry).requiredPerms = 0;
    }
    // SAFETY: as above.
    #[cfg(not(feature = "pg15"))]
    unsafe {
        if let Some(permission) = permission_of(entry, (*plan).permInfos) {
            (*permission).requiredPerms = 0;
        }
    }
}

/// Whether a query reads columns of an entry's table that every table has, such as `ctid`.
///
/// # Safety
/// A query and an entry of its range table.
pub unsafe fn uses_system_columns(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry) -> bool {
    // SAFETY: by the caller's promise; a set of numbers of columns, from the lowest on.
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
        // 0 stands for the whole row.
        let first = pg_sys::bms_next_member(columns, -1);
        (0..-pg_sys::FirstLowInvalidHeapAttributeNumber).contains(&first)
    }
}

/// Has another query ask for the permissions on an entry that has moved there and is its only one.
///
/// # Safety
/// A query, a copy of an entry of its range table, and the other query.
#[cfg(feature = "pg15")]
pub unsafe fn move_permission(_: *mut pg_sys::Query, _: *mut pg_sys::RangeTblEntry, _: *mut pg_sys::Query) {}

/// # Safety
/// As above.
#[cfg(not(feature = "pg15"))]
pub unsafe fn move_permission(query: *mut pg_sys::Query, entry: *mut pg_sys::RangeTblEntry, to: *mut pg_sys::Query) {
    // SAFETY: by the caller's promise.
    unsafe {
        if let Some(permission) = permission_of(entry, (*query).rteperminfos) {
            (*to).rteperminfos = nodes::one(nodes::copy(permission).cast());
            (*entry).perminfoindex = 1;
        }
    }
}

/// # Safety
/// An entry of a range table.
pub unsafe fn ask_no_permission(entry: *mut pg_sys::RangeTblEntry) {
    // SAFETY: by the caller's promise.
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

/// The role whose privileges count for an entry; `None` for a child that the planner added.
///
/// # Safety
/// An entry of a range table and the permissions that belong to it.
pub unsafe fn acting_role(
    entry: *mut pg_sys::RangeTblEntry,
    permissions: *mut pg_sys::List,
    current: pg_sys::Oid,
) -> Option<pg_sys::Oid> {
    // SAFETY: by the caller's promise.
    let role = unsafe { named_role(entry, permissions) }?;
    Some(if role == pg_sys::InvalidOid { current } else { role })
}

/// InvalidOid stands for the current role.
///
/// # Safety
/// As for `acting_role`.
#[cfg(feature = "pg15")]
unsafe fn named_role(entry: *mut pg_sys::RangeTblEntry, _permissions: *mut pg_sys::List) -> Option<pg_sys::Oid> {
    // SAFETY: by the caller's promise.
    Some(unsafe { (*entry).checkAsUser })
}

/// # Safety
/// As for `acting_role`.
#[cfg(not(feature = "pg15"))]
unsafe fn named_role(entry: *mut pg_sys::RangeTblEntry, permissions: *mut pg_sys::List) -> Option<pg_sys::Oid> {
    // SAFETY: by the caller's promise.
    unsafe { permission_of(entry, permissions).map(|permission| (*permission).checkAsUser) }
}

/// # Safety
/// As for `acting_role`.
#[cfg(not(feature = "pg15"))]
unsafe fn permission_of(
    entry: *mut pg_sys::RangeTblEntry,
    permissions: *mut pg_sys::List,
) -> Option<*mut pg_sys::RTEPermissionInfo> {
    // SAFETY: by the caller's promise; the index counts from 1, and 0 means none.
    unsafe {
        let index = ((*entry).perminfoindex as usize).checked_sub(1)?;
        lists::nodes::<pg_sys::RTEPermissionInfo>(permissions).nth(index)
    }
}

/// # Safety
/// A planned statement that outlives the answer.
pub unsafe fn uses_of_plan(plan: *mut pg_sys::PlannedStmt) -> impl Iterator<Item = Use> + Clone {
    // SAFETY: by the caller's promise.
    unsafe {
        #[cfg(feature = "pg15")]
        let permissions = std::ptr::null_mut();
        #[cfg(not(feature = "pg15"))]
        let permissions = (*plan).permInfos;
        uses((*plan).rtable, permissions)
    }
}
