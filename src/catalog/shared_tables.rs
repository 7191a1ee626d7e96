//! Table `shared_tables`, and what the server's catalogs say about the tables in it. Names come back qualified and quoted.

use pgrx::pg_sys;

use super::Catalog;
use crate::error::Result;
use crate::pg::{Row, any_row, query};

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
    pub tenant_column: String,
}

/// A table that holds rows itself: the shared table, or one of its partitions.
pub struct Part {
    pub oid: pg_sys::Oid,
    pub name: String,
    pub owner: pg_sys::Oid,
    /// The tenant column's number, which differs between partitions.
    pub column: i16,
    /// A B-tree that begins with the column, or InvalidOid.
    pub index: pg_sys::Oid,
}

fn part(row: &Row) -> Result<Part> {
    let index = row.get(5).unwrap_or(pg_sys::InvalidOid);
    Ok(Part { oid: row.need(1)?, name: row.need(2)?, owner: row.need(3)?, column: row.need(4)?, index })
}

/// Whether the row is new or says something else than before.
pub fn put(catalog: &Catalog, table: pg_sys::Oid, tenant_column: &str) -> Result<bool> {
    any_row(catalog.scope(), "INSERT INTO fluxbase_tenant.shared_tables AS s (relation, tenant_column) VALUES ($1::oid::fluxbase_tenant.relation, $2::text::name)
         ON CONFLICT (relation) WHERE relation::oid <> 0 DO UPDATE SET tenant_column = excluded.tenant_column
         WHERE s.tenant_column <> excluded.tenant_column RETURNING 1", &[table.into(), tenant_column.into()])
}

/// Whether it was there.
pub fn remove(catalog: &Catalog, table: pg_sys::Oid) -> Result<bool> {
    any_row(
        catalog.scope(),
        "DELETE FROM fluxbase_tenant.shared_tables WHERE relation::oid = $1 AND relation::oid <> 0 RETURNING 1",
        &[table.into()],
    )
}

/// Those that are listed, and whose tenant column is a uuid, as it has to be. Where there is the policy it knows the column by
/// its number, and so also after it was renamed. A policy alone makes no shared table: anybody may write one.
pub fn list(catalog: &Catalog) -> Result<Vec<SharedTable>> {
    query(
        catalog.scope(),
        "SELECT c.oid, a.attname::text
         FROM fluxbase_tenant.shared_tables s JOIN pg_class c ON c.oid = s.relation::oid AND c.relkind IN ('r', 'p')
         LEFT JOIN fluxbase_tenant.isolation_policies p ON p.relation = c.oid
         JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped AND a.atttypid = 'uuid'::regtype
              AND CASE WHEN p.tenant_column IS NULL THEN a.attname = s.tenant_column ELSE a.attnum = p.tenant_column END
         ORDER BY c.oid",
        &[],
        |row| Ok(SharedTable { oid: row.need(1)?, tenant_column: row.need(2)? }),
    )
}

/// Whether it is listed, and there.
pub fn contains(catalog: &Catalog, table: pg_sys::Oid) -> Result<bool> {
    any_row(
        catalog.scope(),
        "SELECT 1 FROM fluxbase_tenant.shared_tables s JOIN pg_class c ON c.oid = s.relation::oid WHERE s.relation::oid = $1",
        &[table.into()],
    )
}

/// Whether a table has the policy of shared tables, as their partitions do too.
pub fn is_protected(catalog: &Catalog, table: pg_sys::Oid) -> Result<bool> {
    any_row(
        catalog.scope(),
        "SELECT 1 FROM fluxbase_tenant.isolation_policies WHERE relation = $1 AND tenant_column IS NOT NULL",
        &[table.into()],
    )
}

/// The tables that hold the rows of a shared table. A foreign table among them has rows elsewhere, a temporary one rows that
/// only its session can see.
pub fn parts(catalog: &Catalog, table: &SharedTable) -> Result<Vec<Part>> {
    query(
        catalog.scope(),
        "WITH RECURSIVE part (oid) AS (
             SELECT $1 UNION SELECT i.inhrelid FROM part JOIN pg_inherits i ON i.inhparent = part.oid)
         SELECT c.oid, format('%I.%I', n.nspname, c.relname), c.relowner, a.attnum, (
                    SELECT i.indexrelid FROM pg_index i
                    JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'
                    JOIN pg_opclass o ON o.oid = i.indclass[0] AND o.opcname = 'uuid_ops' AND o.oid < 16384
                    WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND i.indisvalid AND i.indisready
                      AND i.indpred IS NULL LIMIT 1)
         FROM part JOIN pg_class c ON c.oid = part.oid JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $2::text::name AND a.attnum > 0
         WHERE c.relkind IN ('r', 'f') AND c.relpersistence <> 't' ORDER BY c.oid",
        &[table.oid.into(), table.tenant_column.as_str().into()],
        part,
    )
}

