//! Queries on the system catalogs about relations. Returned names are qualified and quoted.

use std::ffi::CString;

use pgrx::{Uuid, pg_sys};

use super::Catalog;
use crate::error::{Error, Result};
use crate::pg::sql::{Command, Ident, QualifiedName, command};
use crate::pg::{any_row, catalogs, locks, query, query_command};

/// A locked table, with its owner.
pub struct Table {
    pub locked: LockedTable,
    pub owner: pg_sys::Oid,
    /// The tenant, if the table is in a tenant schema.
    pub tenant: Option<Uuid>,
}

/// Locks the relation and returns it, or `None` if it is not a plain or partitioned table, or is temporary.
pub fn table(catalog: &Catalog, oid: pg_sys::Oid) -> Result<Option<Table>> {
    let Some(locked) = LockedTable::lock(oid) else {
        return Ok(None);
    };
    let found: Vec<(pg_sys::Oid, Option<Uuid>)> = query(
        catalog.scope(),
        "SELECT c.relowner, t.id FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN fluxbase_tenant.tenants t ON t.schema_name = n.nspname
         WHERE c.oid = $1 AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'",
        &[oid.into()],
        |row| Ok((row.need(1)?, row.get(2))),
    )?;
    Ok(found.into_iter().next().map(|(owner, tenant)| Table { locked, owner, tenant }))
}

/// A table that cannot be renamed or moved to another schema until the transaction ends. Its schema can still be
/// renamed.
pub struct LockedTable {
    pub oid: pg_sys::Oid,
    pub schema: pg_sys::Oid,
    pub schema_name: CString,
    pub name: QualifiedName,
}

impl LockedTable {
    /// Locks the table and reads its name after that, from the current system catalogs at every isolation level.
    /// Returns `None` if the table no longer exists.
    pub fn lock(oid: pg_sys::Oid) -> Option<Self> {
        locks::lock_for_reading(oid);
        let schema = catalogs::relation_schema(oid);
        let (name, schema_name) = (catalogs::relation_name(oid)?, catalogs::schema_name(schema)?);
        let qualified = QualifiedName::new(&schema_name.to_string_lossy(), &name.to_string_lossy());
        Some(LockedTable { oid, schema, schema_name, name: qualified })
    }
}

/// Locks and returns the table, its partitions and its inheritance children, on all levels. Temporary children belong
/// to one session and are omitted.
pub fn descendants(catalog: &Catalog, oid: pg_sys::Oid) -> Result<Vec<LockedTable>> {
    let tables: Vec<pg_sys::Oid> = query(
        catalog.scope(),
        "WITH RECURSIVE part (oid, level) AS (
             SELECT $1, 0 UNION SELECT i.inhrelid, part.level + 1 FROM part JOIN pg_inherits i ON i.inhparent = part.oid)
         SELECT c.oid FROM part JOIN pg_class c ON c.oid = part.oid
         WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' GROUP BY c.oid, c.relname ORDER BY min(part.level), c.relname",
        &[oid.into()],
        |row| row.need(1),
    )?;
    Ok(tables.into_iter().filter_map(LockedTable::lock).collect())
}

/// Returns the name of a parent of the table that has no isolation policy, if there is one. A query on the parent does
/// not evaluate the policies of the table.
pub fn unprotected_parent(catalog: &Catalog, oid: pg_sys::Oid) -> Result<Option<QualifiedName>> {
    let parents = query(
        catalog.scope(),
        "WITH RECURSIVE up (oid) AS (
             SELECT inhparent FROM pg_inherits WHERE inhrelid = $1
             UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.oid)
         SELECT format('%I.%I', n.nspname, c.relname) FROM up JOIN pg_class c ON c.oid = up.oid
         JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE NOT EXISTS (SELECT 1 FROM fluxbase_tenant.isolation_policies p WHERE p.relation = c.oid AND p.in_force)
         ORDER BY 1 LIMIT 1",
        &[oid.into()],
        |row| row.need(1),
    )?;
    Ok(parents.into_iter().next())
}

