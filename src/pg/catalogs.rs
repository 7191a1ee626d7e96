//! Looks up objects in the system catalogs, by OID or name.

use std::ffi::{CStr, CString};

use pgrx::PgRelation;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::prelude::*;

use super::lists;

/// Returns the schemas on the search_path, without those that PostgreSQL searches implicitly.
pub fn search_path() -> Vec<pg_sys::Oid> {
    // SAFETY: the result is NIL or a list of OIDs.
    unsafe { lists::oids(pg_sys::fetch_search_path(false)) }
}

pub fn schema_by_name(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a lookup by C string, with missing_ok.
    let schema = unsafe { pg_sys::get_namespace_oid(name.as_ptr(), true) };
    (schema != pg_sys::InvalidOid).then_some(schema)
}

/// Reports whether an extension is installed in this database.
pub fn extension_exists(name: &CStr) -> bool {
    // SAFETY: a lookup by C string, with missing_ok.
    unsafe { pg_sys::get_extension_oid(name.as_ptr(), true) != pg_sys::InvalidOid }
}

/// Returns the name of a schema, or `None` if the schema does not exist.
pub fn schema_name(schema: pg_sys::Oid) -> Option<CString> {
    // SAFETY: a lookup by OID, which returns null for a missing schema.
    unsafe { text(pg_sys::get_namespace_name(schema)) }
}

/// Returns the owner of a schema, or InvalidOid if the schema does not exist.
pub fn schema_owner(schema: pg_sys::Oid) -> pg_sys::Oid {
    let owner = |form: &pg_sys::FormData_pg_namespace| form.nspowner;
    read_row(pg_sys::SysCacheIdentifier::NAMESPACEOID, schema, owner).unwrap_or(pg_sys::InvalidOid)
}

pub fn relation_name(relation: pg_sys::Oid) -> Option<CString> {
    // SAFETY: a lookup by OID, which returns null for a missing object.
    unsafe { text(pg_sys::get_rel_name(relation)) }
}

pub fn function_name(function: pg_sys::Oid) -> Option<CString> {
    // SAFETY: a lookup by OID, which returns null for a missing object.
    unsafe { text(pg_sys::get_func_name(function)) }
}

/// Returns the OID of a relation, or InvalidOid if the schema has no such relation.
pub fn relation_in(schema: pg_sys::Oid, name: &CStr) -> pg_sys::Oid {
    // SAFETY: a lookup by C string and OID.
    unsafe { pg_sys::get_relname_relid(name.as_ptr(), schema) }
}

/// Returns the schema of a relation, or InvalidOid if the relation does not exist.
pub fn relation_schema(relation: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a lookup by OID.
    unsafe { pg_sys::get_rel_namespace(relation) }
}

/// Returns the schema of a function, or InvalidOid if the function does not exist.
pub fn function_schema(function: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: a lookup by OID.
    unsafe { pg_sys::get_func_namespace(function) }
}

pub fn relation_kind(relation: pg_sys::Oid) -> u8 {
    // SAFETY: a lookup by OID, which returns 0 for a missing relation.
    unsafe { pg_sys::get_rel_relkind(relation) as u8 }
}

/// Reports whether a built-in function runs a query that is passed as text, or one that reads a table, schema, database
/// or cursor that is passed.
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

/// Returns the table of an index, or of a sequence that a column owns. Returns any other relation itself.
pub fn table_of(relation: pg_sys::Oid) -> pg_sys::Oid {
    let (mut table, mut column) = (pg_sys::InvalidOid, 0);
    // SAFETY: lookups by OID, which write to the variables passed.
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
    // SAFETY: a lookup by OID, which returns false for a missing relation.
    unsafe { pg_sys::get_rel_relispartition(relation) }
}

/// Copies a name. Returns `None` for null.
///
/// # Safety
/// `name` must be null or a C string.
unsafe fn text(name: *const std::ffi::c_char) -> Option<CString> {
    // SAFETY: guaranteed by the caller.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_owned())
}

