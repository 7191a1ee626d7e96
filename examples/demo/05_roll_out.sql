\i examples/demo/people.psql
\echo
\echo '--- The next version of the product. Registering it changes no tenant yet.'
SELECT version, name FROM tenant_migration_add('3', 'due dates', $sql$
    ALTER TABLE invoices ADD COLUMN due date NOT NULL DEFAULT current_date + 30;
    CREATE TABLE reminders (
        invoice_id bigint NOT NULL REFERENCES invoices ON DELETE CASCADE,
        sent_at    timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (invoice_id, sent_at)
    );
$sql$);
SELECT slug, version, pending FROM tenant_migration_status();

\echo
\echo '--- First Acme, then all tenants.'
SELECT slug, status, from_version, to_version, applied FROM tenant_migrate((SELECT id FROM tenant_get_by_slug('acme')));
SELECT m.slug, m.status, m.from_version, m.to_version, m.applied FROM tenant_list() t, tenant_migrate(t.id) m;
SELECT slug, version, pending FROM tenant_migration_status();

\echo
\echo '--- A new table has its policies when it is created, like every other table.'
SELECT tablename, policyname, permissive FROM pg_policies WHERE schemaname = 'tenant_acme' AND tablename = 'reminders';

\echo
\echo '--- A migration that fails reports the failing statement, and leaves nothing behind.'
BEGIN;
SELECT version, name FROM tenant_migration_add('4', 'a mistake', $sql$
    CREATE TABLE half_done (id int);
    ALTER TABLE invoice ADD COLUMN paid_on date;
$sql$);
\set ON_ERROR_STOP off
SELECT m.* FROM tenant_list() t, tenant_migrate(t.id) m;
\set failed_with :SQLSTATE
ROLLBACK;
\set SQLSTATE :failed_with
\set expected 42P01
\set ON_ERROR_STOP on
\i examples/demo/must_fail.psql
SELECT slug, version, pending FROM tenant_migration_status();
