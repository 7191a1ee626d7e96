//! Table `shared_tables`, and queries on the system catalogs about the tables in it. Returned names are qualified and
//! quoted.

use pgrx::pg_sys;

use super::Catalog;
use crate::error::Result;
use crate::pg::{Row, any_row, query};

/// The CTE `touched`: the table $1, its partitions and inheritance children, and the tables that refer to one of these
/// by a foreign key, recursively. `by_key` is true for tables that are reached through a foreign key.
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

/// A table outside tenant schemas in which every row belongs to a tenant. A partitioned table is represented by its
/// root.
pub struct SharedTable {
    pub oid: pg_sys::Oid,
    pub tenant_column: String,
}

/// A table that stores rows of a shared table: the shared table itself, or one of its partitions or inheritance
/// children.
pub struct Part {
    pub oid: pg_sys::Oid,
    pub name: String,
    pub owner: pg_sys::Oid,
    /// The attribute number of the tenant column, which may differ between partitions.
    pub column: i16,
    /// A B-tree index with the tenant column as its first column, or InvalidOid.
    pub index: pg_sys::Oid,
}

fn part(row: &Row) -> Result<Part> {
    let index = row.get(5).unwrap_or(pg_sys::InvalidOid);
    Ok(Part { oid: row.need(1)?, name: row.need(2)?, owner: row.need(3)?, column: row.need(4)?, index })
}

/// Adds a table or changes its tenant column. Returns whether anything changed.
pub fn put(catalog: &Catalog, table: pg_sys::Oid, tenant_column: &str) -> Result<bool> {
    any_row(catalog.scope(), "INSERT INTO fluxbase_tenant.shared_tables AS s (relation, tenant_column) VALUES ($1::oid::fluxbase_tenant.relation, $2::text::name)
         ON CONFLICT (relation) WHERE relation::oid <> 0 DO UPDATE SET tenant_column = excluded.tenant_column
         WHERE s.tenant_column <> excluded.tenant_column RETURNING 1", &[table.into(), tenant_column.into()])
}

/// Deletes a table from the list. Returns whether a row was deleted.
pub fn remove(catalog: &Catalog, table: pg_sys::Oid) -> Result<bool> {
    any_row(
        catalog.scope(),
        "DELETE FROM fluxbase_tenant.shared_tables WHERE relation::oid = $1 AND relation::oid <> 0 RETURNING 1",
        &[table.into()],
    )
}

/// Returns the shared tables: the listed tables that exist and have a tenant column of type uuid. If the table has the
/// isolation policy, the policy determines the tenant column, because the policy refers to it by number and so survives
/// a renaming of the column. A policy without an entry in the list does not count, because any table owner can create
/// such a policy.
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

/// Reports whether the table is listed and exists.
pub fn contains(catalog: &Catalog, table: pg_sys::Oid) -> Result<bool> {
    any_row(
        catalog.scope(),
        "SELECT 1 FROM fluxbase_tenant.shared_tables s JOIN pg_class c ON c.oid = s.relation::oid WHERE s.relation::oid = $1",
        &[table.into()],
    )
}

/// Reports whether the table has the isolation policy of shared tables. Partitions of shared tables have it, too.
pub fn is_protected(catalog: &Catalog, table: pg_sys::Oid) -> Result<bool> {
    any_row(
        catalog.scope(),
        "SELECT 1 FROM fluxbase_tenant.isolation_policies WHERE relation = $1 AND tenant_column IS NOT NULL",
        &[table.into()],
    )
}

/// Returns the tables that store the rows of a shared table. Includes foreign tables. Omits temporary tables, whose
/// rows only their own session can see.
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

/// A table that a deletion of rows locks.
#[derive(PartialEq, Eq)]
pub struct Touched {
    pub table: pg_sys::Oid,
    /// Whether the deletion reaches it through a foreign key.
    pub by_key: bool,
}

/// Returns the tables that a deletion of rows locks: the table, its partitions and inheritance children, and the tables
/// that refer to these by foreign keys. A table may be listed twice, once as reached by a foreign key.
pub fn touched_by_delete(catalog: &Catalog, table: pg_sys::Oid) -> Result<Vec<Touched>> {
    query(
        catalog.scope(),
        concat!("WITH RECURSIVE ", touched!(), " SELECT DISTINCT oid, by_key FROM touched ORDER BY oid, by_key"),
        &[table.into()],
        |row| Ok(Touched { table: row.need(1)?, by_key: row.need(2)? }),
    )
}

/// Reports whether superusers or `role` own all the tables. Any other owner could slow down a deletion or block it at
/// any time.
pub fn are_trusted(catalog: &Catalog, tables: Vec<pg_sys::Oid>, role: pg_sys::Oid) -> Result<bool> {
    let untrusted = query(
        catalog.scope(),
        "SELECT 1 FROM pg_class c JOIN pg_roles o ON o.oid = c.relowner
         WHERE c.oid = ANY ($1) AND NOT o.rolsuper AND o.oid <> $2 LIMIT 1",
        &[tables.into(), role.into()],
        |_| Ok(()),
    )?;
    Ok(untrusted.is_empty())
}

/// Reports whether a deletion of rows from these tables may run user-defined code: triggers, rules, foreign data
/// wrappers, or functions and operators in indexes and constraints. The caller must have checked that no foreign key
/// refers to the tables.
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

/// A trigger on a table.
pub struct Trigger {
    pub oid: pg_sys::Oid,
    pub table: pg_sys::Oid,
    pub name: String,
}

/// Returns the triggers on these tables that may run code of a role other than `owner` and superusers:
/// - the function, or an object in the WHEN condition, belongs to another role. A trigger that a partition has from its
///   root records these dependencies only on the root's trigger.
/// - the trigger comes from a root table that another role owns.
/// - the trigger has arguments or a WHEN condition, and another role may have created it: PostgreSQL does not record who
///   did. On the tables in `distrusted`, all such triggers count; on other tables, only if TRIGGER is granted now.
///
/// Other roles can create triggers on a table if they were granted TRIGGER, as by GRANT ALL. Partitions get the
/// triggers of their root. Before PostgreSQL 18, the AFTER triggers of tables that a foreign key cascades to run as the
/// role that deletes the first row.
pub fn triggers_of_other_roles(
    catalog: &Catalog,
    tables: Vec<pg_sys::Oid>,
    distrusted: Vec<pg_sys::Oid>,
    owner: pg_sys::Oid,
) -> Result<Vec<Trigger>> {
    query(
        catalog.scope(),
        "WITH RECURSIVE line (trigger, oid) AS (
             SELECT oid, oid FROM pg_trigger WHERE tgrelid = ANY ($1) AND NOT tgisinternal
             UNION SELECT line.trigger, g.tgparentid FROM line JOIN pg_trigger g ON g.oid = line.oid WHERE g.tgparentid <> 0)
         SELECT g.oid, g.tgrelid, format('%I on %s', g.tgname, g.tgrelid::regclass) FROM pg_trigger g
         WHERE g.tgenabled <> 'D' AND g.oid IN (
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
             OR ((g.tgnargs > 0 OR g.tgqual IS NOT NULL) AND (t.relowner <> $2 OR g.tgrelid = ANY ($3) OR EXISTS (
                 SELECT 1 FROM aclexplode(t.relacl) x WHERE x.privilege_type = 'TRIGGER' AND x.grantee <> t.relowner))))",
        &[tables.into(), owner.into(), distrusted.into()],
        |row| Ok(Trigger { oid: row.need(1)?, table: row.need(2)?, name: row.need(3)? }),
    )
}