/// Returns the relations that a view reads, directly or through other views.
pub fn read_by_view(catalog: &Catalog, view: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    query(
        catalog.scope(),
        "WITH RECURSIVE read (oid) AS (
             SELECT $1 UNION
             SELECT d.refobjid FROM read
             JOIN pg_rewrite w ON w.ev_class = read.oid AND w.rulename = '_RETURN'
             JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass)
         SELECT oid FROM read WHERE oid <> $1",
        &[view.into()],
        |row| row.need(1),
    )
}

/// Returns the type of a column, or `None` if the column does not exist.
pub fn column_type(catalog: &Catalog, oid: pg_sys::Oid, column: &str) -> Result<Option<pg_sys::Oid>> {
    let types = query(
        catalog.scope(),
        "SELECT atttypid FROM pg_attribute WHERE attrelid = $1 AND attname = $2::text::name AND attnum > 0
         AND NOT attisdropped",
        &[oid.into(), column.into()],
        |row| row.need(1),
    )?;
    Ok(types.into_iter().next())
}

pub fn is_not_null(catalog: &Catalog, oid: pg_sys::Oid, column: &str) -> Result<bool> {
    any(
        catalog,
        "SELECT 1 FROM pg_attribute WHERE attrelid = $1 AND attname = $2::text::name AND attnotnull",
        oid,
        column,
    )
}

/// Reports whether a valid index without a predicate has the column as its first column.
pub fn has_index_on(catalog: &Catalog, oid: pg_sys::Oid, column: &str) -> Result<bool> {
    any(
        catalog,
        "SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = $1 AND a.attname = $2::text::name AND i.indisvalid AND i.indpred IS NULL",
        oid,
        column,
    )
}

/// A column default, with its expression tree as PostgreSQL stores it.
pub struct Default {
    pub table: pg_sys::Oid,
    pub column: i16,
    pub expression: String,
}

/// Returns the defaults that use a sequence, of the table and of its partitions and inheritance children, because ALTER
/// TABLE changes these, too.
pub fn defaults_with_sequences(catalog: &Catalog, table: pg_sys::Oid) -> Result<Vec<Default>> {
    query(
        catalog.scope(),
        "WITH RECURSIVE part (oid) AS (
             SELECT $1 UNION SELECT i.inhrelid FROM part JOIN pg_inherits i ON i.inhparent = part.oid)
         SELECT d.adrelid, d.adnum, d.adbin::text FROM part JOIN pg_attrdef d ON d.adrelid = part.oid
         JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
         WHERE a.attgenerated = '' AND EXISTS (
             SELECT 1 FROM pg_depend s JOIN pg_class c ON c.oid = s.refobjid AND c.relkind = 'S'
             WHERE s.classid = 'pg_attrdef'::regclass AND s.objid = d.oid AND s.refclassid = 'pg_class'::regclass)",
        &[table.into()],
        |row| Ok(Default { table: row.need(1)?, column: row.need(2)?, expression: row.need(3)? }),
    )
}

/// Returns the defaults that call the function.
pub fn defaults_that_call(catalog: &Catalog, function: pg_sys::Oid) -> Result<Vec<Default>> {
    query(
        catalog.scope(),
        "SELECT a.adrelid, a.adnum, a.adbin::text FROM pg_depend d JOIN pg_attrdef a ON a.oid = d.objid
         WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = $1",
        &[function.into()],
        |row| Ok(Default { table: row.need(1)?, column: row.need(2)?, expression: row.need(3)? }),
    )
}

/// Returns the OID of `fluxbase_tenant.nextval`.
pub fn guarded_nextval(catalog: &Catalog) -> Result<pg_sys::Oid> {
    let found: Vec<pg_sys::Oid> =
        query(catalog.scope(), "SELECT 'fluxbase_tenant.nextval(regclass)'::regprocedure::oid", &[], |row| {
            row.need(1)
        })?;
    found.into_iter().next().ok_or_else(|| Error::internal("query returned no row"))
}

