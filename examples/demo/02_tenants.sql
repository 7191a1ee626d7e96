\i examples/demo/people.psql
\echo
\echo '--- Three companies sign up. One call each creates row, schema, owner role and grants, and runs the migrations.'
SELECT slug, name, schema_name, schema_version FROM tenant_create('acme', 'Acme Ltd', '{"plan": "pro"}', admin_user_id => :'alice');
SELECT slug, name, schema_name, schema_version FROM tenant_create('globex', 'Globex AG', admin_user_id => :'carol');
SELECT slug, name, schema_name, schema_version FROM tenant_create(name => 'Initech & Söhne', admin_user_id => :'erin');

\echo
\echo '--- What exists now.'
SELECT slug, name, status, schema_name, schema_version, metadata FROM tenant_list();
\dt tenant_acme.*

\echo
\echo '--- The rest runs as the application: a role without any privileges of its own.'
\c - app
SELECT rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user;

\echo
\echo '--- Alice, admin of Acme, adds Bob. Carol does the same at Globex, with Bob and Dave.'
SET fluxbase_tenant.user_id = :'alice';
SELECT user_id, role, assigned_by FROM tenant_add_member(tenant_current_id(), :'bob');
SET fluxbase_tenant.user_id = :'carol';
SELECT user_id, role, assigned_by FROM tenant_add_member(tenant_current_id(), :'bob');
SELECT user_id, role, assigned_by FROM tenant_add_member(tenant_current_id(), :'dave');

\echo
\echo '--- Bob sees both companies, the oldest membership first.'
SET fluxbase_tenant.user_id = :'bob';
SELECT slug, name, my_role FROM tenant_list_mine();

\echo
\echo '--- Bob is a member, not an admin: he can read the list and cannot change it.'
SELECT user_id, role FROM tenant_list_members(tenant_current_id());
\set ON_ERROR_STOP off
SELECT * FROM tenant_add_member(tenant_current_id(), :'mallory');
\set expected 42501
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
