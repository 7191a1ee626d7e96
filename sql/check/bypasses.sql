-- Objects and roles that bypass the policies
SELECT 'error', CASE v.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END || v.oid::regclass,
       'reads ' || string_agg(g.name, ', ' ORDER BY g.name) || ' with the privileges of ' || o.rolname || ', which bypasses row-level security',
       CASE v.relkind WHEN 'm' THEN 'Grant it only to roles that may read all tenants, or replace it with a security_invoker view.'
            ELSE format('ALTER VIEW %s SET (security_invoker = true)', v.oid::regclass) END
FROM guarded g JOIN pg_class v ON v.oid = g.oid AND v.relkind IN ('v', 'm')
JOIN pg_roles o ON o.oid = v.relowner AND (o.rolsuper OR o.rolbypassrls)
WHERE NOT coalesce(v.reloptions && '{security_invoker=true,security_invoker=on,security_invoker=1}', false)
  AND NOT EXISTS (SELECT 1 FROM relation r WHERE r.oid = v.oid)
GROUP BY v.oid, v.relkind, o.rolname
UNION ALL
SELECT 'error', 'role ' || rolname, 'is used by applications and ' || CASE WHEN rolsuper THEN 'is a superuser' ELSE 'has BYPASSRLS' END,
       format('ALTER ROLE %I %s', rolname, CASE WHEN rolsuper THEN 'NOSUPERUSER' ELSE 'NOBYPASSRLS' END)
FROM application WHERE rolsuper OR rolbypassrls
UNION ALL
SELECT 'warning', 'large objects of ' || o.rolname, format('%s large objects belong to the role and not to a tenant: every user of '
           'the role can read, change and delete them', count(*)), 'Store files in columns of type bytea.'
FROM pg_largeobject_metadata l JOIN application o ON o.oid = l.lomowner AND NOT o.rolsuper GROUP BY o.rolname
UNION ALL
SELECT 'warning', format('column %s.%I', r.name, a.attname), 'may contain the OID of a large object, which belongs to no tenant',
       'Store files in columns of type bytea.'
FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE r.relkind IN ('r', 'p') AND (a.atttypid = 'oid'::regtype OR a.atttypid = to_regtype('lo'))
UNION ALL
SELECT 'error', object, 'is granted to PUBLIC', format('REVOKE ALL ON %s FROM PUBLIC', target)
FROM grants WHERE grantee = 0 GROUP BY object, target