/// Returns the column whose default calls `tenant_current_id()`, if there is one.
pub fn column_with_tenant_default(catalog: &Catalog, oid: pg_sys::Oid) -> Result<Option<Ident>> {
    let columns = query(
        catalog.scope(),
        "SELECT a.attname FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
         JOIN pg_depend f ON f.classid = 'pg_attrdef'::regclass AND f.objid = d.oid AND f.refclassid = 'pg_proc'::regclass
         WHERE d.adrelid = $1 AND f.refobjid = $2 AND a.attgenerated = ''",
        &[oid.into(), current_tenant_function(catalog)?.into()],
        |row| row.need(1),
    )?;
    Ok(columns.into_iter().next())
}

/// Returns the extension's function `tenant_current_id()`, even if other schemas contain functions of that name.
pub fn current_tenant_function(catalog: &Catalog) -> Result<pg_sys::Oid> {
    let found: Vec<pg_sys::Oid> = query(
        catalog.scope(),
        "SELECT p.oid FROM pg_extension e
         JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
         JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
         WHERE e.extname = 'fluxbase_tenant' AND p.proname = 'tenant_current_id' AND p.pronargs = 0",
        &[],
        |row| row.need(1),
    )?;
    found.into_iter().next().ok_or_else(|| Error::internal("query returned no row"))
}

/// A column of a table, or of one of its partitions or inheritance children.
pub struct Column {
    pub table: pg_sys::Oid,
    pub number: i16,
    pub is_generated: bool,
}

/// Returns the column of that name of the table and of its partitions and inheritance children.
pub fn column_everywhere(catalog: &Catalog, table: pg_sys::Oid, column: &str) -> Result<Vec<Column>> {
    query(
        catalog.scope(),
        "WITH RECURSIVE part (oid) AS (
             SELECT $1 UNION SELECT i.inhrelid FROM part JOIN pg_inherits i ON i.inhparent = part.oid)
         SELECT a.attrelid, a.attnum, a.attgenerated <> '' FROM part JOIN pg_attribute a ON a.attrelid = part.oid
         WHERE a.attname = $2::text::name AND a.attnum > 0 AND NOT a.attisdropped",
        &[table.into(), column.into()],
        |row| Ok(Column { table: row.need(1)?, number: row.need(2)?, is_generated: row.need(3)? }),
    )
}

/// Returns the schema of the extension's functions, quoted.
pub fn extension_schema(catalog: &Catalog) -> Result<String> {
    query(
        catalog.scope(),
        "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'fluxbase_tenant'",
        &[],
        |row| row.need(1),
    )?
    .into_iter()
    .next()
    .ok_or_else(|| Error::internal("extension fluxbase_tenant is not installed in this database"))
}

/// Reports whether `tenant_isolation` is in force on the shared table, with this tenant column.
pub fn is_protected(catalog: &Catalog, table: pg_sys::Oid, column: &Ident) -> Result<bool> {
    any_row(
        catalog.scope(),
        "SELECT 1 FROM fluxbase_tenant.isolation_policies p
         JOIN pg_attribute a ON a.attrelid = p.relation AND a.attnum = p.tenant_column
         WHERE p.relation = $1 AND p.in_force AND quote_ident(a.attname) = $2",
        &[table.into(), column.to_string().into()],
    )
}

pub fn has_policy(catalog: &Catalog, table: pg_sys::Oid, policy: &str) -> Result<bool> {
    any_row(
        catalog.scope(),
        "SELECT 1 FROM pg_policy WHERE polrelid = $1 AND polname = $2::text::name",
        &[table.into(), policy.into()],
    )
}

pub fn has_any_policy(catalog: &Catalog, table: pg_sys::Oid) -> Result<bool> {
    any_row(catalog.scope(), "SELECT 1 FROM pg_policy WHERE polrelid = $1 LIMIT 1", &[table.into()])
}

pub fn has_permissive_policy(catalog: &Catalog, table: pg_sys::Oid) -> Result<bool> {
    any_row(catalog.scope(), "SELECT 1 FROM pg_policy WHERE polrelid = $1 AND polpermissive LIMIT 1", &[table.into()])
}

/// Runs a query that returns one count.
pub fn count(catalog: &Catalog, query: &Command) -> Result<i64> {
    query_command(catalog.scope(), query, |row| row.need(1))?
        .into_iter()
        .next()
        .ok_or_else(|| Error::internal("count(*) returned no row"))
}

