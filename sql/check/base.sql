-- The audit of tenant_check(). $1 and $2 are the settings from which the current user and tenant are read. $3 is
-- the schema of the extension's functions, quoted. The printed fixes qualify functions with it, because the search_path
-- of the role that executes a fix may find other functions with these names first.
--
-- Severity 'error' means that tenants are not isolated or that the catalog has lost data, 'warning' that this could
-- happen.
--
-- The query locks no user tables. It avoids functions such as pg_get_expr() and pg_partition_tree() on them, which lock
-- the relation and would wait for a transaction that is altering it.
WITH RECURSIVE
tenant AS (
    SELECT t.id, t.slug, t.schema_name, n.oid AS schema, n.nspowner, r.oid AS owner,
           'fluxbase_tenant_' || replace(t.id::text, '-', '') AS owner_name,
           -- The schema's present name, if it was renamed.
           CASE WHEN n.oid IS NULL THEN (
               SELECT min(m.nspname) FROM pg_namespace m WHERE m.nspowner = r.oid
                 AND NOT EXISTS (SELECT 1 FROM fluxbase_tenant.tenants o WHERE o.schema_name = m.nspname)
               HAVING count(*) = 1) END AS renamed
    FROM fluxbase_tenant.tenants t
    LEFT JOIN pg_namespace n ON n.nspname = t.schema_name
    LEFT JOIN pg_roles r ON r.rolname = ('fluxbase_tenant_' || replace(t.id::text, '-', ''))::name
),
relation AS (
    SELECT c.oid, c.relkind, c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity, c.reloptions, t.id AS tenant,
           format('%I.%I', t.schema_name, c.relname) AS name
    FROM tenant t JOIN pg_class c ON c.relnamespace = t.schema
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
),
-- Shared tables: those that are listed, and those that have the isolation policy of shared tables.
shared AS (
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, coalesce(p.in_force AND a.attnum IS NOT NULL, false) AS is_sound,
           s.relation IS NOT NULL OR EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = c.oid) AS is_listed, coalesce(a.attnum, b.attnum) AS tenant_column,
           format('SELECT %s.tenant_protect(%L::regclass, %L::name)', $3, format('%I.%I', n.nspname, c.relname),
                  coalesce(a.attname, s.tenant_column, 'tenant_id')) AS protect
    FROM (SELECT relation::oid AS oid FROM fluxbase_tenant.shared_tables
          UNION
          SELECT p.polrelid FROM pg_depend d JOIN pg_policy p ON p.oid = d.objid
          WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_proc'::regclass
            AND d.refobjid = 'fluxbase_tenant.accessible_tenant_ids()'::regprocedure) found
    JOIN pg_class c ON c.oid = found.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN fluxbase_tenant.shared_tables s ON s.relation::oid = c.oid
    LEFT JOIN fluxbase_tenant.isolation_policies p ON p.relation = c.oid
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.tenant_column
    LEFT JOIN pg_attribute b ON b.attrelid = c.oid AND b.attname = s.tenant_column
    WHERE NOT EXISTS (SELECT 1 FROM tenant t WHERE t.schema = c.relnamespace)
),
-- The partitions of shared tables, on all levels. Only listed tables count, because any role can create the policy on
-- its own tables.
part (root, oid) AS (
    SELECT relation::oid, relation::oid FROM fluxbase_tenant.shared_tables
    UNION
    SELECT part.root, i.inhrelid FROM part JOIN pg_inherits i ON i.inhparent = part.oid
),
-- Tables of tenants and shared tables, and the views that read them directly or through other views.
guarded (oid, name) AS (
    SELECT oid, name FROM relation WHERE relkind IN ('r', 'p', 'm', 'f') UNION SELECT oid, name FROM shared
    UNION
    SELECT w.ev_class, g.name FROM guarded g
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = g.oid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite w ON w.oid = d.objid AND w.rulename = '_RETURN'
),
preload AS (
    SELECT concat_ws(',', current_setting('shared_preload_libraries'), current_setting('session_preload_libraries'))
           ~ '\mfluxbase_tenant\M' AS preloaded
),
-- Application roles: login roles that have been granted a role of the extension.
application AS (
    SELECT r.oid, r.rolname, r.rolsuper, r.rolbypassrls FROM pg_roles r
    WHERE r.rolcanlogin AND EXISTS (
        WITH RECURSIVE granted (role) AS (
            SELECT m.roleid FROM pg_auth_members m WHERE m.member = r.oid
            UNION SELECT m.roleid FROM pg_auth_members m JOIN granted g ON m.member = g.role)
        SELECT 1 FROM granted g JOIN pg_roles o ON o.oid = g.role
        WHERE o.rolname IN ('fluxbase_tenant_user', 'fluxbase_tenant_server', 'fluxbase_tenant_admin'))
),
identity (purpose, setting) AS (
    SELECT 'current user', split_part($1::text, ':', 1) UNION ALL SELECT 'current tenant', split_part($2::text, ':', 1)
    UNION SELECT CASE name WHEN 'fluxbase_tenant.user_id_setting' THEN 'current user' ELSE 'current tenant' END,
                 split_part(value, ':', 1)
    FROM pg_db_role_setting s, unnest(s.setconfig) AS config,
         LATERAL (SELECT split_part(config, '=', 1) AS name, substr(config, strpos(config, '=') + 1) AS value) AS pair
    WHERE s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
      AND name IN ('fluxbase_tenant.user_id_setting', 'fluxbase_tenant.tenant_id_setting')
),
grants AS (
    SELECT 'schema ' || quote_ident(t.schema_name) AS object, 'SCHEMA ' || quote_ident(t.schema_name) AS target, a.grantee
    FROM tenant t JOIN pg_namespace n ON n.oid = t.schema, aclexplode(n.nspacl) a
    UNION ALL
    SELECT 'table ' || r.name, 'TABLE ' || r.name, a.grantee FROM relation r, aclexplode(r.relacl) a WHERE r.relkind <> 'S'
    UNION ALL
    SELECT 'table ' || c.oid::regclass, 'TABLE ' || c.oid::regclass, a.grantee
    FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'fluxbase_tenant'::regnamespace
    UNION ALL
    SELECT 'schema fluxbase_tenant', 'SCHEMA fluxbase_tenant', a.grantee
    FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'fluxbase_tenant'
    UNION ALL
    SELECT 'function ' || p.oid::regprocedure, 'FUNCTION ' || p.oid::regprocedure, a.grantee
    FROM pg_proc p JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'fluxbase_tenant',
    aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
)