/// Returns the description of code in one of these tables that a foreign-key action may run as `role`, if there is any.
/// It considers tables that neither `role` nor a superuser owns, and these kinds of code: rules, which can lead to any
/// other table, user-defined functions and operators in defaults, constraints and indexes, and columns of user-defined
/// types.
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

/// A foreign key to a shared table that does not include the tenant column.
pub struct LooseKey {
    pub name: String,
    pub table: String,
    pub fix: String,
}

/// Returns the loose keys of the table and those that refer to it.
pub fn loose_keys(catalog: &Catalog, table: pg_sys::Oid) -> Result<Vec<LooseKey>> {
    query(
        catalog.scope(),
        "SELECT constraint_name, referring, fix FROM fluxbase_tenant.loose_keys WHERE $1 IN (conrelid, confrelid)",
        &[table.into()],
        |row| Ok(LooseKey { name: row.need(1)?, table: row.need(2)?, fix: row.need(3)? }),
    )
}

/// Returns the shared tables and their partitions that the role may maintain without owning them.
#[cfg(not(any(feature = "pg15", feature = "pg16")))]
pub fn maintained_by_others(catalog: &Catalog, role: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    query(
        catalog.scope(),
        "SELECT c.oid FROM pg_class c JOIN fluxbase_tenant.isolation_policies p ON p.relation = c.oid
         WHERE p.tenant_column IS NOT NULL AND NOT pg_has_role($1, c.relowner, 'USAGE')
           AND has_table_privilege($1, c.oid, 'MAINTAIN')",
        &[role.into()],
        |row| row.need(1),
    )
}

/// Returns nothing: before PostgreSQL 17, only the owner may maintain a table.
#[cfg(any(feature = "pg15", feature = "pg16"))]
pub fn maintained_by_others(_catalog: &Catalog, _role: pg_sys::Oid) -> Result<Vec<pg_sys::Oid>> {
    Ok(Vec::new())
}

/// Returns the tables in these schemas that have the isolation policy of shared tables: shared tables and their
/// partitions.
pub fn in_schemas(catalog: &Catalog, schemas: &[pg_sys::Oid]) -> Result<Vec<pg_sys::Oid>> {
    query(
        catalog.scope(),
        "SELECT c.oid FROM pg_class c JOIN fluxbase_tenant.isolation_policies p ON p.relation = c.oid
         WHERE c.relnamespace = ANY ($1) AND p.tenant_column IS NOT NULL",
        &[schemas.to_vec().into()],
        |row| row.need(1),
    )
}
