-- Objects that are no longer needed
SELECT 'warning', 'schema ' || quote_ident(n.nspname), 'is owned by an owner role but belongs to no tenant',
       CASE WHEN EXISTS (SELECT 1 FROM pg_depend d WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid)
            THEN 'Find out what its contents are, and save what is needed. Then drop it.' ELSE format('DROP SCHEMA %I', n.nspname) END
FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
WHERE r.rolname ~ '^fluxbase_tenant_[0-9a-f]{32}$' AND NOT EXISTS (SELECT 1 FROM tenant t WHERE n.nspname IN (t.schema_name, t.renamed))
UNION ALL
SELECT 'warning', 'role ' || r.rolname, 'is the owner role of no tenant', format('DROP ROLE %I', r.rolname)
FROM pg_roles r WHERE r.rolname ~ '^fluxbase_tenant_[0-9a-f]{32}$' AND NOT EXISTS (SELECT 1 FROM tenant t WHERE t.owner = r.oid)
  -- Skip the owner role of a tenant of another database, and one whose removal is pending.
  AND NOT EXISTS (SELECT 1 FROM fluxbase_tenant.removals l
                  WHERE l.relation IS NULL AND r.rolname = 'fluxbase_tenant_' || replace(l.tenant_id::text, '-', ''))
  AND NOT EXISTS (SELECT 1 FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid)
