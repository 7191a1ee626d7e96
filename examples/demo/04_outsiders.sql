\i examples/demo/people.psql
\c - app
\echo
\echo '--- Mallory is a member of no company, and cannot access any tables.'
SET fluxbase_tenant.user_id = :'mallory';
SELECT slug, my_role FROM tenant_list_mine();
\set ON_ERROR_STOP off
SELECT count(*) FROM tenant_acme.clients;
\set expected 42501
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
\set ON_ERROR_STOP off
UPDATE tenant_acme.projects SET hourly_rate = 0.01;
\set expected 42501
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
\set ON_ERROR_STOP off
INSERT INTO tenant_acme.clients (name) VALUES ('Mallory and sons');
\set expected 42501
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
\set ON_ERROR_STOP off
SELECT tenant_acme.bill_project(1);
\set expected 42501
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
\echo
\echo '--- Functions raise the same error for a company that exists and for one that does not.'
\set ON_ERROR_STOP off
SELECT * FROM tenant_get_by_slug('acme');
\set expected P0002
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
\set ON_ERROR_STOP off
SELECT * FROM tenant_get_by_slug('no-such-company');
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
\set ON_ERROR_STOP off
SELECT * FROM tenant_set_current('acme');
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql

\echo
\echo '--- Erin is an admin of Initech, and has no rights at Acme.'
SET fluxbase_tenant.user_id = :'erin';
\set ON_ERROR_STOP off
SELECT count(*) FROM tenant_acme.clients;
\set expected 42501
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
\set ON_ERROR_STOP off
SELECT * FROM tenant_list_members((SELECT id FROM tenant_get_by_slug('acme')));
\set expected P0002
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
\set ON_ERROR_STOP off
SELECT slug FROM tenant_create('evil', 'Evil Corp');
\set expected 42501
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql

\echo
\echo '--- An anonymous caller, with no user and no tenant, has no access.'
RESET fluxbase_tenant.user_id;
\set ON_ERROR_STOP off
SELECT count(*) FROM tenant_acme.clients;
\set expected 42501
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
\set ON_ERROR_STOP off
SELECT * FROM tenant_list_mine();
\set expected 28000
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
