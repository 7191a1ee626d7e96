//! Deletes and counts rows through the executor's row-level functions, as logical replication does. The table is
//! identified by its OID, so no name can resolve to another table. No planner runs, which could evaluate functions in
//! indexes, and no rules apply.

use std::time::Instant;

use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid};

use crate::error::{Error, Result};

/// The rows of a table whose uuid column holds an id.
pub struct Rows<'a> {
    pub table: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    /// The column's name, which must agree with its number.
    pub column: &'a str,
    pub number: i16,
    /// A B-tree index whose first column is this one, or InvalidOid.
    pub index: pg_sys::Oid,
    pub id: Uuid,
    /// The time at which the scan stops with an error.
    pub until: Option<Instant>,
}

/// The row triggers that fire on deletion. Those of foreign keys always fire.
pub enum Triggers {
    ForeignKeysOnly,
    AllExcept(Vec<pg_sys::Oid>),
}

impl Rows<'_> {
    /// Deletes the rows that are committed now, `limit` at most, with the privileges in force. Returns how many it
    /// visited. This includes rows that a trigger kept.
    pub fn delete(&self, triggers: &Triggers, limit: u64) -> Result<u64> {
        self.with_table(|table| {
            // SAFETY: the table is open and locked. Everything begun here is ended below or, after an error, by the end
            // of the (sub)transaction.
            unsafe {
                let estate = pg_sys::CreateExecutorState();
                let target = result_relation(estate, table, triggers);
                let mut recheck = pg_sys::EPQState::default();
                init_recheck(&mut recheck, estate);
                pg_sys::AfterTriggerBeginQuery();
                let visited = self.each(table, limit, |slot| {
                    pg_sys::ExecSimpleRelationDelete(target, estate, &mut recheck, slot);
                })?;
                pg_sys::AfterTriggerEndQuery(estate);
                pg_sys::EvalPlanQualEnd(&mut recheck);
                pg_sys::ExecCloseResultRelations(estate);
                pg_sys::ExecResetTupleTable((*estate).es_tupleTable, false);
                pg_sys::FreeExecutorState(estate);
                pg_sys::CommandCounterIncrement();
                Ok(visited)
            }
        })
    }

    /// Counts the rows that are committed now, up to `limit`.
    pub fn count(&self, limit: u64) -> Result<u64> {
        // SAFETY: the table is open and locked.
        self.with_table(|table| unsafe { self.each(table, limit, |_| {}) })
    }

    /// Opens and locks the table, and runs `run` if the table is still as the caller described it.
    fn with_table<T>(&self, run: impl FnOnce(pg_sys::Relation) -> Result<T>) -> Result<T> {
        let lock = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        // SAFETY: the result is null if the table no longer exists. The table is closed below. Its lock is kept until
        // the end of the transaction.
        unsafe {
            let table = pg_sys::try_table_open(self.table, lock);
            if table.is_null() {
                return Err(Error::conflict("table no longer exists", "Try again."));
            }
            let answer = if self.is_as_expected(table) {
                run(table)
            } else {
                Err(Error::conflict("table was changed concurrently, or is a foreign table", "Try again."))
            };
            pg_sys::table_close(table, pg_sys::NoLock as pg_sys::LOCKMODE);
            answer
        }
    }

    /// Reports whether the table's owner, kind and column are as the caller described them.
    ///
    /// # Safety
    /// `table` must be open.
    unsafe fn is_as_expected(&self, table: pg_sys::Relation) -> bool {
        // SAFETY: the caller guarantees an open table. The column's number is checked before it is used.
        unsafe {
            let (class, columns) = ((*table).rd_rel, (*table).rd_att);
            if (*class).relowner != self.owner
                || (*class).relkind as u8 != pg_sys::RELKIND_RELATION
                || !(1..=(*columns).natts).contains(&i32::from(self.number))
            {
                return false;
            }
            let name = pg_sys::get_attname(self.table, self.number, true);
            !name.is_null()
                && std::ffi::CStr::from_ptr(name).to_bytes() == self.column.as_bytes()
                && pg_sys::get_atttype(self.table, self.number) == pg_sys::UUIDOID
        }
    }

    /// Calls `run` for each row, `limit` at most. Returns how many rows there were.
    ///
    /// # Safety
    /// `table` must be open and locked.
    unsafe fn each(
        &self,
        table: pg_sys::Relation,
        limit: u64,
        mut run: impl FnMut(*mut pg_sys::TupleTableSlot),
    ) -> Result<u64> {
        // SAFETY: the caller guarantees an open and locked table. Without an index, the scan is sequential. The scan
        // and the snapshot are ended below or, after an error, by the end of the (sub)transaction.
        unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let mut condition = pg_sys::ScanKeyData::default();
            let id = self.id.into_datum().ok_or_else(|| Error::internal("unexpected NULL for a uuid"))?;
            let equal = pg_sys::BTEqualStrategyNumber as u16;
            pg_sys::ScanKeyInit(&mut condition, self.number, equal, pg_sys::F_UUID_EQ.into(), id);
            let has_index =
                self.index != pg_sys::InvalidOid && pg_sys::get_rel_relkind(self.index) as u8 == pg_sys::RELKIND_INDEX;
            let scan = pg_sys::systable_beginscan(table, self.index, has_index, snapshot, 1, &mut condition);
            let mut visited = 0;
            while visited < limit && !pg_sys::systable_getnext(scan).is_null() {
                run((*scan).slot);
                visited += 1;
                if self.until.is_some_and(|until| Instant::now() > until) {
                    return Err(Error::conflict("time limit for deleting rows exceeded", "Try again."));
                }
                pgrx::check_for_interrupts!();
            }
            pg_sys::systable_endscan(scan);
            pg_sys::UnregisterSnapshot(snapshot);
            Ok(visited)
        }
    }
}

