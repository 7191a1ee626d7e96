//! Repairs what isolates the catalog's own rows: row-level security, policies and grants.

use super::repair::{Finding, Repaired, apply, finding};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::pg::sql::{Command, Ident, QualifiedName, command};
use crate::pg::{execute, query};
use crate::protection::OwnDdl;

/// Repairs the catalog, and returns what was repaired.
pub fn repair_catalog(catalog: &Catalog) -> Result<Vec<Repaired>> {
    let _own = OwnDdl::begin();
    let mut repaired = Vec::new();
    for finding in findings(catalog)? {
        repaired.push(apply(catalog, finding)?);
    }
    for policy in changed_policies(catalog)? {
        let Policy { name, table, create, problem } = policy;
        execute(catalog.scope(), &command!("DROP POLICY IF EXISTS {} ON {}", &name, &table))?;
        execute(catalog.scope(), &create)?;
        repaired.push(Repaired { object: format!("policy {name} on {table}"), problem });
    }
    Ok(repaired)
}

fn findings(catalog: &Catalog) -> Result<Vec<Finding>> {
    query(
        catalog.scope(),
        "SELECT 'table ' || c.oid::regclass, 'row-level security was off', format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', c.oid::regclass)
         FROM pg_class c WHERE c.relnamespace = 'fluxbase_tenant'::regnamespace AND c.relkind = 'r' AND NOT c.relrowsecurity
         UNION ALL
         SELECT 'table ' || w.relation, 'grant to fluxbase_tenant_user missing',
                format('GRANT SELECT ON %s TO fluxbase_tenant_user', w.relation)
         FROM fluxbase_tenant.catalog_policies w WHERE NOT has_table_privilege('fluxbase_tenant_user', w.relation, 'SELECT')
         UNION ALL
         SELECT format('schema fluxbase_tenant'), 'grant to ' || r.role || ' missing', 'GRANT USAGE ON SCHEMA fluxbase_tenant TO ' || r.role
         FROM unnest('{fluxbase_tenant_user,fluxbase_tenant_owner}'::text[]) AS r (role)
         WHERE NOT has_schema_privilege(r.role, 'fluxbase_tenant', 'USAGE')",
        &[],
        finding,
    )
}

struct Policy {
    name: Ident,
    table: QualifiedName,
    create: Command,
    problem: String,
}

fn changed_policies(catalog: &Catalog) -> Result<Vec<Policy>> {
    query(
        catalog.scope(),
        "SELECT w.name, w.relation::text, format('CREATE POLICY %I ON %s FOR SELECT USING (%s)', w.name, w.relation, w.condition),
                CASE WHEN p.oid IS NULL THEN 'missing' ELSE 'changed' END
         FROM fluxbase_tenant.catalog_policies w LEFT JOIN pg_policy p ON p.polrelid = w.relation AND p.polname = w.name
         WHERE p.oid IS NULL OR NOT (p.polpermissive AND p.polcmd = 'r' AND p.polroles = '{0}' AND p.polwithcheck IS NULL
                                     AND pg_get_expr(p.polqual, p.polrelid) = w.condition)",
        &[],
        |row| {
            Ok(Policy {
                name: row.need(1)?,
                table: row.need(2)?,
                create: row.need(3)?,
                problem: row.need(4)?,
            })
        },
    )
}
