//! Table `shared_tables`, and what the server's catalogs say about the tables in it. Names come back qualified and quoted.

use pgrx::pg_sys;

use super::Catalog;
use crate::error::Result;
use crate::pg::{Row, query};

/// Common table expression `touched`: the table $1, its partitions and children, and the tables that refer to one of these.
macro_rules! touched {
    () => {
        "touched (oid, by_key) AS (
             SELECT $1, false
             UNION
             SELECT next.oid, touched.by_key OR next.by_key FROM touched, LATERAL (
                 SELECT i.inhrelid, false FROM pg_inherits i WHERE i.inhparent = touched.oid
                 UNION ALL
                 SELECT g.tgconstrrelid, true FROM pg_trigger g
                 WHERE g.tgrelid = touched.oid AND g.tgisinternal AND g.tgconstrrelid <> 0 AND g.tgtype & 8 <> 0
             ) AS next (oid, by_key))"
    };
}

/// A table outside the tenant schemas whose every row belongs to a tenant; of a partitioned one the root.
pub struct SharedTable {
    pub oid: pg_sys::Oid,
    pub name: String,
    pub owner: pg_sys::Oid,
    /// Quoted.
    pub tenant_column: String,
}

/// A table that holds rows itself: the shared table, or one of its partitions.
pub struct Part {
    pub oid: pg_sys::Oid,
    pub name: String,
    pub owner: pg_sys::Oid,
}

fn part(row: &Row) -> Result<Part> {
    Ok(Part { oid: row.need(1)?, name: row.need(2)?, owner: row.need(3)? })
}

/// Whether the row is new or says something else than before.
pub fn put(catalog: &Catalog, table: pg_sys::Oid, tenant_column: &str) -> Result<bool> {
    let changed = query(
        catalog.scope(),
        "INSERT INTO fluxbase_tenant.shared_tables AS s (relation, tenant_column) VALUES ($1::oid::regclass, $2::text::name)
         ON CONFLICT (relation) DO UPDATE SET tenant_column = excluded.tenant_column
         WHERE s.tenant_column <> excluded.tenant_column RETURNING 1",
        &[table.into(), tenant_column.into()],
        |_| Ok(()),
    )?;
    Ok(!changed.is_empty())
}

/// Whether it was there.
pub fn remove(catalog: &Catalog, table: pg_sys::Oid) -> Result<bool> {
    let removed = query(
        catalog.scope(),
        "DELETE FROM fluxbase_tenant.shared_tables WHERE relation = $1::oid::regclass RETURNING 1",
        &[table.into()],
        |_| Ok(()),
    )?;
    Ok(!removed.is_empty())
}

/// All of them whose tenant column is a uuid, as it has to be: those that are listed, and those whose policy says that they
/// are shared, as after a restore of parts. The policy knows the column by its number, and so also after it was renamed.
pub fn list(catalog: &Catalog) -> Result<Vec<SharedTable>> {
    query(
        catalog.scope(),
        "SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relowner, quote_ident(a.attname)
         FROM (SELECT relation::oid AS oid FROM fluxbase_tenant.shared_tables
               UNION
               SELECT p.polrelid FROM pg_depend d JOIN pg_policy p ON p.oid = d.objid
               WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_proc'::regclass
                 AND d.refobjid = 'fluxbase_tenant.reachable_tenant_ids()'::regprocedure) found
         JOIN pg_class c ON c.oid = found.oid JOIN pg_namespace n ON n.oid = c.relnamespace
         LEFT JOIN fluxbase_tenant.shared_tables s ON s.relation = c.oid
         LEFT JOIN fluxbase_tenant.isolation_policies p ON p.relation = c.oid
         JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped AND a.atttypid = 'uuid'::regtype
              AND CASE WHEN p.tenant_column IS NULL THEN a.attname = s.tenant_column ELSE a.attnum = p.tenant_column END
         WHERE c.relkind IN ('r', 'p') AND (NOT c.relispartition OR s.relation IS NOT NULL) ORDER BY c.oid",
        &[],
        |row| {
            Ok(SharedTable { oid: row.need(1)?, name: row.need(2)?, owner: row.need(3)?, tenant_column: row.need(4)? })
        },
    )
}

/// Whether it is listed, and there.
pub fn contains(catalog: &Catalog, table: pg_sys::Oid) -> Result<bool> {
    let found = query(
        catalog.scope(),
        "SELECT 1 FROM fluxbase_tenant.shared_tables s JOIN pg_class c ON c.oid = s.relation WHERE s.relation::oid = $1",
        &[table.into()],
        |_| Ok(()),
    )?;
    Ok(!found.is_empty())
}

