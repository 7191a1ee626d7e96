-- Views that define which policies and triggers the catalog and the tables of tenants must have, and which foreign keys
-- of shared tables are unsafe. The code that creates, checks and repairs them reads these views, so that each
-- definition exists only once.

-- The policies of the catalog. tenant_check() compares them with the existing ones, and tenant_repair() creates missing
-- ones again. The conditions are written exactly as PostgreSQL prints them. The policies apply to all roles, because a
-- policy TO a role is dropped when a member of that role executes DROP OWNED BY the role. The conditions use
-- sub-selects, so that the caller's tenants are looked up once per query and not once per row.
CREATE VIEW fluxbase_tenant.catalog_policies AS
SELECT pg_catalog.format('fluxbase_tenant.%I', t.relation)::pg_catalog.regclass AS relation,
       CASE WHEN t.tenant_column IS NULL THEN 'instance_admins_only' ELSE 'own_tenants' END::pg_catalog.name AS name,
       CASE WHEN t.tenant_column IS NULL THEN
                pg_catalog.format('( SELECT %s.tenant_is_instance_admin() AS tenant_is_instance_admin)', e.schema)
            ELSE pg_catalog.format('(( SELECT %s.tenant_is_instance_admin() AS tenant_is_instance_admin) OR (%I = ANY '
                '(( SELECT fluxbase_tenant.visible_tenant_ids() AS visible_tenant_ids)::uuid[])))', e.schema, t.tenant_column)
       END AS condition
FROM (VALUES ('tenants', 'id'), ('members', 'tenant_id'), ('applied_migrations', 'tenant_id'), ('instance_admins', NULL),
             ('migrations', NULL), ('unfinished_migrations', NULL), ('fleet_runs', NULL), ('fleet_results', NULL))
         AS t (relation, tenant_column),
     (SELECT extnamespace::pg_catalog.regnamespace AS schema FROM pg_catalog.pg_extension
      WHERE extname OPERATOR(pg_catalog.=) 'fluxbase_tenant'::pg_catalog.name) AS e;
COMMENT ON VIEW fluxbase_tenant.catalog_policies IS
    'row-level security policies that the tables of the catalog must have';

-- The tables that have a policy named tenant_isolation. tenant_id is set if the condition is that of a table in a
-- tenant schema, and tenant_column (an attnum) if it is that of a shared table. Both are NULL for any other condition.
-- in_force reports whether row-level security is enabled and forced and the policy is restrictive and applies to all
-- commands and roles.
CREATE VIEW fluxbase_tenant.isolation_policies AS
SELECT c.oid AS relation, p.oid AS policy,
       -- Any table owner can create a policy with this name. A condition that is too long, and therefore may be nested
       -- too deeply for the stack, is not parsed.
       CASE WHEN pg_catalog.octet_length(p.polqual::pg_catalog.text) OPERATOR(pg_catalog.<) 10000
           THEN fluxbase_tenant.policy_tenant(p.polqual) END AS tenant_id,
       CASE WHEN pg_catalog.octet_length(p.polqual::pg_catalog.text) OPERATOR(pg_catalog.<) 10000
           THEN fluxbase_tenant.policy_column(p.polqual) END AS tenant_column,
       c.relrowsecurity AND c.relforcerowsecurity AND NOT p.polpermissive AND p.polcmd OPERATOR(pg_catalog.=) '*'::"char"
           AND p.polroles OPERATOR(pg_catalog.=) '{0}'::pg_catalog.oid[] AND p.polwithcheck IS NULL AS in_force
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.polrelid
WHERE p.polname OPERATOR(pg_catalog.=) 'tenant_isolation'::pg_catalog.name;
COMMENT ON VIEW fluxbase_tenant.isolation_policies IS
    'tables with the policy tenant_isolation, the tenant or tenant column in its condition, and whether it is in force';

-- Foreign keys to shared tables that do not include the tenant column. PostgreSQL checks foreign keys without applying
-- policies, so a row of one tenant can refer to a row of another. That reveals that the other row exists, and the
-- referring row blocks its deletion or is deleted with it.
--
-- The suggested fix adds the key NOT VALID, because validating it runs operators and casts of the tables' owners with
-- the privileges of the role that executes the command. The owner of the table should therefore validate it. Before
-- PostgreSQL 18, a foreign key of a partitioned table cannot be NOT VALID, so there the owner must execute the whole
-- fix.
CREATE VIEW fluxbase_tenant.loose_keys AS
SELECT k.conrelid, k.confrelid, pg_catalog.quote_ident(k.conname) AS constraint_name, f.name AS referring, t.name AS referred,
       CASE WHEN own.relation IS NULL THEN
                pg_catalog.format('Make %s a shared table with tenant_protect(), then add the tenant column to the key.', f.name)
            WHEN f.owner_is_super AND t.owner_is_super THEN key.command
            WHEN f.is_partitioned THEN pg_catalog.format('As %I: %s', f.owner, key.command)
            -- The generated SQL comment contains no name, because a name with a line break would end the comment.
            ELSE pg_catalog.format('%s NOT VALID -- then have the owner of the table VALIDATE the constraint', key.command)
       END AS fix
