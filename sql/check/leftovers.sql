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
UNION ALL
-- Relations of owner roles elsewhere: a migration may have created them before that was refused, or a superuser may
-- have moved them.
SELECT 'warning', CASE c.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' WHEN 'S' THEN 'sequence ' ELSE 'table ' END
       || format('%I.%I', n.nspname, c.relname),
       'is owned by the owner role of tenant ' || t.slug || ', but is not in its schema: tenant_delete() drops it',
       format('ALTER TABLE %I.%I OWNER TO CURRENT_USER', n.nspname, c.relname)
FROM tenant t JOIN pg_class c ON c.relowner = t.owner JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.schema IS NOT NULL AND c.relnamespace <> t.schema AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT LIKE 'pg\_%'
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                    AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))