/// The tables that the deletion of rows locks: the table itself, its partitions, and, by foreign keys, what refers to them.
#[derive(PartialEq, Eq)]
pub struct Touched {
    pub table: pg_sys::Oid,
    pub by_key: bool,
}

pub fn touched_by_delete(catalog: &Catalog, table: pg_sys::Oid) -> Result<Vec<Touched>> {
    query(
        catalog.scope(),
        concat!("WITH RECURSIVE ", touched!(), " SELECT DISTINCT oid, by_key FROM touched ORDER BY oid, by_key"),
        &[table.into()],
        |row| Ok(Touched { table: row.need(1)?, by_key: row.need(2)? }),
    )
}

/// Whether all these tables are superusers' or that role's own. Others may do to theirs whatever takes long, at any time.
pub fn are_trusted(catalog: &Catalog, tables: Vec<pg_sys::Oid>, role: pg_sys::Oid) -> Result<bool> {
    let strange = query(
        catalog.scope(),
        "SELECT 1 FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner
         WHERE c.oid = ANY ($1) AND NOT o.rolsuper AND o.oid <> $2 LIMIT 1",
        &[tables.into(), role.into()],
        |_| Ok(()),
    )?;
    Ok(strange.is_empty())
}

/// Whether the deletion of rows of these tables, which no key refers to, may run code of somebody's: triggers, rules, foreign
/// servers, and functions and operators in indexes and constraints.
pub fn delete_runs_code(catalog: &Catalog, tables: Vec<pg_sys::Oid>) -> Result<bool> {
    any_row(catalog.scope(), "SELECT 1 FROM pg_class c WHERE c.oid = ANY ($1) AND (c.relkind = 'f' OR c.relhasrules
             OR EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 8 <> 0)
             OR EXISTS (SELECT 1 FROM pg_depend d
                        WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.refobjid >= 16384
                          AND (d.classid, d.objid) IN (
                              SELECT 'pg_class'::regclass::oid, c.oid
                              UNION ALL SELECT 'pg_class'::regclass::oid, indexrelid FROM pg_index WHERE indrelid = c.oid
                              UNION ALL SELECT 'pg_constraint'::regclass::oid, oid FROM pg_constraint WHERE conrelid = c.oid)))
         LIMIT 1", &[tables.into()])
}

/// A trigger of a table.
pub struct Trigger {
    pub oid: pg_sys::Oid,
    pub table: pg_sys::Oid,
    pub name: String,
}

