//! Rows deleted one by one and by the table's oid, as the server's own replication does it: no name that may come to mean
//! something else, no planner that evaluates what is in indexes, no rules.

use std::time::Instant;

use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid};

use crate::error::{Error, Result};

/// Rows of a table whose column, a uuid, holds an id.
pub struct Rows<'a> {
    pub table: pg_sys::Oid,
    pub owner: pg_sys::Oid,
    /// By name and number, which have to agree.
    pub column: &'a str,
    pub number: i16,
    /// A B-tree that begins with the column, or InvalidOid.
    pub index: pg_sys::Oid,
    pub id: Uuid,
    /// When to give up, with an error.
    pub until: Option<Instant>,
}

/// Triggers of rows that fire when they are deleted; those of foreign keys always do.
pub enum Triggers {
    OfKeysAlone,
    AllBut(Vec<pg_sys::Oid>),
}

impl Rows<'_> {
    /// Deletes those that are committed now, `limit` at most, with whatever rights are in force; how many it came by. A
    /// trigger may have kept some.
    pub fn delete(&self, triggers: &Triggers, limit: u64) -> Result<u64> {
        self.with_table(|table| {
            // SAFETY: the table is open and locked; what is begun here is ended in turn, and by the end of the
            // (sub)transaction after an error.
            unsafe {
                let estate = pg_sys::CreateExecutorState();
                let target = result_relation(estate, table, triggers);
                let mut check = pg_sys::EPQState::default();
                evaluate_again(&mut check, estate);
                pg_sys::AfterTriggerBeginQuery();
                let seen = self.each(table, limit, |slot| {
                    pg_sys::ExecSimpleRelationDelete(target, estate, &mut check, slot);
                })?;
                pg_sys::AfterTriggerEndQuery(estate);
                pg_sys::EvalPlanQualEnd(&mut check);
                pg_sys::ExecCloseResultRelations(estate);
                pg_sys::ExecResetTupleTable((*estate).es_tupleTable, false);
                pg_sys::FreeExecutorState(estate);
                pg_sys::CommandCounterIncrement();
                Ok(seen)
            }
        })
    }

    /// How many there are, of those that are committed now; counts no further than `limit`.
    pub fn count(&self, limit: u64) -> Result<u64> {
        // SAFETY: the table is open and locked.
        self.with_table(|table| unsafe { self.each(table, limit, |_| {}) })
    }

    /// Under a lock, and with another look at what the caller knows of the table.
    fn with_table<T>(&self, run: impl FnOnce(pg_sys::Relation) -> Result<T>) -> Result<T> {
        let lock = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
        // SAFETY: null where it is gone; closed again, its lock kept until the end of the transaction.
        unsafe {
            let table = pg_sys::try_table_open(self.table, lock);
            if table.is_null() {
                return Err(Error::conflict("the table is gone", "Try again."));
            }
            let answer = if self.is_as_known(table) {
                run(table)
            } else {
                Err(Error::conflict("the table was changed meanwhile, or is a foreign table", "Try again."))
            };
            pg_sys::table_close(table, pg_sys::NoLock as pg_sys::LOCKMODE);
            answer
        }
    }

    /// # Safety
    /// An open table.
    unsafe fn is_as_known(&self, table: pg_sys::Relation) -> bool {
        // SAFETY: by the caller's promise; a column's number counts from 1 to their count.
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

    /// # Safety
    /// The table, open and locked.
    unsafe fn each(
        &self,
        table: pg_sys::Relation,
        limit: u64,
        mut run: impl FnMut(*mut pg_sys::TupleTableSlot),
    ) -> Result<u64> {
        // SAFETY: by the caller's promise; an index that is gone is no index. The scan and the snapshot are ended in turn.
        unsafe {
            let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
            let mut condition = pg_sys::ScanKeyData::default();
            let id = self.id.into_datum().ok_or_else(|| Error::internal("a uuid is never NULL"))?;
            let equal = pg_sys::BTEqualStrategyNumber as u16;
            pg_sys::ScanKeyInit(&mut condition, self.number, equal, pg_sys::F_UUID_EQ.into(), id);
            let has_index =
                self.index != pg_sys::InvalidOid && pg_sys::get_rel_relkind(self.index) as u8 == pg_sys::RELKIND_INDEX;
            let scan = pg_sys::systable_beginscan(table, self.index, has_index, snapshot, 1, &mut condition);
            let mut seen = 0;
            while seen < limit && !pg_sys::systable_getnext(scan).is_null() {
                run((*scan).slot);
                seen += 1;
                if self.until.is_some_and(|until| Instant::now() > until) {
                    return Err(Error::conflict("the rows take too long", "Try again."));
                }
                pgrx::check_for_interrupts!();
            }
            pg_sys::systable_endscan(scan);
            pg_sys::UnregisterSnapshot(snapshot);
            Ok(seen)
        }
    }
}

