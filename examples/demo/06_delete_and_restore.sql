\i examples/demo/people.psql
\c - app
\echo
\echo '--- Carol closes Globex. It is marked as deleted, and its data is kept.'
SET fluxbase_tenant.user_id = :'carol';
SELECT slug FROM tenant_set_current('globex');
SELECT slug, status FROM tenant_soft_delete();
SELECT tenant_reset_current();

\echo
\echo '--- Bob can no longer access it, neither through functions nor its tables.'
SET fluxbase_tenant.user_id = :'bob';
SELECT slug, my_role FROM tenant_list_mine();
\set ON_ERROR_STOP off
SELECT count(*) FROM tenant_globex.clients;
\set expected 42501
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
\set ON_ERROR_STOP off
SELECT * FROM tenant_get_by_slug('globex');
\set expected P0002
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql

\echo
\echo '--- An operator finds and restores it.'
\c - postgres
SELECT slug, status, deleted_at IS NOT NULL AS has_deleted_at FROM tenant_list_deleted();
SELECT slug, status FROM tenant_restore((SELECT id FROM tenant_list_deleted() WHERE slug = 'globex'));

\echo
\echo '--- Bob has access again.'
\c - app
SET fluxbase_tenant.user_id = :'bob';
SELECT slug, my_role FROM tenant_list_mine();
SELECT client, project, hours, worth FROM tenant_globex.project_hours;
