//! Finds differences between a tenant and how it was provisioned, and repairs them.

use super::provision;
use crate::catalog::Catalog;
use crate::catalog::owned_objects::{Misowned, misowned_in};
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::model::owner_role;
use crate::pg::sql::{Command, Ident};
use crate::pg::{Row, any_row, execute, query};
use crate::protection::OwnDdl;
use crate::protection::grants::TABLE_PRIVILEGES;
use crate::protection::policies::{self, TenantTable};

/// A problem that was repaired.
pub struct Repaired {
    pub object: String,
    pub problem: String,
}

/// A problem, and the command that repairs it.
pub(super) struct Finding {
    problem: Repaired,
    command: Command,
}

/// Repairs a tenant's owner role, schema, grants and policies. Returns what was repaired.
pub fn repair(catalog: &Catalog, tenant: &Tenant) -> Result<Vec<Repaired>> {
    let _own = OwnDdl::begin();
    let mut repaired = Vec::new();
    if provision::owner_role_oid(tenant)?.is_none() {
        provision::create_owner_role(catalog, tenant)?;
        repaired.push(Repaired { object: format!("role {}", owner_role(tenant.id)), problem: "missing".into() });
    }
    for finding in role_findings(catalog, tenant)? {
        repaired.push(apply(catalog, finding)?);
    }
    if !schema_exists(catalog, tenant)?
        && let Some(renamed) = renamed_schema(catalog, tenant)?
    {
        provision::rename(catalog, &renamed, &tenant.schema_name)?;
        let schema = Ident::new(&tenant.schema_name);
        let problem = format!("was renamed to {}", Ident::new(&renamed));
        repaired.push(Repaired { object: format!("schema {schema}"), problem });
    }
    if !schema_exists(catalog, tenant)? {
        return Err(Error::conflict(
            format!("schema \"{}\" does not exist", tenant.schema_name),
            "Restore it from a backup, or delete the tenant with tenant_delete().",
        ));
    }
    for find in [schema_findings, owner_findings, grant_findings] {
        for finding in find(catalog, tenant)? {
            repaired.push(apply(catalog, finding)?);
        }
    }
    for table in unprotected(catalog, tenant)? {
        policies::protect_again(catalog, &table)?;
        repaired
            .push(Repaired { object: format!("table {}", table.table), problem: "policies missing or changed".into() });
    }
    Ok(repaired)
}

pub(super) fn apply(catalog: &Catalog, finding: Finding) -> Result<Repaired> {
    execute(catalog.scope(), &finding.command)?;
    if finding.command.as_str().starts_with("GRANT fluxbase_tenant_owner TO ") {
        provision::release_group()?;
    }
    Ok(finding.problem)
}

pub(super) fn finding(row: &Row) -> Result<Finding> {
    Ok(Finding { problem: Repaired { object: row.need(1)?, problem: row.need(2)? }, command: row.need(3)? })
}

fn schema_exists(catalog: &Catalog, tenant: &Tenant) -> Result<bool> {
    any_row(
        catalog.scope(),
        "SELECT 1 FROM pg_namespace WHERE nspname = $1::text::name",
        &[tenant.schema_name.as_str().into()],
    )
}

/// Returns the present name of a tenant's schema that was renamed: the owner role owns one other schema.
fn renamed_schema(catalog: &Catalog, tenant: &Tenant) -> Result<Option<String>> {
    let schemas: Vec<String> = query(
        catalog.scope(),
        "SELECT n.nspname::text FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
         WHERE r.rolname = $1::text::name
           AND NOT EXISTS (SELECT 1 FROM fluxbase_tenant.tenants t WHERE t.schema_name = n.nspname)",
        &[owner_role(tenant.id).into()],
        |row| row.need(1),
    )?;
    Ok(<[String; 1]>::try_from(schemas).ok().map(|[schema]| schema))
}

/// Checks the owner role: it must not be able to log in, must have no members, and must have no privileges outside the
/// tenant.
fn role_findings(catalog: &Catalog, tenant: &Tenant) -> Result<Vec<Finding>> {
    query(
        catalog.scope(),
        "SELECT format('role %I', rolname), 'has attributes that an owner role must not have',
                format('ALTER ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION INHERIT', rolname)
         FROM pg_roles WHERE rolname = $1::text::name AND (rolcanlogin OR rolsuper OR rolbypassrls OR rolcreatedb
             OR rolcreaterole OR rolreplication OR NOT rolinherit)
         UNION ALL
         SELECT format('role %I', rolname), 'is not a member of fluxbase_tenant_owner',
                format('GRANT fluxbase_tenant_owner TO %I', rolname)
         FROM pg_roles r WHERE rolname = $1::text::name AND NOT EXISTS (
             SELECT 1 FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = 'fluxbase_tenant_owner'::regrole)
         UNION ALL
         SELECT DISTINCT format('role %I', r.rolname), format('has member %I', m.member::regrole),
                format('REVOKE %I FROM %s', r.rolname, m.member::regrole)
         FROM pg_roles r JOIN pg_auth_members m ON m.roleid = r.oid WHERE r.rolname = $1::text::name
         UNION ALL
         SELECT format('role %I', r.rolname), format('is a member of %s', m.roleid::regrole),
                format('REVOKE %s FROM %I', m.roleid::regrole, r.rolname)
         FROM pg_roles r JOIN pg_auth_members m ON m.member = r.oid
         WHERE r.rolname = $1::text::name AND m.roleid <> 'fluxbase_tenant_owner'::regrole",
        &[owner_role(tenant.id).into()],
        finding,
    )
}