/// Returns the executor's description of the table to be changed.
///
/// # Safety
/// `estate` must be new, and `table` must be open.
unsafe fn result_relation(
    estate: *mut pg_sys::EState,
    table: pg_sys::Relation,
    triggers: &Triggers,
) -> *mut pg_sys::ResultRelInfo {
    // SAFETY: guaranteed by the caller. The nodes are allocated in the current memory context, which outlives their
    // use.
    unsafe {
        let mut entry = PgBox::<pg_sys::RangeTblEntry>::alloc_node(pg_sys::NodeTag::T_RangeTblEntry);
        entry.rtekind = pg_sys::RTEKind::RTE_RELATION;
        entry.relid = (*table).rd_id;
        entry.relkind = (*(*table).rd_rel).relkind;
        entry.rellockmode = pg_sys::AccessShareLock as i32;
        let entry = entry.into_pg();
        let entries = pg_sys::lappend(std::ptr::null_mut(), entry.cast());
        init_range_table(estate, entry, entries);
        (*estate).es_output_cid = pg_sys::GetCurrentCommandId(true);
        let target = PgBox::<pg_sys::ResultRelInfo>::alloc_node(pg_sys::NodeTag::T_ResultRelInfo).into_pg();
        pg_sys::InitResultRelInfo(target, table, 1, std::ptr::null_mut(), 0);
        if !(*target).ri_TrigDesc.is_null() {
            disable_other_triggers(&mut *(*target).ri_TrigDesc, triggers);
        }
        target
    }
}

/// Disables the triggers that `kept` does not include. `all` must be the copy that belongs to this command.
fn disable_other_triggers(all: &mut pg_sys::TriggerDesc, kept: &Triggers) {
    // SAFETY: `triggers` points to an array of `numtriggers` elements.
    let triggers = unsafe { std::slice::from_raw_parts_mut(all.triggers, all.numtriggers as usize) };
    for trigger in triggers.iter_mut().filter(|trigger| !trigger.tgisinternal) {
        let fires = match kept {
            Triggers::ForeignKeysOnly => false,
            Triggers::AllExcept(excluded) => !excluded.contains(&trigger.tgoid),
        };
        if !fires {
            // As ALTER TABLE ... DISABLE TRIGGER sets it.
            trigger.tgenabled = b'D' as std::ffi::c_char;
        }
    }
}

#[cfg(feature = "pg15")]
unsafe fn init_range_table(
    estate: *mut pg_sys::EState,
    _entry: *mut pg_sys::RangeTblEntry,
    entries: *mut pg_sys::List,
) {
    // SAFETY: a new executor state, and a list of range table entries.
    unsafe { pg_sys::ExecInitRangeTable(estate, entries) }
}

#[cfg(any(feature = "pg16", feature = "pg17"))]
unsafe fn init_range_table(estate: *mut pg_sys::EState, entry: *mut pg_sys::RangeTblEntry, entries: *mut pg_sys::List) {
    let mut permissions = std::ptr::null_mut();
    // SAFETY: a new executor state, a list of range table entries, and their permissions.
    unsafe {
        pg_sys::addRTEPermissionInfo(&mut permissions, entry);
        pg_sys::ExecInitRangeTable(estate, entries, permissions);
    }
}

#[cfg(feature = "pg18")]
unsafe fn init_range_table(estate: *mut pg_sys::EState, entry: *mut pg_sys::RangeTblEntry, entries: *mut pg_sys::List) {
    let mut permissions = std::ptr::null_mut();
    // SAFETY: a new executor state, a list of range table entries, their permissions, and the set of entries in use.
    unsafe {
        pg_sys::addRTEPermissionInfo(&mut permissions, entry);
        let used = pg_sys::bms_make_singleton(1);
        pg_sys::ExecInitRangeTable(estate, entries, permissions, used);
    }
}

/// Initializes the state for rechecking rows that other transactions have changed.
///
/// # Safety
/// `estate` must be an executor state.
unsafe fn init_recheck(recheck: &mut pg_sys::EPQState, estate: *mut pg_sys::EState) {
    let (no_plan, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: as logical replication does, without a plan, because there is no query to recheck.
    #[cfg(feature = "pg15")]
    unsafe {
        pg_sys::EvalPlanQualInit(recheck, estate, no_plan, nothing, -1)
    };
    // SAFETY: as above.
    #[cfg(not(feature = "pg15"))]
    unsafe {
        pg_sys::EvalPlanQualInit(recheck, estate, no_plan, nothing, -1, std::ptr::null_mut())
    };
}
