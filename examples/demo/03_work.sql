\i examples/demo/people.psql
\c - app
\echo
\echo '--- Alice at work. The tenant is set for the transaction, as with any transaction pooler, and its schema comes first in search_path.'
BEGIN;
SET LOCAL fluxbase_tenant.user_id = :'alice';
SELECT slug, schema_name FROM tenant_set_current('acme', is_local => true);
SHOW search_path;
INSERT INTO clients (name) VALUES ('Roadrunner Inc') RETURNING id, name;
INSERT INTO projects (client_id, name, hourly_rate) VALUES (1, 'Rocket sled', 120) RETURNING id, name, hourly_rate;
INSERT INTO tasks (project_id, title) VALUES (1, 'Build it'), (1, 'Test it') RETURNING id, title;
COMMIT;

\echo
\echo '--- Bob logs hours at Acme; the column default records who he is. Then at Globex, in the same connection.'
BEGIN;
SET LOCAL fluxbase_tenant.user_id = :'bob';
SELECT slug FROM tenant_set_current('acme', is_local => true);
INSERT INTO time_entries (task_id, hours) VALUES (1, 6.5), (2, 1.5) RETURNING id, user_id, hours;
COMMIT;
BEGIN;
SET LOCAL fluxbase_tenant.user_id = :'bob';
SELECT slug FROM tenant_set_current('globex', is_local => true);
INSERT INTO clients (name) VALUES ('Springfield') RETURNING id, name;
INSERT INTO projects (client_id, name, hourly_rate) VALUES (1, 'Weather machine', 200) RETURNING id, name;
INSERT INTO tasks (project_id, title) VALUES (1, 'Make rain') RETURNING id, title;
INSERT INTO time_entries (task_id, hours) VALUES (1, 3) RETURNING id, user_id, hours;
COMMIT;

\echo
\echo '--- Alice bills the project, with a function, a generated column and a trigger.'
SET fluxbase_tenant.user_id = :'alice';
SELECT slug FROM tenant_set_current('acme');
SELECT * FROM bill_project(1);
SELECT user_id, happened FROM activity;
SELECT * FROM project_hours;

\echo
\echo '--- A report across companies: without a current tenant, Bob reads the tables of both his tenants by qualified names.'
SELECT tenant_reset_current();
SET fluxbase_tenant.user_id = :'bob';
SELECT 'acme' AS tenant, * FROM tenant_acme.project_hours
UNION ALL
SELECT 'globex', * FROM tenant_globex.project_hours;

\echo
\echo '--- Dave is a member of Globex only. The same query is refused, and the part for Globex succeeds.'
SET fluxbase_tenant.user_id = :'dave';
\set ON_ERROR_STOP off
SELECT 'acme' AS tenant, * FROM tenant_acme.project_hours
UNION ALL
SELECT 'globex', * FROM tenant_globex.project_hours;
\set expected 42501
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
SELECT 'globex' AS tenant, * FROM tenant_globex.project_hours;