/// Checks the schema's owner and grants.
fn schema_findings(catalog: &Catalog, tenant: &Tenant) -> Result<Vec<Finding>> {
    let mut findings = query(
        catalog.scope(),
        "SELECT format('schema %I', nspname), format('is owned by %s', nspowner::regrole),
                format('ALTER SCHEMA %I OWNER TO %I', nspname, $2)
         FROM pg_namespace WHERE nspname = $1::text::name AND nspowner <> $2::text::regrole
         UNION ALL
         SELECT format('schema %I', nspname), 'grant to fluxbase_tenant_user missing',
                format('GRANT USAGE ON SCHEMA %I TO fluxbase_tenant_user', nspname)
         FROM pg_namespace WHERE nspname = $1::text::name
           AND NOT has_schema_privilege('fluxbase_tenant_user', oid, 'USAGE')
         UNION ALL
         SELECT format('schema %I', n.nspname), format('grant of %s to %s', lower(a.privilege_type),
                CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END),
                format('REVOKE %s ON SCHEMA %I FROM %s', a.privilege_type, n.nspname,
                CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
         FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = $1::text::name
           AND (a.grantee = 0 OR (a.grantee = 'fluxbase_tenant_user'::regrole AND a.privilege_type = 'CREATE'))",
        &[tenant.schema_name.as_str().into(), owner_role(tenant.id).into()],
        finding,
    )?;
    // Default privileges are granted again if in doubt, which is harmless, and cheaper than comparing them in detail.
    let complete = query(
        catalog.scope(),
        "SELECT 1 FROM pg_default_acl d JOIN pg_namespace n ON n.oid = d.defaclnamespace
         WHERE n.nspname = $1::text::name AND d.defaclrole = $2::text::regrole
           AND EXISTS (SELECT 1 FROM aclexplode(d.defaclacl) a WHERE a.grantee = 'fluxbase_tenant_user'::regrole) AND d.defaclobjtype = 'r'",
        &[tenant.schema_name.as_str().into(), owner_role(tenant.id).into()],
        |_| Ok(()),
    )?;
    if complete.is_empty() {
        let schema = Ident::new(&tenant.schema_name);
        findings.push(Finding {
            problem: Repaired {
                object: format!("schema {schema}"),
                problem: "default privileges for tables missing".into(),
            },
            command: provision::grant_of_tables(tenant),
        });
    }
    Ok(findings)
}

/// Checks that the owner role owns what it should own in the schema.
fn owner_findings(catalog: &Catalog, tenant: &Tenant) -> Result<Vec<Finding>> {
    let finding = |Misowned { object, owner, command, .. }| {
        let problem = Repaired { object, problem: format!("is owned by {owner}") };
        Finding { problem, command }
    };
    Ok(misowned_in(catalog, &tenant.schema_name)?.into_iter().map(finding).collect())
}

/// Checks the grants on relations. Tables and views are granted. Sequences are not (see `protection::sequences`), nor
/// are materialized views and foreign tables, which no policy covers (see `protection::grants`).
fn grant_findings(catalog: &Catalog, tenant: &Tenant) -> Result<Vec<Finding>> {
    query(
        catalog.scope(),
        "SELECT format('table %I.%I', n.nspname, c.relname), 'grant to fluxbase_tenant_user missing',
                format('GRANT %s ON TABLE %I.%I TO fluxbase_tenant_user', $2, n.nspname, c.relname)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1::text::name AND c.relkind IN ('r', 'p', 'v') AND EXISTS (
             SELECT 1 FROM unnest(string_to_array($2, ', ')) AS wanted
             WHERE NOT has_table_privilege('fluxbase_tenant_user', c.oid, wanted))
         UNION ALL
         SELECT DISTINCT format('%s %I.%I', CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END,
                                n.nspname, c.relname), format('grant to %s', g.grantee),
                format('REVOKE ALL ON %s %I.%I FROM %s', CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
                       n.nspname, c.relname, g.grantee)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
         CROSS JOIN LATERAL (SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee) g
         WHERE n.nspname = $1::text::name AND c.relkind IN ('S', 'm', 'f') AND a.grantee <> c.relowner",
        &[tenant.schema_name.as_str().into(), TABLE_PRIVILEGES.into()],
        finding,
    )
}

/// Returns the tables whose policies are missing or changed.
fn unprotected(catalog: &Catalog, tenant: &Tenant) -> Result<Vec<TenantTable>> {
    query(
        catalog.scope(),
        "SELECT format('%I.%I', n.nspname, c.relname), c.oid
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1::text::name AND c.relkind IN ('r', 'p') AND NOT EXISTS (
             SELECT 1 FROM fluxbase_tenant.isolation_policies p
             WHERE p.relation = c.oid AND p.in_force AND p.tenant_id = $2)",
        &[tenant.schema_name.as_str().into(), tenant.id.into()],
        |row| Ok(TenantTable { table: row.need(1)?, oid: row.need(2)?, tenant: tenant.id }),
    )
}
