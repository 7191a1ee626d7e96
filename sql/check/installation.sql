-- The installation
SELECT 'error', 'event trigger ' || wanted, CASE WHEN e.oid IS NULL THEN 'is missing'
           WHEN e.evtenabled IN ('D', 'R') THEN 'is disabled' ELSE 'is not enabled under every session_replication_role' END,
       CASE WHEN e.oid IS NULL THEN 'Create the event trigger as it is defined in a database with a new installation of the extension.'
            ELSE format('ALTER EVENT TRIGGER %I ENABLE ALWAYS', wanted) END
FROM unnest('{fluxbase_tenant_before_command,fluxbase_tenant_after_command,fluxbase_tenant_after_drop,fluxbase_tenant_after_any_command}'::text[]) AS wanted
LEFT JOIN pg_event_trigger e ON e.evtname = wanted::name WHERE e.evtenabled IS DISTINCT FROM 'A'
UNION ALL
SELECT 'error', format('trigger %s on %s', w.name, w.relation), CASE WHEN t.tgenabled = 'O' THEN 'is not enabled under every session_replication_role' ELSE 'is missing or disabled' END
           || ': sessions do not notice changes of the catalog',
       CASE WHEN t.oid IS NULL THEN w.command || '; ' ELSE '' END || format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', w.relation, w.name)
FROM fluxbase_tenant.catalog_triggers w LEFT JOIN pg_trigger t ON t.tgrelid = w.relation AND t.tgname = w.name
WHERE t.tgenabled IS DISTINCT FROM 'A'
UNION ALL
SELECT 'error', 'table ' || c.oid::regclass, 'row-level security is disabled',
       format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', c.oid::regclass)
FROM pg_class c WHERE c.relnamespace = 'fluxbase_tenant'::regnamespace AND c.relkind = 'r' AND NOT c.relrowsecurity
UNION ALL
SELECT 'warning', 'library fluxbase_tenant', 'is not preloaded: only sessions that have used the extension check LOCK TABLE '
       'and calls of functions',
       'ALTER DATABASE ' || quote_ident(current_database()) || ' SET session_preload_libraries = ''fluxbase_tenant'''
FROM preload WHERE NOT preloaded
UNION ALL
SELECT 'warning', 'schema public', 'lets every role create objects, which other roles may find by their names',
       'REVOKE CREATE ON SCHEMA public FROM PUBLIC'
FROM pg_namespace n, aclexplode(n.nspacl) a WHERE n.nspname = 'public' AND a.grantee = 0 AND a.privilege_type = 'CREATE'
