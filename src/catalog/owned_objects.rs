//! The objects that a tenant's owner role should own: the relations, routines and types in the tenant's schema. Objects
//! of extensions are left alone, because the whole database may use them. Indexes, sequences owned by columns, and row
//! types have the owner of their table.

use super::Catalog;
use crate::error::Result;
use crate::pg::sql::{Command, QualifiedName};
use crate::pg::{Row, query};

/// An object with another owner.
pub struct Misowned {
    /// For example `TABLE tenant_acme.notes`.
    pub object: String,
    pub owner: String,
    /// Gives the object to the owner role.
    pub command: Command,
    /// The name, if it is a view.
    pub view: Option<QualifiedName>,
}

/// The query for the objects with another owner among those in the CTE `held`, which has the columns classid and objid.
macro_rules! misowned {
    () => {
        "owned (kind, name, owner, schema, classid, objid) AS (
             SELECT CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE'
                                   WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END,
                    quote_ident(c.relname), c.relowner, c.relnamespace, h.classid, h.objid
             FROM held h JOIN pg_class c ON h.classid = 'pg_class'::regclass AND c.oid = h.objid
             WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT (c.relkind = 'S' AND EXISTS (
                 SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                   AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')))
             UNION ALL
             SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END,
                    format('%I(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), p.proowner, p.pronamespace, h.classid, h.objid
             FROM held h JOIN pg_proc p ON h.classid = 'pg_proc'::regclass AND p.oid = h.objid
             UNION ALL
             SELECT CASE t.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, quote_ident(t.typname), t.typowner, t.typnamespace, h.classid, h.objid
             FROM held h JOIN pg_type t ON h.classid = 'pg_type'::regclass AND t.oid = h.objid
             WHERE t.typtype IN ('e', 'd', 'r')
                OR (t.typtype = 'c' AND EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c')))
         SELECT format('%s %I.%s', o.kind, n.nspname, o.name), o.owner::regrole::text,
                format('ALTER %s %I.%s OWNER TO %I', o.kind, n.nspname, o.name, r.rolname),
                CASE o.kind WHEN 'VIEW' THEN format('%I.%s', n.nspname, o.name) END
         FROM owned o JOIN pg_namespace n ON n.oid = o.schema
         JOIN fluxbase_tenant.tenants t ON t.schema_name = n.nspname
         JOIN pg_roles r ON r.rolname = ('fluxbase_tenant_' || replace(t.id::text, '-', ''))::name
         WHERE o.owner <> r.oid AND NOT EXISTS (
             SELECT 1 FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.objid AND d.deptype = 'e')"
    };
}

/// Returns the objects in a tenant's schema that the owner role does not own.
pub fn misowned_in(catalog: &Catalog, schema: &str) -> Result<Vec<Misowned>> {
    query(
        catalog.scope(),
        concat!(
            "WITH held AS MATERIALIZED (
                 SELECT DISTINCT d.classid, d.objid FROM pg_namespace n
                 JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
                 WHERE n.nspname = $1::text::name), ",
            misowned!()
        ),
        &[schema.into()],
        misowned,
    )
}

/// Returns the objects that the current DDL command has created in a tenant's schema and that the owner role does not
/// own. Foreign tables are not among them: their owner decides which remote table they read.
pub fn misowned_by_command(catalog: &Catalog) -> Result<Vec<Misowned>> {
    query(
        catalog.scope(),
        concat!(
            "WITH made AS MATERIALIZED (
                 SELECT DISTINCT d.classid, d.objid FROM pg_event_trigger_ddl_commands() d
                 JOIN fluxbase_tenant.tenants t ON t.schema_name = d.schema_name::name
                 WHERE d.classid IS NOT NULL AND NOT d.in_extension AND d.command_tag ~ '^(CREATE|SELECT) '),
             held AS MATERIALIZED (
                 SELECT classid, objid FROM made
                 UNION
                 -- The constructors of a range type and of its multirange type.
                 SELECT f.classid, f.objid FROM made m LEFT JOIN pg_range r ON r.rngtypid = m.objid
                 JOIN pg_depend f ON f.refclassid = 'pg_type'::regclass AND f.refobjid IN (m.objid, r.rngmultitypid)
                 WHERE m.classid = 'pg_type'::regclass AND f.classid = 'pg_proc'::regclass AND f.deptype = 'i'), ",
            misowned!(),
            " AND o.kind <> 'FOREIGN TABLE'"
        ),
        &[],
        misowned,
    )
}

fn misowned(row: &Row) -> Result<Misowned> {
    Ok(Misowned { object: row.need(1)?, owner: row.need(2)?, command: row.need(3)?, view: row.get(4) })
}
