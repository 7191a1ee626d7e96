//! Rows of the extension's own tables and the server's, found without SQL: the executor takes longer to start than a row takes to
//! find, and hooks that resolve names must not resolve any.

use std::ffi::CStr;

use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid, direct_function_call_as_datum};

use super::spi::Row;
use super::{Elevated, Snapshot};
use crate::error::{Error, Result};

pub struct Index {
    pub schema: &'static CStr,
    pub table: &'static CStr,
    pub index: &'static CStr,
}

/// What a column has to hold; columns are counted from 1, as the table has them.
pub struct Key {
    column: i16,
    equal: u32,
    value: pg_sys::Datum,
}

impl Key {
    pub fn uuid(column: i16, value: Uuid) -> Result<Self> {
        let value = value.into_datum().ok_or_else(|| Error::internal("a uuid is never NULL"))?;
        Ok(Key { column, equal: pg_sys::F_UUID_EQ, value })
    }

    /// Of a column without a collation of its own.
    pub fn text(column: i16, value: &str) -> Result<Self> {
        let value = value.into_datum().ok_or_else(|| Error::internal("a text is never NULL"))?;
        Ok(Key { column, equal: pg_sys::F_TEXTEQ, value })
    }

    pub fn name(column: i16, value: &CStr) -> Result<Self> {
        // SAFETY: namein takes a C string and returns a freshly allocated name.
        let value = unsafe { direct_function_call_as_datum(pg_sys::namein, &[Some(value.as_ptr().into())]) };
        Ok(Key {
            column,
            equal: pg_sys::F_NAMEEQ,
            value: value.ok_or_else(|| Error::internal("a name is never NULL"))?,
        })
    }
}

/// The row with this primary key, a uuid in the first column, as a statement of the scope would see it. Columns of the row are
/// counted as the table has them.
pub fn by_id<T>(scope: &Elevated, index: &Index, id: Uuid, map: impl FnOnce(&Row) -> Result<T>) -> Result<Option<T>> {
    // SAFETY: a scope has a snapshot; it is unregistered in turn, and by the end of the (sub)transaction after an error.
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

/// The row that has these keys, by what is committed now whatever the transaction's isolation level, and by what this
/// transaction did so far: as the server reads its own catalogs.
pub fn committed<T>(index: &Index, keys: &[Key], map: impl FnOnce(&Row) -> Result<T>) -> Result<Option<T>> {
    // SAFETY: without a snapshot the scan takes the server's own.
    unsafe { find(index, std::ptr::null_mut(), keys, map) }
}

/// Whether a row has these keys, also by a transaction that has not ended: one that may yet add it, or take it away.
pub fn is_taken(index: &Index, keys: &[Key]) -> Result<bool> {
    let mut snapshot = uncommitted();
    // SAFETY: a snapshot of this kind has no contents.
    unsafe { find(index, &mut snapshot, keys, |_| Ok(())) }.map(|found| found.is_some())
}

/// The rows of a table, with those that a transaction that has not ended may yet add or take away; one that is being changed comes
/// twice.
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

/// # Safety
/// A registered snapshot, one without contents, or null.
unsafe fn find<T>(
    Index { schema, table, index }: &Index,
    snapshot: pg_sys::Snapshot,
    keys: &[Key],
    map: impl FnOnce(&Row) -> Result<T>,
) -> Result<Option<T>> {
    // SAFETY: lookups by C string, InvalidOid for what is not there; what is opened is closed in turn, and by the end of the
    // (sub)transaction after an error. The row is read before the scan ends.
    unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), false);
        let table = pg_sys::get_relname_relid(table.as_ptr(), schema);
        // pg_upgrade creates what belongs to an extension one by one, indexes last.
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
    // SAFETY: fills the structure that it is given; the function is one of the server's own.
    unsafe {
        let equal = pg_sys::BTEqualStrategyNumber as u16;
        pg_sys::ScanKeyInit(&mut condition, key.column, equal, key.equal.into(), key.value);
        // As the index is sorted.
        if key.equal == pg_sys::F_TEXTEQ {
            condition.sk_collation = pg_sys::DEFAULT_COLLATION_OID;
        }
    }
    condition
}