/// Triggers on these tables that use what is neither the owner's nor a superuser's, as function or in the condition, which of
/// a partition's triggers the root's remembers, that a stranger's table handed down, or that may have a stranger's condition and arguments. GRANT ALL lets others hang theirs on a table, a partition gets those of its
/// root, and AFTER triggers of what a key cascades to run, before PostgreSQL 18, as whoever deletes the first row.
pub fn triggers_of_other_roles(
    catalog: &Catalog,
    tables: Vec<pg_sys::Oid>,
    owner: pg_sys::Oid,
) -> Result<Vec<Trigger>> {
    query(
        catalog.scope(),
        "WITH RECURSIVE line (trigger, oid) AS (
             SELECT oid, oid FROM pg_trigger WHERE tgrelid = ANY ($1) AND NOT tgisinternal
             UNION SELECT line.trigger, g.tgparentid FROM line JOIN pg_trigger g ON g.oid = line.oid WHERE g.tgparentid <> 0)
         SELECT g.oid, g.tgrelid, format('%I on %s', g.tgname, g.tgrelid::regclass) FROM pg_trigger g
         WHERE g.oid IN (
             SELECT line.trigger FROM line
             JOIN pg_depend d ON d.classid = 'pg_trigger'::regclass AND d.objid = line.oid
             LEFT JOIN pg_proc p ON d.refclassid = 'pg_proc'::regclass AND p.oid = d.refobjid
             LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
             LEFT JOIN pg_type t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid
             JOIN pg_roles r ON r.oid IN (p.proowner, o.oprowner, t.typowner)
             WHERE r.oid <> $2 AND NOT r.rolsuper
             UNION ALL
             SELECT line.trigger FROM line JOIN pg_trigger a ON a.oid = line.oid JOIN pg_class t ON t.oid = a.tgrelid
             JOIN pg_roles o ON o.oid = t.relowner
             WHERE (t.relowner <> $2 AND NOT o.rolsuper)
             OR ((g.tgnargs > 0 OR g.tgqual IS NOT NULL) AND (t.relowner <> $2 OR EXISTS (
                 SELECT 1 FROM aclexplode(t.relacl) x WHERE x.privilege_type = 'TRIGGER' AND x.grantee <> t.relowner))))",
        &[tables.into(), owner.into()],
        |row| Ok(Trigger { oid: row.need(1)?, table: row.need(2)?, name: row.need(3)? }),
    )
}

/// A table behind a key that neither that role nor a superuser owns and that may run code: a rule, which leads to tables of anybody's, or
/// functions in defaults, constraints and indexes, and types.
pub fn code_of_other_roles(catalog: &Catalog, tables: Vec<pg_sys::Oid>, role: pg_sys::Oid) -> Result<Option<String>> {
    let found = query(
        catalog.scope(),
        "SELECT coalesce((SELECT format('rule %I on ', r.rulename) FROM pg_rewrite r WHERE r.ev_class = c.oid LIMIT 1),
                         'code in table ') || c.oid::regclass
         FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner
         WHERE c.oid = ANY ($1) AND NOT o.rolsuper AND o.oid <> $2
         AND (EXISTS (SELECT 1 FROM pg_rewrite r WHERE r.ev_class = c.oid)
              OR EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.atttypid >= 16384)
              OR EXISTS (SELECT 1 FROM pg_depend d
                         WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass) AND d.refobjid >= 16384
                           AND (d.classid, d.objid) IN (
                               SELECT 'pg_class'::regclass::oid, c.oid
                               UNION ALL SELECT 'pg_class'::regclass::oid, indexrelid FROM pg_index WHERE indrelid = c.oid
                               UNION ALL SELECT 'pg_attrdef'::regclass::oid, oid FROM pg_attrdef WHERE adrelid = c.oid
                               UNION ALL SELECT 'pg_constraint'::regclass::oid, oid FROM pg_constraint WHERE conrelid = c.oid)))
         LIMIT 1",
        &[tables.into(), role.into()],
        |row| row.need(1),
    )?;
    Ok(found.into_iter().next())
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

/// Shared tables and their partitions in these schemas, as their policies tell.
pub fn in_schemas(catalog: &Catalog, schemas: &[pg_sys::Oid]) -> Result<Vec<pg_sys::Oid>> {
    query(
        catalog.scope(),
        "SELECT c.oid FROM pg_class c JOIN fluxbase_tenant.isolation_policies p ON p.relation = c.oid
         WHERE c.relnamespace = ANY ($1) AND p.tenant_column IS NOT NULL",
        &[schemas.to_vec().into()],
        |row| row.need(1),
    )
}