/// Returns the schema of a type, or InvalidOid if the type does not exist.
pub fn type_schema(name: pg_sys::Oid) -> pg_sys::Oid {
    let schema = |form: &pg_sys::FormData_pg_type| form.typnamespace;
    read_row(pg_sys::SysCacheIdentifier::TYPEOID, name, schema).unwrap_or(pg_sys::InvalidOid)
}

/// Returns the owner of a function, or InvalidOid if the function does not exist.
pub fn function_owner(function: pg_sys::Oid) -> pg_sys::Oid {
    let owner = |form: &pg_sys::FormData_pg_proc| form.proowner;
    read_row(pg_sys::SysCacheIdentifier::PROCOID, function, owner).unwrap_or(pg_sys::InvalidOid)
}

/// Returns the owner of a relation, or InvalidOid if the relation does not exist.
pub fn relation_owner(relation: pg_sys::Oid) -> pg_sys::Oid {
    let owner = |form: &pg_sys::FormData_pg_class| form.relowner;
    read_row(pg_sys::SysCacheIdentifier::RELOID, relation, owner).unwrap_or(pg_sys::InvalidOid)
}

/// Reports whether row-level security is enabled for a relation.
pub fn has_policies(relation: pg_sys::Oid) -> bool {
    let enabled = |form: &pg_sys::FormData_pg_class| form.relrowsecurity;
    read_row(pg_sys::SysCacheIdentifier::RELOID, relation, enabled).unwrap_or(false)
}

/// Reports whether row-level security is enabled for a relation and forced on its owner.
pub fn has_forced_policies(relation: pg_sys::Oid) -> bool {
    let forced = |form: &pg_sys::FormData_pg_class| form.relrowsecurity && form.relforcerowsecurity;
    read_row(pg_sys::SysCacheIdentifier::RELOID, relation, forced).unwrap_or(false)
}

/// Reports whether a relation is a partition or an inheritance child.
pub fn has_parents(relation: pg_sys::Oid) -> bool {
    // SAFETY: scans pg_inherits by OID.
    unsafe { pg_guard_ffi_boundary(|| has_superclass(relation)) }
}

// SAFETY: the declaration matches PostgreSQL's. pgrx's bindings do not include it.
unsafe extern "C-unwind" {
    fn has_superclass(relation: pg_sys::Oid) -> bool;
}

/// Reports whether a relation has, or once had, partitions or child tables.
pub fn has_children(relation: pg_sys::Oid) -> bool {
    let has_children = |form: &pg_sys::FormData_pg_class| form.relhassubclass;
    read_row(pg_sys::SysCacheIdentifier::RELOID, relation, has_children).unwrap_or(false)
}

/// Returns the owner of a function if the function is SECURITY DEFINER.
pub fn definer(function: pg_sys::Oid) -> Option<pg_sys::Oid> {
    let definer = |form: &pg_sys::FormData_pg_proc| form.prosecdef.then_some(form.proowner);
    read_row(pg_sys::SysCacheIdentifier::PROCOID, function, definer).flatten()
}

/// Reports whether the function is a trigger function.
pub fn is_trigger_function(function: pg_sys::Oid) -> bool {
    let is_trigger = |form: &pg_sys::FormData_pg_proc| form.prorettype == pg_sys::TRIGGEROID;
    read_row(pg_sys::SysCacheIdentifier::PROCOID, function, is_trigger).unwrap_or(false)
}

/// Returns the target list of a query that reads all columns of a table. `number` is the table's index in the query's
/// range table.
///
/// # Safety
/// The caller must have locked the table.
pub unsafe fn all_columns(table: pg_sys::Oid, number: i32) -> *mut pg_sys::List {
    let mut targets = std::ptr::null_mut();
    // SAFETY: guaranteed by the caller.
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

fn read_row<F, T>(
    cache: pg_sys::SysCacheIdentifier::Type,
    object: pg_sys::Oid,
    read: impl FnOnce(&F) -> T,
) -> Option<T> {
    // SAFETY: a lookup by OID in a cache whose rows have type F, which every caller in this file ensures. The row is
    // read before it is released.
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