/// Returns the distinct ids in the tenant column of a table, including those of nonexistent tenants.
pub fn named_tenants(catalog: &Catalog, table: &QualifiedName, column: &Ident) -> Result<Vec<Uuid>> {
    let query = command!("SELECT DISTINCT {} FROM {} WHERE {} IS NOT NULL", column, table, column);
    query_command(catalog.scope(), &query, |row| row.need(1))
}

fn any(catalog: &Catalog, sql: &'static str, oid: pg_sys::Oid, column: &str) -> Result<bool> {
    Ok(!query(catalog.scope(), sql, &[oid.into(), column.into()], |_| Ok(()))?.is_empty())
}

/// Returns an object that the current DDL command of a tenant's owner role created outside the tenant schema, if there
/// is one.
pub fn created_elsewhere(catalog: &Catalog, tenant: Uuid) -> Result<Option<String>> {
    let found = query(
        catalog.scope(),
        "SELECT d.object_type || ' ' || d.object_identity FROM pg_event_trigger_ddl_commands() d
         WHERE d.classid IS NOT NULL AND NOT d.in_extension
           -- The sandbox rejects temporary objects.
           AND (d.schema_name NOT IN ((SELECT t.schema_name FROM fluxbase_tenant.tenants t WHERE t.id = $1), 'pg_temp')
                OR d.object_type IN ('extension', 'schema', 'language', 'server', 'foreign-data wrapper')) LIMIT 1",
        &[tenant.into()],
        |row| row.need(1),
    )?;
    Ok(found.into_iter().next())
}

/// Returns the tenant schemas, including those of spare tenants, on which the objects depend that the current DDL
/// command created or changed.
pub fn schemas_depended_on(catalog: &Catalog) -> Result<Vec<pg_sys::Oid>> {
    query(
        catalog.scope(),
        "WITH made AS (SELECT classid, objid FROM pg_event_trigger_ddl_commands() WHERE classid IS NOT NULL),
              part AS (
                  SELECT classid, objid FROM made
                  UNION ALL SELECT 'pg_attrdef'::regclass, p.oid FROM made JOIN pg_attrdef p ON p.adrelid = objid
                  UNION ALL SELECT 'pg_rewrite'::regclass, p.oid FROM made JOIN pg_rewrite p ON p.ev_class = objid
                  UNION ALL SELECT 'pg_trigger'::regclass, p.oid FROM made JOIN pg_trigger p ON p.tgrelid = objid
                  UNION ALL SELECT 'pg_policy'::regclass, p.oid FROM made JOIN pg_policy p ON p.polrelid = objid
                  UNION ALL SELECT 'pg_constraint'::regclass, p.oid FROM made JOIN pg_constraint p ON p.conrelid = objid
                  UNION ALL SELECT 'pg_class'::regclass, p.indexrelid FROM made JOIN pg_index p ON p.indrelid = objid
                  UNION ALL SELECT 'pg_statistic_ext'::regclass, p.oid FROM made JOIN pg_statistic_ext p ON p.stxrelid = objid
                  UNION ALL SELECT 'pg_publication_rel'::regclass, p.oid FROM made JOIN pg_publication_rel p ON objid IN (p.prpubid, p.prrelid)
                  UNION ALL SELECT 'pg_constraint'::regclass, p.oid FROM made JOIN pg_constraint p ON p.contypid = objid
                      WHERE classid = 'pg_type'::regclass)
         SELECT DISTINCT n.oid FROM part JOIN pg_depend d ON d.classid = part.classid AND d.objid = part.objid
         CROSS JOIN LATERAL (
             SELECT d.refobjid WHERE d.refclassid = 'pg_namespace'::regclass
             UNION ALL SELECT relnamespace FROM pg_class WHERE oid = d.refobjid AND d.refclassid = 'pg_class'::regclass
             UNION ALL SELECT c.relnamespace FROM pg_class t JOIN pg_class c ON c.oid = substring(t.relname FROM '^pg_toast_(\\d+)')::oid
                 WHERE t.oid = d.refobjid AND d.refclassid = 'pg_class'::regclass AND t.relnamespace = 'pg_toast'::regnamespace
             UNION ALL SELECT typnamespace FROM pg_type WHERE oid = d.refobjid AND d.refclassid = 'pg_type'::regclass
             UNION ALL SELECT pronamespace FROM pg_proc WHERE oid = d.refobjid AND d.refclassid = 'pg_proc'::regclass
             UNION ALL SELECT oprnamespace FROM pg_operator WHERE oid = d.refobjid AND d.refclassid = 'pg_operator'::regclass
             UNION ALL SELECT collnamespace FROM pg_collation WHERE oid = d.refobjid AND d.refclassid = 'pg_collation'::regclass
             UNION ALL SELECT cfgnamespace FROM pg_ts_config WHERE oid = d.refobjid AND d.refclassid = 'pg_ts_config'::regclass
             UNION ALL SELECT dictnamespace FROM pg_ts_dict WHERE oid = d.refobjid AND d.refclassid = 'pg_ts_dict'::regclass
         ) AS ref (schema)
         JOIN pg_namespace n ON n.oid = ref.schema JOIN fluxbase_tenant.tenants t ON t.schema_name = n.nspname",
        &[],
        |row| row.need(1),
    )
}

