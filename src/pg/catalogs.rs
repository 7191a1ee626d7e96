//! What the server's catalogs say of an object, by its oid or name.

use std::ffi::{CStr, CString};

use pgrx::PgRelation;
use pgrx::prelude::*;

use super::lists;

/// The schemas on the search_path, without those that are searched in any case.
pub fn search_path() -> Vec<pg_sys::Oid> {
    // SAFETY: a list of oids, or NIL.
    unsafe { lists::oids(pg_sys::fetch_search_path(false)) }
}

pub fn schema_by_name(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a lookup by C string; missing_ok.
    let schema = unsafe { pg_sys::get_namespace_oid(name.as_ptr(), true) };
    (schema != pg_sys::InvalidOid).then_some(schema)
}

/// `None` where there is no such schema.
pub fn schema_name(schema: pg_sys::Oid) -> Option<CString> {
    // SAFETY: a lookup by oid, null where there is none.
    unsafe { text(pg_sys::get_namespace_name(schema)) }
}

/// The owner of a schema; InvalidOid where there is no such schema.
pub fn schema_owner(schema: pg_sys::Oid) -> pg_sys::Oid {
    let owner = |form: &pg_sys::FormData_pg_namespace| form.nspowner;
    of_row(pg_sys::SysCacheIdentifier::NAMESPACEOID, schema, owner).unwrap_or(pg_sys::InvalidOid)
}

pub fn relation_name(relation: pg_sys::Oid) -> Option<CString> {
    // SAFETY: as above.
    unsafe { text(pg_sys::get_rel_name(relation)) }
}

pub fn function_name(function: pg_sys::Oid) -> Option<CString> {
    // SAFETY: as above.
    unsafe { text(pg_sys::get_func_name(function)) }
}

/// InvalidOid where there is no such relation.
pub fn relation_in(schema: pg_sys::Oid, name: &CStr) -> pg_sys::Oid {
    // SAFETY: a lookup by C string and oid.
    unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema) }
}

/// The schema of a relation; InvalidOid where there is no such relation.
pub fn relation_schema(relation: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a lookup by oid.
    unsafe { pg_sys::get_rel_namespace(relation) }
}

/// The schema of a function; InvalidOid where there is no such function.
pub fn function_schema(function: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a lookup by oid.
    unsafe { pg_sys::get_func_namespace(function) }
}

pub fn relation_kind(relation: pg_sys::Oid) -> u8 {
    // SAFETY: a lookup by oid, 0 where there is none.
    unsafe { pg_sys::get_rel_relkind(relation) as u8 }
}

/// Whether a function of the server's own runs queries that it is given as text, or by the name of a table or cursor.
pub fn runs_queries(function: pg_sys::Oid) -> bool {
    matches!(
        function.to_u32(),
        pg_sys::F_QUERY_TO_XML
            | pg_sys::F_QUERY_TO_XMLSCHEMA
            | pg_sys::F_QUERY_TO_XML_AND_XMLSCHEMA
            | pg_sys::F_TABLE_TO_XML
            | pg_sys::F_TABLE_TO_XML_AND_XMLSCHEMA
            | pg_sys::F_SCHEMA_TO_XML
            | pg_sys::F_SCHEMA_TO_XML_AND_XMLSCHEMA
            | pg_sys::F_DATABASE_TO_XML
            | pg_sys::F_DATABASE_TO_XML_AND_XMLSCHEMA
            | pg_sys::F_CURSOR_TO_XML
            | pg_sys::F_CURSOR_TO_XMLSCHEMA
            | pg_sys::F_TS_STAT_TEXT
            | pg_sys::F_TS_STAT_TEXT_TEXT
            | pg_sys::F_TS_REWRITE_TSQUERY_TEXT
    )
}

