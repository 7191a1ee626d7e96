-- The audit behind tenant_check(). $1 and $2: the settings that the current user and tenant are read from.
-- severity 'error': tenants are not kept apart. 'warning': they are, by what may change.
WITH RECURSIVE
tenant AS (
    SELECT t.id, t.slug, t.schema_name, n.oid AS schema, n.nspowner, r.oid AS owner,
           'fluxbase_tenant_' || replace(t.id::text, '-', '') AS owner_name
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
-- Tables that tenant_protect() protects, and their partitions: known by their policy, or, where that is gone, by a tenant
-- column with its default and foreign key, and what is left of the policies.
shared AS (
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name,
           c.relrowsecurity AND c.relforcerowsecurity AND coalesce(isolation.is_sound, false) AS is_sound,
           format('SELECT tenant_protect(%L, %L)', format('%I.%I', n.nspname, c.relname), coalesce(keyed.name, 'tenant_id')) AS mend
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN LATERAL (
        SELECT bool_or(f.oid IS NOT NULL) AS is_ours, bool_or(
            NOT p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}' AND p.polwithcheck IS NULL
            AND pg_get_expr(p.polqual, p.polrelid) ~ '^\(\S.* = ANY \(\( SELECT fluxbase_tenant\.reachable_tenant_ids\(\) AS reachable_tenant_ids\)::uuid\[\]\)\)$'
        ) AS is_sound
        FROM pg_policy p
        LEFT JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
        LEFT JOIN pg_proc f ON f.oid = d.refobjid AND f.proname = 'reachable_tenant_ids' AND f.pronamespace = 'fluxbase_tenant'::regnamespace
        WHERE p.polrelid = c.oid AND p.polname = 'tenant_isolation') isolation ON true
    LEFT JOIN LATERAL (
        SELECT a.attname AS name FROM pg_attribute a
        JOIN pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f' AND k.conkey = ARRAY[a.attnum]
                            AND k.confrelid = 'fluxbase_tenant.tenants'::regclass
        JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        WHERE a.attrelid = c.oid AND pg_get_expr(d.adbin, d.adrelid) ~ '\mtenant_current_id\(\)$'
          AND EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname IN ('tenant_isolation', 'tenant_access'))
        LIMIT 1) keyed ON true
    WHERE (isolation.is_ours OR keyed.name IS NOT NULL) AND NOT EXISTS (SELECT 1 FROM tenant t WHERE t.schema = c.relnamespace)
),
-- What reads tables of tenants and shared tables: views, and views of views.
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
-- Roles that sessions log in as, and that may use the extension.
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
),
finding (severity, object, problem, fix) AS (
    -- Tenants
    SELECT 'error', 'tenant ' || slug, 'schema ' || quote_ident(schema_name) || ' does not exist',
           'Restore it from a backup, or delete the tenant with tenant_delete().'
    FROM tenant WHERE schema IS NULL
    UNION ALL
    SELECT 'error', 'tenant ' || slug, 'owner role ' || owner_name || ' does not exist', format('SELECT tenant_repair(%L)', id)
    FROM tenant WHERE owner IS NULL
    UNION ALL
    SELECT 'error', 'schema ' || quote_ident(schema_name), 'is owned by ' || nspowner::regrole, format('SELECT tenant_repair(%L)', id)
    FROM tenant WHERE schema IS NOT NULL AND nspowner IS DISTINCT FROM owner
    UNION ALL
    SELECT 'error', 'role ' || r.rolname, 'owner role of a tenant has attributes beyond an owner''s', format('SELECT tenant_repair(%L)', t.id)
    FROM tenant t JOIN pg_roles r ON r.oid = t.owner
    WHERE r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication
    UNION ALL
    SELECT 'error', 'role ' || t.owner_name, 'owner role of a tenant has the member ' || m.member::regrole, format('SELECT tenant_repair(%L)', t.id)
    FROM tenant t JOIN pg_auth_members m ON m.roleid = t.owner
    -- Relations of tenants
    UNION ALL
    SELECT 'error', 'table ' || name, 'row-level security or the policy tenant_isolation is missing or changed',
           format('SELECT tenant_repair(%L)', tenant)
    FROM relation r WHERE relkind IN ('r', 'p') AND NOT (relrowsecurity AND relforcerowsecurity AND EXISTS (
        SELECT 1 FROM pg_policy p WHERE p.polrelid = r.oid AND p.polname = 'tenant_isolation' AND NOT p.polpermissive
          AND p.polcmd = '*' AND p.polroles = '{0}' AND p.polwithcheck IS NULL
          AND pg_get_expr(p.polqual, p.polrelid) = format('fluxbase_tenant.reachable(%L::uuid)', r.tenant)))
    UNION ALL
    SELECT 'error', 'view ' || name, 'is not security_invoker', format('ALTER VIEW %s SET (security_invoker = true)', name)
    FROM relation WHERE relkind = 'v'
      AND NOT coalesce(reloptions && '{security_invoker=true,security_invoker=on,security_invoker=1}', false)
    UNION ALL
    SELECT CASE WHEN preloaded THEN 'warning' ELSE 'error' END,
           CASE relkind WHEN 'm' THEN 'materialized view ' ELSE 'foreign table ' END || name,
           'row-level security does not cover it; only the check at the start of queries does',
           'Keep fluxbase_tenant in session_preload_libraries, or use a table.'
    FROM relation, preload WHERE relkind IN ('m', 'f')
    UNION ALL
    SELECT CASE WHEN preloaded THEN 'warning' ELSE 'error' END, 'table ' || r.name, 'is read through ' || i.inhparent::regclass
           || ' without its policies; only the check at the start of queries covers it',
           'Keep fluxbase_tenant in session_preload_libraries, or detach it from its parent.'
    FROM preload, relation r JOIN pg_inherits i ON i.inhrelid = r.oid AND r.relkind IN ('r', 'p', 'f')
    WHERE NOT EXISTS (SELECT 1 FROM relation p WHERE p.oid = i.inhparent AND p.tenant = r.tenant)
    UNION ALL
    SELECT CASE WHEN preloaded AND a.privilege_type = 'TRUNCATE' THEN 'warning' ELSE 'error' END, 'table ' || r.name,
           'row-level security does not apply to ' || a.privilege_type || ', which '
           || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END || ' may do',
           format('REVOKE %s ON %s FROM %s', a.privilege_type, r.name, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)
    FROM preload, relation r, aclexplode(r.relacl) a
    WHERE r.relkind IN ('r', 'p', 'f') AND a.grantee <> r.relowner AND a.privilege_type IN ('TRUNCATE', 'TRIGGER')
    UNION ALL
    SELECT 'error', 'sequence ' || name, 'is granted to ' || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,
           format('SELECT tenant_repair(%L)', tenant)
    FROM relation, aclexplode(relacl) a WHERE relkind = 'S' AND a.grantee <> relowner
    UNION ALL
    SELECT 'error', CASE relkind WHEN 'v' THEN 'view ' ELSE 'table ' END || name, 'is owned by ' || relowner::regrole,
           format('SELECT tenant_repair(%L)', tenant)
    FROM relation r JOIN tenant t ON t.id = r.tenant WHERE relkind <> 'S' AND relowner IS DISTINCT FROM t.owner
    UNION ALL
    SELECT CASE WHEN o.rolsuper OR o.rolbypassrls THEN 'error' ELSE 'warning' END, 'function ' || p.oid::regprocedure,
           CASE WHEN o.rolsuper OR o.rolbypassrls THEN 'SECURITY DEFINER function of a role that bypasses row-level security'
                ELSE 'SECURITY DEFINER function without a search_path of its own' END,
           CASE WHEN o.rolsuper OR o.rolbypassrls THEN format('SELECT tenant_repair(%L)', t.id)
                ELSE format('ALTER ROUTINE %s SET search_path = %I, pg_temp', p.oid::regprocedure, t.schema_name) END
    FROM tenant t JOIN pg_proc p ON p.pronamespace = t.schema JOIN pg_roles o ON o.oid = p.proowner
    WHERE p.prosecdef AND (o.rolsuper OR o.rolbypassrls OR NOT EXISTS (
        SELECT 1 FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%'))
    -- Shared tables
    UNION ALL
    SELECT 'error', 'table ' || name, 'row-level security or the policy tenant_isolation is missing or changed', mend
    FROM shared WHERE NOT is_sound
    UNION ALL
    SELECT 'error', 'table ' || p.relid::regclass, 'partition of a shared table without the policy tenant_isolation', s.mend
    FROM shared s, pg_partition_tree(s.oid) p WHERE NOT EXISTS (
        SELECT 1 FROM pg_policy o WHERE o.polrelid = p.relid AND o.polname = 'tenant_isolation')
    UNION ALL
    SELECT 'warning', 'index ' || i.indexrelid::regclass, 'unique across tenants: a violation tells that another tenant has the value',
           'Put the tenant column into the key.'
    FROM shared s JOIN pg_index i ON i.indrelid = s.oid
    WHERE i.indisunique AND NOT i.indisprimary AND NOT EXISTS (
        SELECT 1 FROM pg_constraint c WHERE c.conrelid = s.oid AND c.contype = 'f'
          AND c.confrelid = 'fluxbase_tenant.tenants'::regclass AND c.conkey[1] = ANY (i.indkey::int2[]))
    -- Ways around the policies
    UNION ALL
    SELECT 'error', CASE v.relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END || v.oid::regclass,
           'reads ' || string_agg(g.name, ', ' ORDER BY g.name) || ' with the rights of ' || o.rolname || ', who bypasses row-level security',
           CASE v.relkind WHEN 'm' THEN 'Grant it to nobody who may not read all tenants, or make it a view.'
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
    SELECT 'error', object, 'is granted to PUBLIC', format('REVOKE ALL ON %s FROM PUBLIC', target)
    FROM grants WHERE grantee = 0 GROUP BY object, target
    -- Identity
    UNION ALL
    SELECT 'warning', 'setting ' || i.setting, 'gives the ' || i.purpose || ' and may be set by anyone who can run SQL, who are: '
           || coalesce((SELECT string_agg(quote_ident(rolname), ', ' ORDER BY rolname) FROM application), 'no role yet'),
           'Let untrusted roles run no SQL of their own, or use fluxbase_tenant.user_id and fluxbase_tenant.tenant_id.'
    FROM identity i LEFT JOIN pg_settings s ON s.name = i.setting
    WHERE i.setting <> '' AND i.setting NOT IN ('fluxbase_tenant.user_id', 'fluxbase_tenant.tenant_id')
      AND coalesce(s.context, 'user') = 'user'
    UNION ALL
    SELECT 'error', 'setting ' || p.parname, 'may be set by PUBLIC', format('REVOKE SET ON PARAMETER %s FROM PUBLIC', p.parname)
    FROM pg_parameter_acl p, aclexplode(p.paracl) a WHERE p.parname LIKE 'fluxbase\_tenant.%' AND a.grantee = 0
    -- The installation
    UNION ALL
    SELECT 'error', 'event trigger ' || wanted, CASE WHEN e.oid IS NULL THEN 'is missing' ELSE 'is disabled' END,
           CASE WHEN e.oid IS NULL THEN 'Create the extension anew in a copy of the database, and compare.'
                ELSE format('ALTER EVENT TRIGGER %I ENABLE', wanted) END
    FROM unnest('{fluxbase_tenant_after_command,fluxbase_tenant_after_drop}'::text[]) AS wanted
    LEFT JOIN pg_event_trigger e ON e.evtname = wanted::name WHERE e.oid IS NULL OR e.evtenabled IN ('D', 'R')
    UNION ALL
    SELECT 'error', 'trigger catalog_changed on ' || c.oid::regclass, 'is missing or disabled: sessions do not learn of changes',
           format('CREATE OR REPLACE TRIGGER catalog_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s '
                  'FOR EACH STATEMENT EXECUTE FUNCTION fluxbase_tenant.catalog_changed()', c.oid::regclass)
    FROM pg_class c WHERE c.relnamespace = 'fluxbase_tenant'::regnamespace AND c.relname IN ('tenants', 'members', 'instance_admins')
      AND NOT EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'catalog_changed' AND t.tgenabled IN ('O', 'A'))
    UNION ALL
    SELECT 'error', 'table ' || c.oid::regclass, 'row-level security of the catalog is switched off',
           format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', c.oid::regclass)
    FROM pg_class c WHERE c.relnamespace = 'fluxbase_tenant'::regnamespace AND c.relkind = 'r' AND NOT c.relrowsecurity
    UNION ALL
    SELECT 'warning', 'library fluxbase_tenant', 'is not preloaded: LOCK TABLE, and functions of other tenants, are refused only '
           'in sessions that have used the extension',
           'ALTER DATABASE ' || quote_ident(current_database()) || ' SET session_preload_libraries = ''fluxbase_tenant'''
    FROM preload WHERE NOT preloaded
    -- What nobody needs any more
    UNION ALL
    SELECT 'warning', 'schema ' || quote_ident(n.nspname), 'belongs to an owner role and to no tenant', format('DROP SCHEMA %I CASCADE', n.nspname)
    FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner
    WHERE r.rolname ~ '^fluxbase_tenant_[0-9a-f]{32}$' AND NOT EXISTS (SELECT 1 FROM tenant t WHERE t.schema_name = n.nspname)
    UNION ALL
    SELECT 'warning', 'role ' || r.rolname, 'is the owner role of no tenant', format('DROP ROLE %I', r.rolname)
    FROM pg_roles r WHERE r.rolname ~ '^fluxbase_tenant_[0-9a-f]{32}$' AND NOT EXISTS (SELECT 1 FROM tenant t WHERE t.owner = r.oid)
      -- A tenant of another database.
      AND NOT EXISTS (SELECT 1 FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid)
)
SELECT severity, object, problem, fix FROM finding ORDER BY severity, object, problem
