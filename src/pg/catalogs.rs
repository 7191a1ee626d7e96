//! Columns of the server's catalogs that it has no function for.

use pgrx::prelude::*;

/// The schema of a type; InvalidOid where there is no such type.
pub fn type_schema(name: pg_sys::Oid) -> pg_sys::Oid {
    let schema = |form: &pg_sys::FormData_pg_type| form.typnamespace;
    of_row(pg_sys::SysCacheIdentifier::TYPEOID, name, schema).unwrap_or(pg_sys::InvalidOid)
}

/// The owner of a function, if it is SECURITY DEFINER.
pub fn definer(function: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let definer = |form: &pg_sys::FormData_pg_proc| form.prosecdef.then_some(form.proowner);
    of_row(pg_sys::SysCacheIdentifier::PROCOID, function, definer).flatten()
}

fn of_row<F, T>(cache: pg_sys::SysCacheIdentifier::Type, object: pg_sys::Oid, read: impl FnOnce(&F) -> T) -> Option<T> {
    // SAFETY: a lookup by oid, in a cache whose rows are of type F; the row is read before it is released.
    unsafe {
        let row = pg_sys::SearchSysCache1(cache as i32, object.into());
        if row.is_null() {
            return None;
        }
        let answer = read(&*pg_sys::heap_tuple_get_struct::<F>(row));
        pg_sys::ReleaseSysCache(row);
        Some(answer)
    }
}