/// Reports whether the function implements a cast or an operator.
pub fn implements_cast_or_operator(catalog: &Catalog, function: pg_sys::Oid) -> Result<bool> {
    any_row(
        catalog.scope(),
        "SELECT 1 FROM pg_cast WHERE castfunc = $1 UNION ALL SELECT 1 FROM pg_operator WHERE oprcode = $1 LIMIT 1",
        &[function.into()],
    )
}

/// Returns an object that refers to one of the roles `named` and that `role` does not own, if there is one. It
/// considers the privileges on the catalog, on tenant schemas and the objects in them, and on shared tables, and the
/// policies of any table.
pub fn object_naming_roles(catalog: &Catalog, named: &[pg_sys::Oid], role: pg_sys::Oid) -> Result<Option<String>> {
    let found = query(
        catalog.scope(),
        "SELECT pg_describe_object(d.classid, d.objid, 0) FROM pg_shdepend d
         LEFT JOIN pg_policy y ON d.classid = 'pg_policy'::regclass AND y.oid = d.objid
         LEFT JOIN pg_class c ON c.oid = CASE d.classid WHEN 'pg_class'::regclass THEN d.objid ELSE y.polrelid END
         LEFT JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
         LEFT JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
         LEFT JOIN pg_default_acl a ON d.classid = 'pg_default_acl'::regclass AND a.oid = d.objid
         LEFT JOIN pg_namespace n ON n.oid = CASE d.classid WHEN 'pg_namespace'::regclass THEN d.objid
             ELSE coalesce(c.relnamespace, p.pronamespace, t.typnamespace, a.defaclnamespace) END
         WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = ANY ($1) AND d.deptype IN ('a', 'r')
         AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
         AND NOT pg_has_role($2, coalesce(c.relowner, n.nspowner), 'USAGE')
         AND (y.oid IS NOT NULL OR n.nspname = 'fluxbase_tenant'
              OR n.nspname IN (SELECT schema_name FROM fluxbase_tenant.tenants)
              OR c.oid IN (SELECT relation::oid FROM fluxbase_tenant.shared_tables))
         LIMIT 1",
        &[named.to_vec().into(), role.into()],
        |row| row.need(1),
    )?;
    Ok(found.into_iter().next())
}

/// Returns the tables and materialized views in a tenant schema. Partitions are omitted: their root represents them.
pub fn tables_to_maintain(catalog: &Catalog, tenant: Uuid) -> Result<Vec<pg_sys::Oid>> {
    query(
        catalog.scope(),
        "SELECT c.oid FROM fluxbase_tenant.tenants t JOIN pg_namespace n ON n.nspname = t.schema_name
         JOIN pg_class c ON c.relnamespace = n.oid
         WHERE t.id = $1 AND c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition ORDER BY c.relname",
        &[tenant.into()],
        |row| row.need(1),
    )
}
