-- The audit behind tenant_check(). $1 and $2: the settings that the current user and tenant are read from; $3: the schema of the
-- extension's functions, quoted, for whoever runs a fix may have others of these names first on the path.
-- severity 'error': tenants are not kept apart, or the catalog has lost something. 'warning': neither, by what may change.
-- It locks no table of others: pg_get_expr(), pg_partition_tree() and their like would wait for whoever is changing one.
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
-- Tables that tenant_protect() protects: those that are listed, and those with its policy.
shared AS (
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, coalesce(p.in_force AND a.attnum IS NOT NULL, false) AS is_sound,
           s.relation IS NOT NULL OR c.relispartition AS is_listed, coalesce(a.attnum, b.attnum) AS tenant_column,
           format('SELECT %s.tenant_protect(%L::regclass, %L::name)', $3, format('%I.%I', n.nspname, c.relname),
                  coalesce(a.attname, s.tenant_column, 'tenant_id')) AS protect
    FROM (SELECT relation::oid AS oid FROM fluxbase_tenant.shared_tables
          UNION
          SELECT p.polrelid FROM pg_depend d JOIN pg_policy p ON p.oid = d.objid
          WHERE d.classid = 'pg_policy'::regclass AND d.refclassid = 'pg_proc'::regclass
            AND d.refobjid = 'fluxbase_tenant.reachable_tenant_ids()'::regprocedure) found
    JOIN pg_class c ON c.oid = found.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN fluxbase_tenant.shared_tables s ON s.relation::oid = c.oid
    LEFT JOIN fluxbase_tenant.isolation_policies p ON p.relation = c.oid
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.tenant_column
    LEFT JOIN pg_attribute b ON b.attrelid = c.oid AND b.attname = s.tenant_column
    WHERE NOT EXISTS (SELECT 1 FROM tenant t WHERE t.schema = c.relnamespace)
),
-- The partitions of shared tables, of every level.
part (root, oid) AS (
    SELECT oid, oid FROM shared
    UNION
    SELECT part.root, i.inhrelid FROM part JOIN pg_inherits i ON i.inhparent = part.oid
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
    SELECT 'error', 'tenant ' || slug, 'owner role ' || owner_name || ' does not exist', format('SELECT %s.tenant_repair(%L::uuid)', $3, id)
    FROM tenant WHERE owner IS NULL
    UNION ALL
    SELECT 'error', 'schema ' || quote_ident(schema_name), 'is owned by ' || nspowner::regrole, format('SELECT %s.tenant_repair(%L::uuid)', $3, id)
    FROM tenant WHERE schema IS NOT NULL AND nspowner IS DISTINCT FROM owner
    UNION ALL
    SELECT 'error', 'role ' || r.rolname, 'owner role of a tenant has attributes beyond an owner''s', format('SELECT %s.tenant_repair(%L::uuid)', $3, t.id)
    FROM tenant t JOIN pg_roles r ON r.oid = t.owner
    WHERE r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication
    UNION ALL
    SELECT 'error', 'role ' || t.owner_name, 'owner role of a tenant has the member ' || m.member::regrole, format('SELECT %s.tenant_repair(%L::uuid)', $3, t.id)
    FROM tenant t JOIN pg_auth_members m ON m.roleid = t.owner
    -- Relations of tenants
    UNION ALL
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
           'row-level security does not cover it: members reach it only in sessions that have loaded the library',
           'Keep fluxbase_tenant in session_preload_libraries, or use a table.'
    FROM relation, preload WHERE relkind IN ('m', 'f') AND NOT preloaded
    UNION ALL
    SELECT DISTINCT 'error', CASE relkind WHEN 'm' THEN 'materialized view ' ELSE 'foreign table ' END || name,
           'is granted to ' || CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END
           || ', who may read its statistics', format('SELECT %s.tenant_repair(%L::uuid)', $3, tenant)
    FROM relation, aclexplode(relacl) a WHERE relkind IN ('m', 'f') AND a.grantee <> relowner
    UNION ALL
    SELECT CASE WHEN o.rolsuper THEN 'warning' ELSE 'error' END, 'extension ' || quote_ident(e.extname),
           'is in a tenant''s schema, ' || quote_ident(t.schema_name) || ', and belongs to ' || o.rolname
           || ': tenant_delete() takes it from all tenants',
           CASE WHEN e.extrelocatable THEN format('ALTER EXTENSION %I SET SCHEMA public', e.extname)
                ELSE 'Drop it, and create it in another schema.' END
    FROM tenant t JOIN pg_extension e ON e.extnamespace = t.schema JOIN pg_roles o ON o.oid = e.extowner
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
    -- Shared tables
    UNION ALL
    SELECT 'error', 'table ' || name, 'row-level security or the policy tenant_isolation is missing or changed', protect
    FROM shared WHERE NOT is_sound
    UNION ALL
    SELECT 'error', 'table fluxbase_tenant.shared_tables', format('lists %s tables that were not there when a dump was restored: '
               'tenant_delete() leaves their rows', count(*)),
           'Restore them and protect them again, then: DELETE FROM fluxbase_tenant.shared_tables WHERE relation::oid = 0'
    FROM fluxbase_tenant.shared_tables WHERE relation::oid = 0 HAVING count(*) > 0
    UNION ALL
    SELECT 'error', 'table ' || name, 'has the policies of a shared table and is not listed as one: tenant_delete() leaves its rows', protect
    FROM shared WHERE is_sound AND NOT is_listed
    UNION ALL
    SELECT 'error', 'table ' || s.name, 'a trigger that ' || g.grantee || ' may make runs with the rights of whoever writes a row',
           format('REVOKE TRIGGER ON %s FROM %s', s.name, g.grantee)
    FROM shared s JOIN pg_class c ON c.oid = s.oid,
         LATERAL (SELECT DISTINCT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee
                  FROM aclexplode(c.relacl) a WHERE a.privilege_type = 'TRIGGER' AND a.grantee <> c.relowner) g
    UNION ALL
    SELECT 'error', 'table ' || part.oid::regclass, 'partition of a shared table without the policy tenant_isolation', s.protect
    FROM shared s JOIN part ON part.root = s.oid AND part.oid <> s.oid JOIN pg_class c ON c.oid = part.oid AND c.relkind IN ('r', 'p')
    WHERE NOT EXISTS (SELECT 1 FROM pg_policy o WHERE o.polrelid = part.oid AND o.polname = 'tenant_isolation')
    UNION ALL
    SELECT 'warning', 'index ' || i.indexrelid::regclass, 'unique across tenants: a violation tells that another tenant has the value',
           'Put the tenant column into the key.'
    FROM shared s JOIN pg_index i ON i.indrelid = s.oid
    WHERE i.indisunique AND NOT i.indisprimary AND s.tenant_column <> ALL (i.indkey::int2[])
    UNION ALL
    SELECT 'error', format('constraint %s on %s', constraint_name, referring), format(
           'refers to the shared table %s without the tenant: rows of one tenant may refer to another''s, and hold or delete them', referred),
           fix
    FROM fluxbase_tenant.loose_keys
    UNION ALL
    SELECT 'error', format('constraint %I on %s', k.conname, k.conrelid::regclass),
           'refers to the catalog: whoever locks the table stops every tenant', format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname)
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.confrelid AND c.relnamespace = 'fluxbase_tenant'::regnamespace WHERE k.contype = 'f'
    -- The catalog
    UNION ALL
    SELECT 'error', format('policy %s on %s', w.name, w.relation), CASE WHEN p.oid IS NULL THEN 'is missing' ELSE 'is changed' END,
           format('DROP POLICY IF EXISTS %I ON %s; CREATE POLICY %1$I ON %2$s FOR SELECT USING (%3$s)', w.name, w.relation, w.condition)
    FROM fluxbase_tenant.catalog_policies w LEFT JOIN pg_policy p ON p.polrelid = w.relation AND p.polname = w.name
    WHERE p.oid IS NULL OR NOT (p.polpermissive AND p.polcmd = 'r' AND p.polroles = '{0}' AND p.polwithcheck IS NULL
                                AND pg_get_expr(p.polqual, p.polrelid) = w.condition)
    UNION ALL
    SELECT 'error', format('policy %I on %s', p.polname, p.polrelid::regclass), 'is not one of the catalog''s',
           format('DROP POLICY %I ON %s', p.polname, p.polrelid::regclass)
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid AND c.relnamespace = 'fluxbase_tenant'::regnamespace
    WHERE NOT EXISTS (SELECT 1 FROM fluxbase_tenant.catalog_policies w WHERE w.relation = c.oid AND w.name = p.polname)
    UNION ALL
    SELECT 'error', 'table ' || w.relation, 'is not granted to fluxbase_tenant_user', format('GRANT SELECT ON %s TO fluxbase_tenant_user', w.relation)
    FROM fluxbase_tenant.catalog_policies w WHERE NOT has_table_privilege('fluxbase_tenant_user', w.relation, 'SELECT')
    UNION ALL
    SELECT 'error', 'table fluxbase_tenant.' || of_tenants.relation, format('has %s rows of tenants that do not exist', count(*)),
           format('DELETE FROM fluxbase_tenant.%s o WHERE NOT EXISTS (SELECT FROM fluxbase_tenant.tenants t WHERE t.id = o.tenant_id)',
                  of_tenants.relation)
    FROM (SELECT 'members' AS relation, tenant_id FROM fluxbase_tenant.members
          UNION ALL SELECT 'applied_migrations', tenant_id FROM fluxbase_tenant.applied_migrations
          UNION ALL SELECT 'unfinished_migrations', tenant_id FROM fluxbase_tenant.unfinished_migrations
          UNION ALL SELECT 'fleet_results', tenant_id FROM fluxbase_tenant.fleet_results) of_tenants
    WHERE NOT EXISTS (SELECT 1 FROM fluxbase_tenant.tenants t WHERE t.id = of_tenants.tenant_id)
    GROUP BY of_tenants.relation
    UNION ALL
    SELECT 'error', format('migration version "%s"', a.version), format('is in the ledgers of %s tenants and not registered', count(*)),
           'Register it again with tenant_migration_add(), with the text that was applied.'
    FROM fluxbase_tenant.applied_migrations a
    WHERE NOT EXISTS (SELECT 1 FROM fluxbase_tenant.migrations m WHERE m.version = a.version) GROUP BY a.version
    UNION ALL
    SELECT 'error', 'tenant ' || t.slug, format('has %s migrations in its ledger and %s by its own row%s', coalesce(l.applied, 0), t.applied,
           CASE WHEN coalesce(l.applied, 0) = t.applied THEN ', which are others' ELSE '' END),
           'Restore fluxbase_tenant.applied_migrations from a backup: the next migration would apply again what is missing there.'
    FROM fluxbase_tenant.tenants t
    LEFT JOIN (SELECT a.tenant_id, sum(m.revision) FILTER (WHERE a.checksum = m.checksum OR NOT m.repeatable) AS applied,
                      -- The row counts a text that was replaced until the tenant is migrated again.
                      sum(m.revision - 1) FILTER (WHERE a.checksum <> m.checksum AND m.repeatable) AS former,
                      -- And knows nothing yet of one that came back.
                      sum(m.revision - 1) FILTER (WHERE a.checksum = m.checksum AND m.repeatable) AS back,
                      max(m.sort_key) FILTER (WHERE NOT m.repeatable) AS newest
               FROM fluxbase_tenant.applied_migrations a JOIN fluxbase_tenant.migrations m ON m.version = a.version GROUP BY a.tenant_id) l ON l.tenant_id = t.id
    WHERE t.applied NOT BETWEEN coalesce(l.applied, 0) - coalesce(l.back, 0) AND coalesce(l.applied, 0) + coalesce(l.former, 0) OR t.schema_version IS DISTINCT FROM (
        SELECT m.version FROM fluxbase_tenant.migrations m WHERE m.sort_key = l.newest)
    UNION ALL
    SELECT 'warning', CASE WHEN r.relation IS NULL THEN 'owner roles' ELSE 'table ' || r.relation END,
           format('%s of %s deleted tenants are left: %s', CASE WHEN r.relation IS NULL THEN 'those' ELSE 'rows' END, count(*),
                  coalesce(max(r.error), 'no background worker has removed them')),
           'tenant_purge() tries again; until then nobody reaches them.'
    FROM fluxbase_tenant.removals r
    WHERE (r.relation IS NULL OR EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = r.relation))
      AND ((r.attempts > 0 AND r.error <> 'the attempt did not end') OR r.requested_at < now() - interval '5 minutes'
           OR r.tried_at < clock_timestamp() - interval '2 minutes')
    GROUP BY r.relation
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
    SELECT 'warning', 'large objects of ' || o.rolname, format('%s of them belong to a database role, not to a tenant: every user of '
               'that role reads, changes and removes them', count(*)), 'Keep files in columns of type bytea.'
    FROM pg_largeobject_metadata l JOIN application o ON o.oid = l.lomowner AND NOT o.rolsuper GROUP BY o.rolname
    UNION ALL
    SELECT 'warning', format('column %s.%I', r.name, a.attname), 'may hold the number of a large object, which belongs to no tenant',
           'Keep files in columns of type bytea.'
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE r.relkind IN ('r', 'p') AND (a.atttypid = 'oid'::regtype OR a.atttypid = to_regtype('lo'))
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
    SELECT 'error', 'event trigger ' || wanted, CASE WHEN e.oid IS NULL THEN 'is missing'
               WHEN e.evtenabled IN ('D', 'R') THEN 'is disabled' ELSE 'is not enabled under every session_replication_role' END,
           CASE WHEN e.oid IS NULL THEN 'Create the extension in a copy of the database, and compare.'
                ELSE format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', wanted) END
    FROM unnest('{fluxbase_tenant_before_command,fluxbase_tenant_after_command,fluxbase_tenant_after_drop,fluxbase_tenant_after_any_command}'::text[]) AS wanted
    LEFT JOIN pg_event_trigger e ON e.evtname = wanted::name WHERE e.evtenabled IS DISTINCT FROM 'A'
    UNION ALL
    SELECT 'error', format('trigger %s on %s', wanted.name, c.oid::regclass), CASE WHEN t.tgenabled = 'O' THEN 'is not enabled under every session_replication_role' ELSE 'is missing or disabled' END
               || ': sessions do not learn of changes',
           CASE WHEN t.oid IS NULL THEN format('CREATE OR REPLACE TRIGGER %I AFTER %s ON %s FOR EACH %s EXECUTE FUNCTION fluxbase_tenant.catalog_changed(); ',
                                               wanted.name, wanted.events, c.oid::regclass, wanted.level) ELSE '' END
           || format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', c.oid::regclass, wanted.name)
    FROM pg_class c CROSS JOIN (VALUES ('catalog_changed', 'INSERT OR UPDATE OR DELETE', 'ROW'), ('catalog_truncated', 'TRUNCATE', 'STATEMENT'))
             AS wanted (name, events, level)
    LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = wanted.name::name
    WHERE c.relnamespace = 'fluxbase_tenant'::regnamespace AND c.relname IN ('tenants', 'members', 'instance_admins')
      AND t.tgenabled IS DISTINCT FROM 'A'
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
      -- A tenant of another database, or one whose removal is under way.
      AND NOT EXISTS (SELECT 1 FROM fluxbase_tenant.removals l
                      WHERE l.relation IS NULL AND r.rolname = 'fluxbase_tenant_' || replace(l.tenant_id::text, '-', ''))
      AND NOT EXISTS (SELECT 1 FROM pg_shdepend d WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = r.oid)
)
SELECT severity, object, problem, fix FROM finding ORDER BY severity, object, problem
