//! Queries on the system catalogs for `tenant_clone()`, which copies the rows of one tenant schema into another.
//! Returned names are qualified and quoted.

use super::Catalog;
use crate::error::Result;
use crate::pg::query;
use crate::pg::sql::{Command, Ident, QualifiedName};

/// A table to copy. A partitioned table is copied through its root.
pub struct Copied {
    pub source: QualifiedName,
    /// `ONLY` if the table may have inheritance children. These are copied separately.
    pub only: &'static str,
    pub target: QualifiedName,
    /// `None` if the tables have no column in common.
    pub rows: Option<RowCopy>,
}

/// The commands that copy the rows of one table through a temporary table, so that the role that reads the source and
/// the role that writes to the target need no privileges on each other's tables. They match columns by name, omit
/// generated columns of the target, and convert a value through text if the types of the columns differ, as they do for
/// types that the schemas define.
pub struct RowCopy {
    pub create: Command,
    pub read: Command,
    pub write: Command,
}

/// Returns the tables that exist in both schemas. `temporary` is the name of the temporary table.
pub fn tables(catalog: &Catalog, from: &str, to: &str, temporary: &Ident) -> Result<Vec<Copied>> {
    query(
        catalog.scope(),
        "SELECT format('%I.%I', $1, s.relname), format('%I.%I', $2, t.relname), s.relkind = 'r', count(b.attname) > 0,
                format('CREATE TEMPORARY TABLE %s (%s)', $3, string_agg(format('c%s %s', a.attnum,
                       CASE WHEN a.atttypid = b.atttypid THEN format_type(a.atttypid, a.atttypmod) ELSE 'text' END),
                       ', ' ORDER BY a.attnum)),
                format('INSERT INTO pg_temp.%s SELECT %s FROM %s%I.%I', $3,
                       string_agg(quote_ident(a.attname) || CASE WHEN a.atttypid = b.atttypid THEN '' ELSE '::text' END,
                                  ', ' ORDER BY a.attnum),
                       CASE s.relkind WHEN 'r' THEN 'ONLY ' ELSE '' END, $1, s.relname),
                format('INSERT INTO %I.%I (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM pg_temp.%s', $2, t.relname,
                       string_agg(quote_ident(b.attname), ', ' ORDER BY a.attnum),
                       string_agg('c' || a.attnum || CASE WHEN a.atttypid = b.atttypid THEN ''
                                                          ELSE '::' || format_type(b.atttypid, b.atttypmod) END,
                                  ', ' ORDER BY a.attnum), $3)
         FROM pg_namespace f JOIN pg_class s ON s.relnamespace = f.oid AND s.relkind IN ('r', 'p') AND NOT s.relispartition
         JOIN pg_namespace g ON g.nspname = $2::text::name
         JOIN pg_class t ON t.relnamespace = g.oid AND t.relname = s.relname
         LEFT JOIN (pg_attribute a JOIN pg_attribute b ON b.attname = a.attname AND b.attnum > 0 AND b.attgenerated = '')
                ON a.attrelid = s.oid AND b.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE f.nspname = $1::text::name GROUP BY s.relname, s.relkind, t.relname ORDER BY s.relname",
        &[from.into(), to.into(), temporary.to_string().into()],
        |row| {
            let rows = if row.need(4)? {
                Some(RowCopy { create: row.need(5)?, read: row.need(6)?, write: row.need(7)? })
            } else {
                None
            };
            let only = if row.need(3)? { "ONLY " } else { "" };
            Ok(Copied { source: row.need(1)?, only, target: row.need(2)?, rows })
        },
    )
}

/// Returns a table, partition, column or sequence that exists in the schema `from` and not in `to`, if there is one.
pub fn lacking(catalog: &Catalog, from: &str, to: &str) -> Result<Option<String>> {
    let rows = query(
        catalog.scope(),
        "SELECT CASE WHEN t.oid IS NULL THEN CASE s.relkind WHEN 'S' THEN 'sequence ' ELSE 'table ' END || quote_ident(s.relname)
                     ELSE format('column %I.%I', s.relname, a.attname) END
         FROM pg_namespace f JOIN pg_class s ON s.relnamespace = f.oid AND s.relkind IN ('r', 'p', 'S')
         LEFT JOIN pg_attribute a ON a.attrelid = s.oid AND a.attnum > 0 AND NOT a.attisdropped AND s.relkind <> 'S'
         LEFT JOIN (pg_class t JOIN pg_namespace g ON g.oid = t.relnamespace AND g.nspname = $2::text::name)
                ON t.relname = s.relname AND t.relkind = s.relkind
         WHERE f.nspname = $1::text::name AND (t.oid IS NULL OR (a.attnum IS NOT NULL AND NOT EXISTS (
             SELECT 1 FROM pg_attribute b WHERE b.attrelid = t.oid AND b.attname = a.attname AND b.attnum > 0
                                            AND (b.attgenerated = '') = (a.attgenerated = ''))))
         ORDER BY 1 LIMIT 1",
        &[from.into(), to.into()],
        |row| row.need(1),
    )?;
    Ok(rows.into_iter().next())
}

/// A trigger that fires if session_replication_role is `replica`.
pub struct Trigger {
    pub table: QualifiedName,
    pub name: Ident,
    /// The keyword that enables it in ALTER TABLE: `ALWAYS` or `REPLICA`.
    pub mode: &'static str,
}

/// Returns the triggers in the schema that are enabled ALWAYS or REPLICA.
pub fn always_firing_triggers(catalog: &Catalog, schema: &str) -> Result<Vec<Trigger>> {
    query(
        catalog.scope(),
        "SELECT format('%I.%I', n.nspname, c.relname), t.tgname, t.tgenabled = 'A'
         FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid JOIN pg_trigger t ON t.tgrelid = c.oid
         WHERE n.nspname = $1::text::name AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R')",
        &[schema.into()],
        |row| {
            let mode = if row.need(3)? { "ALWAYS" } else { "REPLICA" };
            Ok(Trigger { table: row.need(1)?, name: row.need(2)?, mode })
        },
    )
}

/// Returns the sequences that exist in both schemas, as pairs of source and target.
pub fn sequences(catalog: &Catalog, from: &str, to: &str) -> Result<Vec<(QualifiedName, QualifiedName)>> {
    query(
        catalog.scope(),
        "SELECT format('%I.%I', $1, s.relname), format('%I.%I', $2, t.relname)
         FROM pg_namespace f JOIN pg_class s ON s.relnamespace = f.oid AND s.relkind = 'S'
         JOIN pg_namespace g ON g.nspname = $2::text::name
         JOIN pg_class t ON t.relnamespace = g.oid AND t.relname = s.relname AND t.relkind = 'S'
         WHERE f.nspname = $1::text::name",
        &[from.into(), to.into()],
        |row| Ok((row.need(1)?, row.need(2)?)),
    )
}

/// Returns the populated materialized views in the schema, oldest first, because a view may read an older one.
pub fn materialized_views(catalog: &Catalog, schema: &str) -> Result<Vec<QualifiedName>> {
    query(
        catalog.scope(),
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid
         WHERE n.nspname = $1::text::name AND c.relkind = 'm' AND c.relispopulated ORDER BY c.oid",
        &[schema.into()],
        |row| row.need(1),
    )
}
