-- Relations of tenants
SELECT 'error', 'table ' || name, 'row-level security or the policy tenant_isolation is missing or changed',
       format('SELECT %s.tenant_repair(%L::uuid)', $3, tenant)
FROM relation r WHERE relkind IN ('r', 'p') AND NOT EXISTS (
    SELECT 1 FROM fluxbase_tenant.isolation_policies p WHERE p.relation = r.oid AND p.in_force AND p.tenant_id = r.tenant)
UNION ALL
SELECT 'error', 'view ' || name, 'is not security_invoker', format('ALTER VIEW %s SET (security_invoker = true)', name)
FROM relation WHERE relkind = 'v'
  AND NOT coalesce(reloptions && '{security_invoker=true,security_invoker=on,security_invoker=1}', false)
UNION ALL
SELECT 'warning', CASE relkind WHEN 'm' THEN 'materialized view ' ELSE 'foreign table ' END || name,
       'row-level security does not apply to it: it is accessible only in sessions that have loaded the library',
       'Keep fluxbase_tenant in session_preload_libraries, or use a table.'
FROM relation, preload WHERE relkind IN ('m', 'f') AND NOT preloaded
UNION ALL
SELECT DISTINCT 'error', CASE relkind WHEN 'm' THEN 'materialized view ' ELSE 'foreign table ' END || name,
       'is granted to ' || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
       || ', which can read its statistics', format('SELECT %s.tenant_repair(%L::uuid)', $3, tenant)
FROM relation, aclexplode(relacl) a WHERE relkind IN ('m', 'f') AND a.grantee <> relowner
UNION ALL
SELECT CASE WHEN o.rolsuper THEN 'warning' ELSE 'error' END, 'extension ' || quote_ident(e.extname),
       'is in the tenant schema ' || quote_ident(t.schema_name) || ' and is owned by ' || o.rolname
       || ': tenant_delete() drops it for all tenants',
       CASE WHEN e.extrelocatable THEN format('ALTER EXTENSION %I SET SCHEMA public', e.extname)
            ELSE 'Drop it, and create it in another schema.' END
FROM tenant t JOIN pg_extension e ON e.extnamespace = t.schema JOIN pg_roles o ON o.oid = e.extowner
UNION ALL
SELECT CASE WHEN preloaded THEN 'warning' ELSE 'error' END, 'table ' || r.name, 'can be read through ' || i.inhparent::regclass
       || ' without its policies: only the executor-start check covers it',
       'Keep fluxbase_tenant in session_preload_libraries, or detach it from its parent.'
FROM preload, relation r JOIN pg_inherits i ON i.inhrelid = r.oid AND r.relkind IN ('r', 'p', 'f')
WHERE NOT EXISTS (SELECT 1 FROM relation p WHERE p.oid = i.inhparent AND p.tenant = r.tenant)
UNION ALL
SELECT CASE WHEN preloaded AND a.privilege_type = 'TRUNCATE' THEN 'warning' ELSE 'error' END, 'table ' || r.name,
       'row-level security does not apply to ' || a.privilege_type || ', which is granted to '
       || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
       format('REVOKE %s ON %s FROM %s', a.privilege_type, r.name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
FROM preload, relation r, aclexplode(r.relacl) a
WHERE r.relkind IN ('r', 'p', 'f') AND a.grantee <> r.relowner AND a.privilege_type IN ('TRUNCATE', 'TRIGGER')
UNION ALL
SELECT 'error', 'sequence ' || name, 'is granted to ' || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
       format('SELECT %s.tenant_repair(%L::uuid)', $3, tenant)
FROM relation, aclexplode(relacl) a WHERE relkind = 'S' AND a.grantee <> relowner
UNION ALL
SELECT 'error', CASE relkind WHEN 'v' THEN 'view ' ELSE 'table ' END || name, 'is owned by ' || relowner::regrole,
       format('SELECT %s.tenant_repair(%L::uuid)', $3, tenant)
FROM relation r JOIN tenant t ON t.id = r.tenant WHERE relkind <> 'S' AND relowner IS DISTINCT FROM t.owner
  AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.deptype = 'e')
UNION ALL
SELECT CASE WHEN o.rolsuper OR o.rolbypassrls THEN 'error' ELSE 'warning' END, 'function ' || p.oid::regprocedure,
       CASE WHEN o.rolsuper OR o.rolbypassrls THEN 'SECURITY DEFINER function of a role that bypasses row-level security'
            ELSE 'SECURITY DEFINER function without a search_path of its own' END,
       CASE WHEN o.rolsuper OR o.rolbypassrls THEN format('SELECT %s.tenant_repair(%L::uuid)', $3, t.id)
            ELSE format('ALTER ROUTINE %s SET search_path = %I, pg_temp', p.oid::regprocedure, t.schema_name) END
FROM tenant t JOIN pg_proc p ON p.pronamespace = t.schema JOIN pg_roles o ON o.oid = p.proowner
WHERE p.prosecdef AND (o.rolsuper OR o.rolbypassrls OR NOT EXISTS (
    SELECT 1 FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%'))
