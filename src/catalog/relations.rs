//! What the server's own catalogs say about relations. Names come back qualified and quoted.

use pgrx::{Uuid, pg_sys};

use super::Catalog;
use crate::error::{Error, Result};
use crate::pg::{query, query_text};

pub struct Table {
    pub oid: pg_sys::Oid,
    pub name: String,
    pub owner: pg_sys::Oid,
    /// Where it is in a tenant's schema.
    pub tenant: Option<Uuid>,
}

/// `None` for what is not a table or partitioned table.
pub fn table(catalog: &Catalog, oid: pg_sys::Oid) -> Result<Option<Table>> {
    let rows = query(
        catalog.scope(),
        "SELECT format('%I.%I', n.nspname, c.relname), c.relowner, t.id
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN fluxbase_tenant.tenants t ON t.schema_name = n.nspname
         WHERE c.oid = $1 AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'",
        &[oid.into()],
        |row| Ok(Table { oid, name: row.need(1)?, owner: row.need(2)?, tenant: row.get(3) }),
    )?;
    Ok(rows.into_iter().next())
}

/// The table itself and, of a partitioned one, all its partitions.
pub fn partition_tree(catalog: &Catalog, oid: pg_sys::Oid) -> Result<Vec<String>> {
    let parts = query(
        catalog.scope(),
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_partition_tree($1::regclass) p
         JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p') ORDER BY p.level, c.relname",
        &[oid.into()],
        |row| row.need(1),
    )?;
    if !parts.is_empty() {
        return Ok(parts);
    }
    Ok(table(catalog, oid)?.map(|table| table.name).into_iter().collect())
}

/// What a view reads, and what the views among that read.
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

/// Whether the column is a foreign key to the catalog's tenants that cascades.
pub fn references_tenants(catalog: &Catalog, oid: pg_sys::Oid, column: &str) -> Result<bool> {
    any(
        catalog,
        "SELECT 1 FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]
         WHERE c.conrelid = $1 AND a.attname = $2::text::name AND c.contype = 'f' AND c.confdeltype = 'c'
           AND c.confrelid = 'fluxbase_tenant.tenants'::regclass",
        oid,
        column,
    )
}

/// What to grant, and to whom, quoted.
pub struct Right {
    pub what: String,
    pub role: String,
}

pub fn rights_lacking_to_reference_tenants(catalog: &Catalog, role: pg_sys::Oid) -> Result<Vec<Right>> {
    query(
        catalog.scope(),
        "SELECT 'USAGE ON SCHEMA fluxbase_tenant', quote_ident(rolname) FROM pg_roles
         WHERE oid = $1 AND NOT has_schema_privilege(oid, 'fluxbase_tenant', 'USAGE')
         UNION ALL SELECT 'REFERENCES ON fluxbase_tenant.tenants', quote_ident(rolname) FROM pg_roles
         WHERE oid = $1 AND NOT has_table_privilege(oid, 'fluxbase_tenant.tenants', 'REFERENCES')",
        &[role.into()],
        |row| Ok(Right { what: row.need(1)?, role: row.need(2)? }),
    )
}

/// Whether a plain index begins with the column.
pub fn has_index_on(catalog: &Catalog, oid: pg_sys::Oid, column: &str) -> Result<bool> {
    any(
        catalog,
        "SELECT 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = $1 AND a.attname = $2::text::name AND i.indisvalid AND i.indpred IS NULL",
        oid,
        column,
    )
}

/// The column, quoted, whose default is the current tenant.
pub fn column_with_tenant_default(catalog: &Catalog, oid: pg_sys::Oid) -> Result<Option<String>> {
    let columns = query(
        catalog.scope(),
        "SELECT quote_ident(a.attname) FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
         JOIN pg_depend f ON f.classid = 'pg_attrdef'::regclass AND f.objid = d.oid AND f.refclassid = 'pg_proc'::regclass
         JOIN pg_proc p ON p.oid = f.refobjid AND p.proname = 'tenant_current_id'
         JOIN pg_extension e ON e.extname = 'fluxbase_tenant' AND e.extnamespace = p.pronamespace
         WHERE d.adrelid = $1",
        &[oid.into()],
        |row| row.need(1),
    )?;
    Ok(columns.into_iter().next())
}

/// `tenant_current_id`, qualified by the schema that the extension was installed in.
pub fn current_tenant_function(catalog: &Catalog) -> Result<String> {
    Ok(format!("{}.tenant_current_id", extension_schema(catalog)?))
}

/// Quoted.
pub fn extension_schema(catalog: &Catalog) -> Result<String> {
    query(
        catalog.scope(),
        "SELECT extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'fluxbase_tenant'",
        &[],
        |row| row.need(1),
    )?
    .into_iter()
    .next()
    .ok_or_else(|| Error::internal("the extension is not installed"))
}

/// Whether row-level security is on and forced, and `tenant_isolation` is what it must be, with this expression.
pub fn is_protected(catalog: &Catalog, table: &str, expression: &str) -> Result<bool> {
    let found = query(
        catalog.scope(),
        "SELECT 1 FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = 'tenant_isolation'
         WHERE c.oid = $1::text::regclass AND c.relrowsecurity AND c.relforcerowsecurity AND NOT p.polpermissive
           AND p.polcmd = '*' AND p.polroles = '{0}' AND p.polwithcheck IS NULL
           AND pg_get_expr(p.polqual, p.polrelid) = $2",
        &[table.into(), expression.into()],
        |_| Ok(()),
    )?;
    Ok(!found.is_empty())
}

pub fn has_policy(catalog: &Catalog, table: &str, policy: &str) -> Result<bool> {
    let found = query(
        catalog.scope(),
        "SELECT 1 FROM pg_policy WHERE polrelid = $1::text::regclass AND polname = $2::text::name",
        &[table.into(), policy.into()],
        |_| Ok(()),
    )?;
    Ok(!found.is_empty())
}

pub fn has_any_policy(catalog: &Catalog, table: &str) -> Result<bool> {
    let found = query(
        catalog.scope(),
        "SELECT 1 FROM pg_policy WHERE polrelid = $1::text::regclass LIMIT 1",
        &[table.into()],
        |_| Ok(()),
    )?;
    Ok(!found.is_empty())
}

pub fn has_permissive_policy(catalog: &Catalog, table: &str) -> Result<bool> {
    let found = query(
        catalog.scope(),
        "SELECT 1 FROM pg_policy WHERE polrelid = $1::text::regclass AND polpermissive LIMIT 1",
        &[table.into()],
        |_| Ok(()),
    )?;
    Ok(!found.is_empty())
}

/// Rows of `source`: a table, or a table with a condition.
pub fn count(catalog: &Catalog, source: &str) -> Result<i64> {
    query_text(catalog.scope(), &format!("SELECT count(*) FROM {source}"), |row| row.need(1))?
        .into_iter()
        .next()
        .ok_or_else(|| Error::internal("count(*) returned no row"))
}

fn any(catalog: &Catalog, sql: &'static str, oid: pg_sys::Oid, column: &str) -> Result<bool> {
    Ok(!query(catalog.scope(), sql, &[oid.into(), column.into()], |_| Ok(()))?.is_empty())
}