FROM fluxbase_tenant.shared_tables s
JOIN pg_catalog.pg_constraint k ON k.confrelid OPERATOR(pg_catalog.=) s.relation::pg_catalog.oid
                               AND k.contype OPERATOR(pg_catalog.=) 'f'::"char" AND k.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
LEFT JOIN fluxbase_tenant.shared_tables own ON own.relation::pg_catalog.oid OPERATOR(pg_catalog.=) k.conrelid
CROSS JOIN LATERAL (
    SELECT pg_catalog.format('%I.%I', n.nspname, r.relname) AS name, o.rolname AS owner, o.rolsuper AS owner_is_super,
           r.relkind OPERATOR(pg_catalog.=) 'p'::"char" AS is_partitioned
    FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) r.relnamespace
    JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) r.relowner
    WHERE r.oid OPERATOR(pg_catalog.=) k.conrelid) f
CROSS JOIN LATERAL (
    SELECT pg_catalog.format('%I.%I', n.nspname, r.relname) AS name, o.rolname AS owner, o.rolsuper AS owner_is_super,
           r.relkind OPERATOR(pg_catalog.=) 'p'::"char" AS is_partitioned
    FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) r.relnamespace
    JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) r.relowner
    WHERE r.oid OPERATOR(pg_catalog.=) k.confrelid) t
CROSS JOIN LATERAL (
    SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY p.place) AS ours,
           pg_catalog.format('%I, ', s.tenant_column)
               OPERATOR(pg_catalog.||) pg_catalog.string_agg(pg_catalog.quote_ident(b.attname), ', ' ORDER BY p.place) AS theirs,
           pg_catalog.bool_or(a.attname OPERATOR(pg_catalog.=) own.tenant_column
                              AND b.attname OPERATOR(pg_catalog.=) s.tenant_column) AS with_tenant
    FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey)) WITH ORDINALITY AS p (own, other, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) k.conrelid AND a.attnum OPERATOR(pg_catalog.=) p.own
    JOIN pg_catalog.pg_attribute b ON b.attrelid OPERATOR(pg_catalog.=) k.confrelid AND b.attnum OPERATOR(pg_catalog.=) p.other) c
CROSS JOIN LATERAL (
    SELECT pg_catalog.format('ALTER TABLE %s ADD UNIQUE (%s); ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I '
               'FOREIGN KEY (%I, %s) REFERENCES %s (%s)%s', t.name, c.theirs, f.name, k.conname, k.conname, own.tenant_column,
               c.ours, t.name, c.theirs, CASE k.confdeltype WHEN 'c' THEN ' ON DELETE CASCADE' WHEN 'r' THEN ' ON DELETE RESTRICT'
                   WHEN 'n' THEN pg_catalog.format(' ON DELETE SET NULL (%s)', c.ours)
                   WHEN 'd' THEN pg_catalog.format(' ON DELETE SET DEFAULT (%s)', c.ours) ELSE '' END) AS command) key
WHERE c.with_tenant IS NOT TRUE;
COMMENT ON VIEW fluxbase_tenant.loose_keys IS
    'foreign keys to shared tables that do not include the tenant column, and the commands that add it';

-- The triggers of the catalog that invalidate the caches of all sessions when a change commits. tenant_check() prints
-- the commands that create them again. They are row-level triggers, because a subscriber of logical replication fires
-- only those for changes of rows. On tenants, the triggers list the columns on which the caches depend, because other
-- columns, such as name and schema_version, change often.
CREATE VIEW fluxbase_tenant.catalog_triggers AS
SELECT pg_catalog.format('fluxbase_tenant.%I', t.relation)::pg_catalog.regclass AS relation, w.name::pg_catalog.name AS name,
       pg_catalog.format('CREATE OR REPLACE TRIGGER %I AFTER %s ON fluxbase_tenant.%I FOR EACH %s '
           'EXECUTE FUNCTION fluxbase_tenant.catalog_changed()', w.name, w.events, t.relation, w.level) AS command
FROM (VALUES ('tenants', 'id, schema_name, spare, suspended_at, deleted_at'), ('members', NULL), ('instance_admins', NULL))
         AS t (relation, columns)
CROSS JOIN LATERAL (VALUES
    ('catalog_changed', pg_catalog.concat('INSERT OR UPDATE ', 'OF ' OPERATOR(pg_catalog.||) t.columns, ' OR DELETE'), 'ROW'),
    ('catalog_truncated', 'TRUNCATE', 'STATEMENT')) AS w (name, events, level);
COMMENT ON VIEW fluxbase_tenant.catalog_triggers IS
    'triggers that the tables of the catalog must have, with ENABLE ALWAYS';