/// The tables that hold the rows of a shared table.
pub fn parts(catalog: &Catalog, table: pg_sys::Oid) -> Result<Vec<Part>> {
    query(
        catalog.scope(),
        "WITH RECURSIVE part (oid) AS (
             SELECT $1 UNION SELECT i.inhrelid FROM part JOIN pg_inherits i ON i.inhparent = part.oid)
         SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relowner
         FROM part JOIN pg_class c ON c.oid = part.oid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'f') ORDER BY c.oid",
        &[table.into()],
        part,
    )
}

/// The tables that a DELETE from the table locks: itself, its partitions, and what refers to them.
pub fn touched_by_delete(catalog: &Catalog, table: pg_sys::Oid) -> Result<Vec<String>> {
    query(
        catalog.scope(),
        concat!(
            "WITH RECURSIVE ",
            touched!(),
            " SELECT format('%I.%I', n.nspname, c.relname) FROM (SELECT DISTINCT oid FROM touched) t
             JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY c.oid"
        ),
        &[table.into()],
        |row| row.need(1),
    )
}

/// Whether a DELETE from the table may run code of somebody's: triggers, rules, foreign servers, functions and operators in
/// indexes, constraints and statistics, which the planner evaluates, and casts between the types of a key. Keys that set
/// columns, or that are checked at the end of the transaction, count as code too.
pub fn delete_runs_code(catalog: &Catalog, table: pg_sys::Oid) -> Result<bool> {
    let found = query(
        catalog.scope(),
        concat!(
            "WITH RECURSIVE ",
            touched!(),
            " SELECT 1 FROM touched t JOIN pg_class c ON c.oid = t.oid
              WHERE c.relkind = 'f' OR c.relhasrules
                 OR EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgrelid = c.oid AND (g.tginitdeferred
                        OR g.tgfoid IN ('\"RI_FKey_setnull_del\"'::regproc, '\"RI_FKey_setdefault_del\"'::regproc)
                        OR (NOT g.tgisinternal AND g.tgenabled <> 'D' AND (t.by_key OR g.tgtype & 8 <> 0))))
                 OR (t.by_key AND EXISTS (SELECT 1 FROM pg_constraint k JOIN pg_attribute a
                                          ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
                                          WHERE k.conrelid = c.oid AND k.contype = 'f' AND a.atttypid >= 16384))
                 OR EXISTS (SELECT 1 FROM pg_depend d
                            WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.refobjid >= 16384
                              AND (d.classid, d.objid) IN (
                                  SELECT 'pg_class'::regclass::oid, c.oid
                                  UNION ALL SELECT 'pg_class'::regclass::oid, indexrelid FROM pg_index WHERE indrelid = c.oid
                                  UNION ALL SELECT 'pg_constraint'::regclass::oid, oid FROM pg_constraint WHERE conrelid = c.oid
                                  UNION ALL SELECT 'pg_statistic_ext'::regclass::oid, oid FROM pg_statistic_ext
                                            WHERE stxrelid = c.oid))
              LIMIT 1"
        ),
        &[table.into()],
        |_| Ok(()),
    )?;
    Ok(!found.is_empty())
}

/// A trigger or rule that a DELETE sets off, as ALTER TABLE names it.
pub struct Code {
    pub name: String,
    /// Empty, `REPLICA ` or `ALWAYS `, as ENABLE takes it.
    pub mode: String,
}

pub fn code_at_delete(catalog: &Catalog, table: pg_sys::Oid) -> Result<Vec<Code>> {
    query(
        catalog.scope(),
        "SELECT code.name, CASE code.mode WHEN 'R' THEN 'REPLICA ' WHEN 'A' THEN 'ALWAYS ' ELSE '' END
         FROM (SELECT format('TRIGGER %I', tgname), tgenabled FROM pg_trigger
               WHERE tgrelid = $1 AND NOT tgisinternal AND tgtype & 8 <> 0
               UNION ALL
               SELECT format('RULE %I', rulename), ev_enabled FROM pg_rewrite WHERE ev_class = $1 AND ev_type = '4'
         ) AS code (name, mode) WHERE code.mode <> 'D'",
        &[table.into()],
        |row| Ok(Code { name: row.need(1)?, mode: row.need(2)? }),
    )
}

/// A foreign key to a shared table that leaves out the tenant.
pub struct LooseKey {
    pub name: String,
    pub table: String,
    pub fix: String,
}

/// Those of the table, and those that refer to it.
pub fn loose_keys(catalog: &Catalog, table: pg_sys::Oid) -> Result<Vec<LooseKey>> {
    query(
        catalog.scope(),
        "SELECT constraint_name, referring, fix FROM fluxbase_tenant.loose_keys WHERE $1 IN (conrelid, confrelid)",
        &[table.into()],
        |row| Ok(LooseKey { name: row.need(1)?, table: row.need(2)?, fix: row.need(3)? }),
    )
}
