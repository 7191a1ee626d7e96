//! A row of the extension's own tables by its key, without the executor, which takes longer to start than the row takes to
//! find.

use std::ffi::CStr;

use pgrx::prelude::*;
use pgrx::{IntoDatum, Uuid};

use super::spi::Row;
use super::{Elevated, Snapshot};
use crate::error::{Error, Result};

/// A table whose first column is its primary key, a uuid.
pub struct Keyed {
    pub schema: &'static CStr,
    pub table: &'static CStr,
    pub key: &'static CStr,
}

/// Columns of the row are counted as the table has them. It sees what a statement of the scope would.
pub fn by_id<T>(
    scope: &Elevated,
    Keyed { schema, table, key }: &Keyed,
    id: Uuid,
    map: impl FnOnce(&Row) -> Result<T>,
) -> Result<Option<T>> {
    // SAFETY: lookups by C string that find the table and its index, or are refused by table_open; what is opened is closed
    // in turn, and by the end of the (sub)transaction after an error. The row is read before the scan ends.
    unsafe {
        let schema = pg_sys::get_namespace_oid(schema.as_ptr(), false);
        let table =
            pg_sys::table_open(pg_sys::get_relname_relid(table.as_ptr(), schema), pg_sys::AccessShareLock as i32);
        let key = pg_sys::get_relname_relid(key.as_ptr(), schema);
        let snapshot = pg_sys::RegisterSnapshot(match scope.snapshot() {
            Snapshot::Statement | Snapshot::Fresh => pg_sys::GetActiveSnapshot(),
            Snapshot::Latest => {
                pg_sys::CommandCounterIncrement();
                pg_sys::GetTransactionSnapshot()
            }
        });
        let mut condition = pg_sys::ScanKeyData::default();
        let id = id.into_datum().ok_or_else(|| Error::internal("a uuid is never NULL"))?;
        pg_sys::ScanKeyInit(&mut condition, 1, pg_sys::BTEqualStrategyNumber as u16, pg_sys::F_UUID_EQ.into(), id);
        let scan = pg_sys::systable_beginscan(table, key, true, snapshot, 1, &mut condition);
        let tuple = pg_sys::systable_getnext(scan);
        let found = (!tuple.is_null()).then(|| map(&Row::of(tuple, (*table).rd_att)));
        pg_sys::systable_endscan(scan);
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::table_close(table, pg_sys::AccessShareLock as i32);
        found.transpose()
    }
}