/// The table of an index, or of a sequence that is a column's; any other relation itself.
pub fn table_of(relation: pg_sys::Oid) -> pg_sys::Oid {
    let (mut table, mut column) = (pg_sys::InvalidOid, 0);
    // SAFETY: lookups by oid, which fill what they are given.
    unsafe {
        match relation_kind(relation) {
            pg_sys::RELKIND_INDEX | pg_sys::RELKIND_PARTITIONED_INDEX => {
                table = pg_sys::IndexGetRelation(relation, true)
            }
            pg_sys::RELKIND_SEQUENCE => {
                for kind in [pg_sys::DependencyType::DEPENDENCY_AUTO, pg_sys::DependencyType::DEPENDENCY_INTERNAL] {
                    if pg_sys::sequenceIsOwned(relation, kind as std::ffi::c_char, &mut table, &mut column) {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    if table == pg_sys::InvalidOid { relation } else { table }
}

pub fn is_partition(relation: pg_sys::Oid) -> bool {
    // SAFETY: a lookup by oid, false where there is none.
    unsafe { pg_sys::get_rel_relispartition(relation) }
}

/// # Safety
/// Null, or a C string that was freshly allocated.
unsafe fn text(name: *const std::ffi::c_char) -> Option<CString> {
    // SAFETY: by the caller's promise.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_owned())
}

/// The schema of a type; InvalidOid where there is no such type.
pub fn type_schema(name: pg_sys::Oid) -> pg_sys::Oid {
    let schema = |form: &pg_sys::FormData_pg_type| form.typnamespace;
    of_row(pg_sys::SysCacheIdentifier::TYPEOID, name, schema).unwrap_or(pg_sys::InvalidOid)
}

/// The owner of a function; InvalidOid where there is no such function.
pub fn function_owner(function: pg_sys::Oid) -> pg_sys::Oid {
    let owner = |form: &pg_sys::FormData_pg_proc| form.proowner;
    of_row(pg_sys::SysCacheIdentifier::PROCOID, function, owner).unwrap_or(pg_sys::InvalidOid)
}

/// The owner of a relation; InvalidOid where there is no such relation.
pub fn relation_owner(relation: pg_sys::Oid) -> pg_sys::Oid {
    let owner = |form: &pg_sys::FormData_pg_class| form.relowner;
    of_row(pg_sys::SysCacheIdentifier::RELOID, relation, owner).unwrap_or(pg_sys::InvalidOid)
}

/// Whether row-level security is on for a relation.
pub fn has_policies(relation: pg_sys::Oid) -> bool {
    let enabled = |form: &pg_sys::FormData_pg_class| form.relrowsecurity;
    of_row(pg_sys::SysCacheIdentifier::RELOID, relation, enabled).unwrap_or(false)
}

/// Whether a relation has policies that are forced on its owner too.
pub fn has_forced_policies(relation: pg_sys::Oid) -> bool {
    let forced = |form: &pg_sys::FormData_pg_class| form.relrowsecurity && form.relforcerowsecurity;
    of_row(pg_sys::SysCacheIdentifier::RELOID, relation, forced).unwrap_or(false)
}

/// Whether a relation has, or had, partitions or children.
pub fn has_children(relation: pg_sys::Oid) -> bool {
    let has_children = |form: &pg_sys::FormData_pg_class| form.relhassubclass;
    of_row(pg_sys::SysCacheIdentifier::RELOID, relation, has_children).unwrap_or(false)
}

/// The owner of a function, if it is SECURITY DEFINER.
pub fn definer(function: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let definer = |form: &pg_sys::FormData_pg_proc| form.prosecdef.then_some(form.proowner);
    of_row(pg_sys::SysCacheIdentifier::PROCOID, function, definer).flatten()
}

/// The columns of a table as the target list of a query that reads it, in which it has this number.
///
/// # Safety
/// A table that is locked.
pub unsafe fn all_columns(table: pg_sys::Oid, number: i32) -> *mut pg_sys::List {
    let mut targets = std::ptr::null_mut();
    // SAFETY: by the caller's promise.
    unsafe {
        let relation = PgRelation::open(table);
        for column in relation.tuple_desc().iter() {
            let value: *mut pg_sys::Node = if column.attisdropped {
                pg_sys::makeNullConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid).cast()
            } else {
                let (kind, modifier, collation) = (column.atttypid, column.atttypmod, column.attcollation);
                pg_sys::makeVar(number, column.attnum, kind, modifier, collation, 0).cast()
            };
            let name = pg_sys::pstrdup(column.attname.data.as_ptr());
            let target = pg_sys::makeTargetEntry(value.cast(), column.attnum, name, false);
            targets = pg_sys::lappend(targets, target.cast());
        }
    }
    targets
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
