//! What is granted on objects of tenants, and what a migration must not grant: what lets others past the policies.

use crate::catalog::Catalog;
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::model::owner_role;
use crate::pg::query;

/// What members of `fluxbase_tenant_user` may do with tables of a tenant, as far as the policies let them. TRUNCATE is
/// not among it: row-level security does not apply to it.
pub const TABLE_PRIVILEGES: &str = "SELECT, INSERT, UPDATE, DELETE";
pub const USERS: &str = "fluxbase_tenant_user";

/// Row-level security does not apply to TRUNCATE and to foreign keys of others; triggers and functions of others would run
/// with the rights of whoever works in the tenant; a grant on a sequence is every tenant's users' to use.
pub fn refuse_beyond_policies(catalog: &Catalog, tenant: &Tenant) -> Result<()> {
    let found: Vec<String> = query(
        catalog.scope(),
        "WITH n AS (SELECT oid, nspacl, quote_ident(nspname) AS name FROM pg_namespace WHERE nspname = $1::text::name),
              c AS (SELECT c.oid, c.relkind, c.relacl, format('%s.%I', n.name, c.relname) AS name
                    FROM n JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
                                           AND d.classid = 'pg_class'::regclass
                    JOIN pg_class c ON c.oid = d.objid WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S'))
         SELECT format('%s on %s to %s', g.right, g.object, CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END)
         FROM (
             SELECT a.privilege_type, 'schema ' || n.name, a.grantee FROM n, aclexplode(n.nspacl) a
             WHERE a.privilege_type <> 'USAGE'
             UNION ALL
             SELECT a.privilege_type, CASE c.relkind WHEN 'S' THEN 'sequence ' ELSE 'table ' END || c.name, a.grantee
             FROM c, aclexplode(c.relacl) a
             WHERE c.relkind IN ('S', 'm', 'f') OR a.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
             UNION ALL
             SELECT a.privilege_type, format('column %s.%I', c.name, t.attname), a.grantee
             FROM c JOIN pg_attribute t ON t.attrelid = c.oid AND t.attacl IS NOT NULL, aclexplode(t.attacl) a
             WHERE c.relkind IN ('m', 'f') OR a.privilege_type = 'REFERENCES'
         ) AS g (\"right\", object, grantee)
         WHERE g.grantee <> $2::text::regrole LIMIT 1",
        &[tenant.schema_name.as_str().into(), owner_role(tenant.id).into()],
        |row| row.need(1),
    )?;
    match found.into_iter().next() {
        None => Ok(()),
        Some(grant) => Err(Error::forbidden(
            format!("grant {grant}"),
            "Policies do not cover it. Members of the tenant have SELECT, INSERT, UPDATE and DELETE without a grant, and \
             serial columns need none on their sequences.",
        )),
    }
}
