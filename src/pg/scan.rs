//! Finds rows of the extension's tables and of system catalogs without SQL. Starting the executor takes longer than
//! finding a row. SQL would also look up names, which the hooks that check name lookups must not do.

use std::ffi::CStr;

use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid, direct_function_call_as_datum};

use super::spi::Row;
use super::{Elevated, Snapshot};
use crate::error::{Error, Result};

/// A table and one of its indexes, by name.
pub struct Index {
    pub schema: &'static CStr,
    pub table: &'static CStr,
    pub index: &'static CStr,
}

/// The value that a column must hold. Columns are numbered from 1, in the table's order.
pub struct Key {
    column: i16,
    equal: u32,
    value: pg_sys::Datum,
}

impl Key {
    pub fn uuid(column: i16, value: Uuid) -> Result<Self> {
        let value = value.into_datum().ok_or_else(|| Error::internal("unexpected NULL for a uuid"))?;
        Ok(Key { column, equal: pg_sys::F_UUID_EQ, value })
    }

    /// Returns a key for a column of type `text` with the default collation.
    pub fn text(column: i16, value: &str) -> Result<Self> {
        let value = value.into_datum().ok_or_else(|| Error::internal("unexpected NULL for a text"))?;
        Ok(Key { column, equal: pg_sys::F_TEXTEQ, value })
    }

    pub fn name(column: i16, value: &CStr) -> Result<Self> {
        // SAFETY: namein takes a C string and returns a newly allocated name.
        let value = unsafe { direct_function_call_as_datum(pg_sys::namein, &[Some(value.as_ptr().into())]) };
        Ok(Key {
            column,
            equal: pg_sys::F_NAMEEQ,
            value: value.ok_or_else(|| Error::internal("unexpected NULL for a name"))?,
        })
    }
}

/// Returns the row whose primary key, a uuid in the first column, is `id`, as a statement of the scope would see it.
/// `map` reads the columns by their numbers in the table.
pub fn by_id<T>(scope: &Elevated, index: &Index, id: Uuid, map: impl FnOnce(&Row) -> Result<T>) -> Result<Option<T>> {
    // SAFETY: a scope has a snapshot. It is unregistered below or, after an error, by the end of the (sub)transaction.
    unsafe {
        let snapshot = pg_sys::RegisterSnapshot(match scope.snapshot() {
            Snapshot::Active | Snapshot::Latest => pg_sys::GetActiveSnapshot(),
            Snapshot::Transaction => {
                pg_sys::CommandCounterIncrement();
                pg_sys::GetTransactionSnapshot()
            }
        });
        let found = find(index, snapshot, &[Key::uuid(1, id)?], map);
        pg_sys::UnregisterSnapshot(snapshot);
        found
    }
}

/// Returns the row that has these keys. As in PostgreSQL's own catalog lookups, it sees what is committed now, at every
/// isolation level, and what this transaction has done so far.
pub fn committed<T>(index: &Index, keys: &[Key], map: impl FnOnce(&Row) -> Result<T>) -> Result<Option<T>> {
    // SAFETY: without a snapshot, the scan uses a catalog snapshot.
    unsafe { find(index, std::ptr::null_mut(), keys, map) }
}

/// Reports whether a row has these keys. This includes rows that a transaction in progress has added or deleted.
pub fn is_taken(index: &Index, keys: &[Key]) -> Result<bool> {
    let mut snapshot = uncommitted();
    // SAFETY: a dirty snapshot needs no contents.
    unsafe { find(index, &mut snapshot, keys, |_| Ok(())) }.map(|found| found.is_some())
}

/// Returns the rows of a table, including those that a transaction in progress has added or deleted. A row that is
/// being updated is returned twice, in its old and its new version.
pub fn all_uncommitted<T>(schema: &CStr, table: &CStr, mut map: impl FnMut(&Row) -> Result<T>) -> Result<Vec<T>> {
    let mut snapshot = uncommitted();
    let mut rows = Vec::new();
    // SAFETY: as in `find`.
    unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), false);
        let lock = pg_sys::AccessShareLock as i32;
        let table = pg_sys::table_open(pg_sys::get_relname_relid(table.as_ptr(), schema), lock);
        let (no_index, no_keys) = (pg_sys::InvalidOid, std::ptr::null_mut());
        let scan = pg_sys::systable_beginscan(table, no_index, false, &mut snapshot, 0, no_keys);
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            rows.push(map(&Row::of(tuple, (*table).rd_att))?);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, lock);
    }
    Ok(rows)
}

fn uncommitted() -> pg_sys::SnapshotData {
    pg_sys::SnapshotData { snapshot_type: pg_sys::SnapshotType::SNAPSHOT_DIRTY, ..Default::default() }
}

/// Returns the first row that has these keys and that the snapshot sees.
///
/// # Safety
/// `snapshot` must be a registered snapshot, a dirty snapshot, or null.
unsafe fn find<T>(
    Index { schema, table, index }: &Index,
    snapshot: pg_sys::Snapshot,
    keys: &[Key],
    map: impl FnOnce(&Row) -> Result<T>,
) -> Result<Option<T>> {
    // SAFETY: lookups by C string, which return InvalidOid for a missing table or index. Everything opened is closed
    // below or, after an error, by the end of the (sub)transaction. The row is read before the scan ends.
    unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), false);
        let table = pg_sys::get_relname_relid(table.as_ptr(), schema);
        // pg_upgrade creates the objects of an extension one by one, the indexes last.
        if table == pg_sys::InvalidOid {
            return Ok(None);
        }
        let table = pg_sys::table_open(table, pg_sys::AccessShareLock as i32);
        let index = pg_sys::get_relname_relid(index.as_ptr(), schema);
        let has_index = index != pg_sys::InvalidOid;
        let mut conditions: Vec<_> = keys.iter().map(condition).collect();
        let scan = pg_sys::systable_beginscan(
            table,
            index,
            has_index,
            snapshot,
            conditions.len() as i32,
            conditions.as_mut_ptr(),
        );
        let tuple = pg_sys::systable_getnext(scan);
        let found = (!tuple.is_null()).then(|| map(&Row::of(tuple, (*table).rd_att)));
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(table, pg_sys::AccessShareLock as i32);
        found.transpose()
    }
}

fn condition(key: &Key) -> pg_sys::ScanKeyData {
    let mut condition = pg_sys::ScanKeyData::default();
    // SAFETY: initializes the structure passed, with a built-in function.
    unsafe {
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        pg_sys::ScanKeyInit(&mut condition, key.column, equal, key.equal.into(), key.value);
        // The collation of the index.
        if key.equal == pg_sys::F_TEXTEQ {
            condition.sk_collation = pg_sys::DEFAULT_COLLATION_OID;
        }
    }
    condition
}
