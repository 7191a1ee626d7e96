-- The catalog
SELECT 'error', format('policy %s on %s', w.name, w.relation), CASE WHEN p.oid IS NULL THEN 'is missing' ELSE 'is changed' END,
       format('DROP POLICY IF EXISTS %I ON %s; CREATE POLICY %1$I ON %2$s FOR SELECT USING (%3$s)', w.name, w.relation, w.condition)
FROM fluxbase_tenant.catalog_policies w LEFT JOIN pg_policy p ON p.polrelid = w.relation AND p.polname = w.name
WHERE p.oid IS NULL OR NOT (p.polpermissive AND p.polcmd = 'r' AND p.polroles = '{0}' AND p.polwithcheck IS NULL
                            AND pg_get_expr(p.polqual, p.polrelid) = w.condition)
UNION ALL
SELECT 'error', format('policy %I on %s', p.polname, p.polrelid::regclass), 'is not a policy of the catalog',
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
SELECT 'error', format('migration version "%s"', a.version), format('is in the ledgers of %s tenants but not registered', count(*)),
       'Register it again with tenant_migration_add(), with the SQL that was applied.'
FROM fluxbase_tenant.applied_migrations a
WHERE NOT EXISTS (SELECT 1 FROM fluxbase_tenant.migrations m WHERE m.version = a.version) GROUP BY a.version
UNION ALL
SELECT 'error', 'tenant ' || t.slug, format('has %s migrations in its ledger and %s in its row%s', coalesce(l.applied, 0), t.applied,
       CASE WHEN coalesce(l.applied, 0) = t.applied THEN ', but another schema_version' ELSE '' END),
       'Restore fluxbase_tenant.applied_migrations from a backup: the next migration would repeat the migrations that are missing there.'
FROM fluxbase_tenant.tenants t
LEFT JOIN (SELECT a.tenant_id, sum(m.revision) FILTER (WHERE a.checksum = m.checksum OR NOT m.repeatable) AS applied,
                  -- The tenant's row still counts a script that has been replaced, until the tenant is migrated again.
                  sum(m.revision - 1) FILTER (WHERE a.checksum <> m.checksum AND m.repeatable) AS former,
                  -- The tenant's row does not count an earlier script that is registered again, until the tenant is
                  -- migrated again.
                  sum(m.revision - 1) FILTER (WHERE a.checksum = m.checksum AND m.repeatable) AS back,
                  max(m.sort_key) FILTER (WHERE NOT m.repeatable) AS newest
           FROM fluxbase_tenant.applied_migrations a JOIN fluxbase_tenant.migrations m ON m.version = a.version GROUP BY a.tenant_id) l ON l.tenant_id = t.id
WHERE t.applied NOT BETWEEN coalesce(l.applied, 0) - coalesce(l.back, 0) AND coalesce(l.applied, 0) + coalesce(l.former, 0) OR t.schema_version IS DISTINCT FROM (
    SELECT m.version FROM fluxbase_tenant.migrations m WHERE m.sort_key = l.newest)
UNION ALL
SELECT 'warning', CASE WHEN r.relation IS NULL THEN 'owner roles' ELSE 'table ' || r.relation END,
       format('%s of %s deleted tenants remain: %s', CASE WHEN r.relation IS NULL THEN 'those' ELSE 'rows' END, count(*),
              coalesce(max(r.error), 'no background worker has removed them yet')),
       'tenant_purge() retries the removal. Until it succeeds, they are not accessible.'
FROM fluxbase_tenant.removals r
WHERE (r.relation IS NULL OR EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = r.relation))
  AND ((r.attempts > 0 AND r.error <> 'the attempt did not end') OR r.requested_at < now() - interval '5 minutes'
       OR r.tried_at < clock_timestamp() - interval '2 minutes')
GROUP BY r.relation
