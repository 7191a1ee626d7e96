-- Shared tables
SELECT 'error', 'table ' || name, 'row-level security or the policy tenant_isolation is missing or changed', protect
FROM shared WHERE NOT is_sound
UNION ALL
SELECT 'error', 'table fluxbase_tenant.shared_tables', format('lists %s tables that did not exist when a dump was restored: '
           'tenant_delete() does not delete their rows', count(*)),
       'Restore them and protect them again, then: DELETE FROM fluxbase_tenant.shared_tables WHERE relation::oid = 0'
FROM fluxbase_tenant.shared_tables WHERE relation::oid = 0 HAVING count(*) > 0
UNION ALL
SELECT 'error', 'table ' || name, 'has the policies of a shared table but is not listed as one: tenant_delete() does not delete its rows', protect
FROM shared WHERE is_sound AND NOT is_listed
UNION ALL
SELECT 'error', 'table ' || s.name, g.grantee || ' can create triggers, which run with the privileges of the role that writes a row',
       format('REVOKE TRIGGER ON %s FROM %s', s.name, g.grantee)
FROM shared s JOIN pg_class c ON c.oid = s.oid,
     LATERAL (SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
              FROM aclexplode(c.relacl) a WHERE a.privilege_type = 'TRIGGER' AND a.grantee <> c.relowner) g
UNION ALL
SELECT 'error', 'table ' || part.oid::regclass, 'is a partition or child of a shared table but lacks the policy tenant_isolation', s.protect
FROM shared s JOIN part ON part.root = s.oid AND part.oid <> s.oid JOIN pg_class c ON c.oid = part.oid AND c.relkind IN ('r', 'p')
WHERE NOT EXISTS (SELECT 1 FROM pg_policy o WHERE o.polrelid = part.oid AND o.polname = 'tenant_isolation')
UNION ALL
SELECT 'error', 'table ' || s.name, 'can be read through its parent ' || p.oid::regclass || ', which has no isolation policy',
       format('SELECT %s.tenant_protect(%L::regclass)', $3, p.oid::regclass)
FROM shared s JOIN pg_inherits i ON i.inhrelid = s.oid JOIN pg_class p ON p.oid = i.inhparent
WHERE s.is_listed AND NOT EXISTS (SELECT 1 FROM fluxbase_tenant.isolation_policies o WHERE o.relation = p.oid AND o.in_force)
UNION ALL
SELECT 'error', 'foreign table ' || c.oid::regclass, format('is a partition or child of a shared table, but has no policies and is granted to %s', g.grantee),
       format('REVOKE ALL ON %s FROM %s', c.oid::regclass, g.grantee)
FROM part JOIN pg_class c ON c.oid = part.oid AND c.relkind = 'f',
     LATERAL (SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
              FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner) g
UNION ALL
SELECT 'warning', 'index ' || i.indexrelid::regclass, 'is unique across tenants: a violation reveals that another tenant has the value',
       'Add the tenant column to the key.'
FROM shared s JOIN pg_index i ON i.indrelid = s.oid
WHERE i.indisunique AND NOT i.indisprimary AND s.tenant_column <> ALL (i.indkey::int2[])
UNION ALL
SELECT 'error', format('constraint %s on %s', constraint_name, referring), format(
       'refers to the shared table %s without the tenant column: a row of one tenant can refer to a row of another, and block its deletion or be deleted with it', referred),
       fix
FROM fluxbase_tenant.loose_keys
UNION ALL
SELECT 'error', format('constraint %I on %s', k.conname, k.conrelid::regclass),
       'refers to the catalog: a lock on the table blocks all tenants', format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid AND c.relnamespace = 'fluxbase_tenant'::regnamespace WHERE k.contype = 'f'