/// What the executor wants to know of a table that it changes.
///
/// # Safety
/// A fresh executor state and an open table.
unsafe fn result_relation(
    estate: *mut pg_sys::EState,
    table: pg_sys::Relation,
    triggers: &Triggers,
) -> *mut pg_sys::ResultRelInfo {
    // SAFETY: by the caller's promise; nodes are allocated in the current memory context, which outlives their use.
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
            keep_triggers(&mut *(*target).ri_TrigDesc, triggers);
        }
        target
    }
}

/// Of a copy that belongs to one command.
fn keep_triggers(all: &mut pg_sys::TriggerDesc, kept: &Triggers) {
    // SAFETY: a description holds that many triggers.
    let triggers = unsafe { std::slice::from_raw_parts_mut(all.triggers, all.numtriggers as usize) };
    for trigger in triggers.iter_mut().filter(|trigger| !trigger.tgisinternal) {
        let fires = match kept {
            Triggers::OfKeysAlone => false,
            Triggers::AllBut(others) => !others.contains(&trigger.tgoid),
        };
        if !fires {
            // As ALTER TABLE ... DISABLE TRIGGER says it.
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
    // SAFETY: a fresh state and a list of entries.
    unsafe { pg_sys::ExecInitRangeTable(estate, entries) }
}

#[cfg(any(feature = "pg16", feature = "pg17"))]
unsafe fn init_range_table(estate: *mut pg_sys::EState, entry: *mut pg_sys::RangeTblEntry, entries: *mut pg_sys::List) {
    let mut permissions = std::ptr::null_mut();
    // SAFETY: a fresh state, a list of entries, and their permissions.
    unsafe {
        pg_sys::addRTEPermissionInfo(&mut permissions, entry);
        pg_sys::ExecInitRangeTable(estate, entries, permissions);
    }
}

#[cfg(feature = "pg18")]
unsafe fn init_range_table(estate: *mut pg_sys::EState, entry: *mut pg_sys::RangeTblEntry, entries: *mut pg_sys::List) {
    let mut permissions = std::ptr::null_mut();
    // SAFETY: a fresh state, a list of entries, their permissions, and which of them are in use.
    unsafe {
        pg_sys::addRTEPermissionInfo(&mut permissions, entry);
        let used = pg_sys::bms_make_singleton(1);
        pg_sys::ExecInitRangeTable(estate, entries, permissions, used);
    }
}

/// # Safety
/// An executor state.
unsafe fn evaluate_again(check: &mut pg_sys::EPQState, estate: *mut pg_sys::EState) {
    let (no_plan, nothing) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: as replication does: no plan, for there is no query to evaluate again.
    #[cfg(feature = "pg15")]
    unsafe {
        pg_sys::EvalPlanQualInit(check, estate, no_plan, nothing, -1)
    };
    // SAFETY: as above.
    #[cfg(not(feature = "pg15"))]
    unsafe {
        pg_sys::EvalPlanQualInit(check, estate, no_plan, nothing, -1, std::ptr::null_mut())
    };
}
