//! The privileges on tenants' objects, and those that a migration must not grant, because they would bypass the
//! policies.

use crate::catalog::Catalog;
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::model::owner_role;
use crate::pg::query;

/// The privileges of `fluxbase_tenant_user` on tenants' tables, where policies restrict them. TRUNCATE is not included,
/// because row-level security does not apply to it.
pub const TABLE_PRIVILEGES: &str = "SELECT, INSERT, UPDATE, DELETE";
/// The role that members of tenants work as.
pub const USERS: &str = "fluxbase_tenant_user";

/// Refuses grants that policies do not restrict. Row-level security does not apply to TRUNCATE or to foreign keys of
/// other tables. Another role's trigger or function would run with the privileges of the role that works in the tenant.
/// A grant on a sequence is usable by the users of every tenant.
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
            "Policies do not restrict this privilege. Members of the tenant have SELECT, INSERT, UPDATE and DELETE \
             without a grant, and serial columns need no grant on their sequences.",
        )),
    }
}
