-- Creates what the isolation benchmark measures: the same eleven tables once per variant, with 100,000 or 1,000 rows of
-- one tenant each, and 10,000 memberships in 100 tenants. Run as superuser, with three uuids in the variables acme,
-- globex and ann.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE EXTENSION fluxbase_tenant;

-- Two applications: app uses the extension. other isolates tenants by one of the usual policies, and does not load the
-- library.
CREATE ROLE app LOGIN;
GRANT fluxbase_tenant_server TO app;
ALTER ROLE app SET session_preload_libraries = 'fluxbase_tenant';
CREATE ROLE other LOGIN;
-- Tables are granted to a group role, as the extension does.
CREATE ROLE usual_user;
GRANT usual_user TO app, other;

-- 100 tenants with 100 members each; ann is a member of two of them.
SELECT count(*) FROM (VALUES ('acme', :'acme'), ('globex', :'globex')) t (slug, id),
    LATERAL tenant_create(slug => t.slug, name => t.slug, id => t.id::uuid) \g /dev/null
SELECT count(*) FROM generate_series(3, 100) i, LATERAL tenant_create(name => format('Tenant %s', i)) \g /dev/null
SELECT count(*) FROM tenant_list() t, LATERAL tenant_add_member(t.id, :'ann'::uuid, 'tenant_member')
WHERE t.slug IN ('acme', 'globex') \g /dev/null
SELECT count(*) FROM tenant_list() t, generate_series(1, 100) i,
    LATERAL tenant_add_member(t.id, md5(format('%s of %s', i, t.slug))::uuid, 'tenant_member')
WHERE i <= 99 OR t.slug NOT IN ('acme', 'globex') \g /dev/null

-- fluxbase_tenant: a migration creates the tables, and the extension adds the policies. tenant_id is there only for the
-- other variants, whose tables are copies.
SELECT version FROM tenant_migration_add('1', 'tables', $sql$
    CREATE TABLE items (
        id         int PRIMARY KEY,
        tenant_id  uuid NOT NULL,
        name       text NOT NULL,
        amount     int NOT NULL,
        created_at timestamptz NOT NULL
    );
    DO $do$
    BEGIN
        FOR i IN 1..10 LOOP
            EXECUTE format('CREATE TABLE t%s (id int PRIMARY KEY, tenant_id uuid NOT NULL, next int NOT NULL, name text NOT NULL)', i);
        END LOOP;
    END
    $do$;
$sql$) \g /dev/null
SELECT count(*) FROM tenant_list() t, LATERAL tenant_migrate(t.id) WHERE t.slug IN ('acme', 'globex') \g /dev/null

SELECT set_config('bench.acme', :'acme', false) \g /dev/null
DO $$
BEGIN
    INSERT INTO tenant_acme.items
    SELECT i, current_setting('bench.acme')::uuid, 'item ' || i, i % 1000, '2025-01-01'::timestamptz + i * interval '1 minute'
    FROM generate_series(1, 100000) i;
    FOR t IN 1..10 LOOP
        EXECUTE format('INSERT INTO tenant_acme.t%s SELECT i, %L, i * 7 %% 1000 + 1, %L || i FROM generate_series(1, 1000) i',
                       t, current_setting('bench.acme'), t || ' ');
    END LOOP;
END
$$;

-- The usual policies. Their functions are as fast as possible: they lack SET search_path, which a SECURITY DEFINER
-- function should have, and which would double their cost.
CREATE SCHEMA usual;
GRANT USAGE ON SCHEMA usual TO usual_user;
CREATE TABLE usual.members AS SELECT tenant_id, user_id, role FROM fluxbase_tenant.members;
ALTER TABLE usual.members ADD PRIMARY KEY (tenant_id, user_id);
CREATE INDEX ON usual.members (user_id);

CREATE FUNCTION usual.plpgsql_is_member(tenant uuid) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
BEGIN
    RETURN EXISTS (SELECT FROM usual.members m
                   WHERE m.tenant_id = tenant AND m.user_id = current_setting('app.user_id', true)::uuid);
END
$$;
CREATE FUNCTION usual.sql_is_member(tenant uuid) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT EXISTS (SELECT FROM usual.members m
                   WHERE m.tenant_id = tenant AND m.user_id = current_setting('app.user_id', true)::uuid)
$$;
CREATE FUNCTION usual.my_tenants() RETURNS SETOF uuid LANGUAGE sql STABLE SECURITY DEFINER AS $$
    SELECT m.tenant_id FROM usual.members m WHERE m.user_id = current_setting('app.user_id', true)::uuid
$$;

DO $$
DECLARE
    variant record;
    original name;
    copy text;
BEGIN
    FOR variant IN
        SELECT * FROM (VALUES
            ('plain', NULL),
            ('plpgsql', '(SELECT usual.plpgsql_is_member(tenant_id))'),
            ('sql', 'usual.sql_is_member(tenant_id)'),
            ('list', 'tenant_id IN (SELECT usual.my_tenants())'),
            ('setting', 'tenant_id = current_setting(''app.tenant_id'')::uuid'),
            ('initplan', 'tenant_id = (SELECT current_setting(''app.tenant_id'')::uuid)')
        ) v (name, policy)
    LOOP
        EXECUTE format('CREATE SCHEMA %I', variant.name);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO usual_user', variant.name);
        FOR original IN SELECT tablename FROM pg_tables WHERE schemaname = 'tenant_acme' LOOP
            copy := format('%I.%I', variant.name, original);
            EXECUTE format('CREATE TABLE %s (LIKE tenant_acme.%I INCLUDING ALL)', copy, original);
            EXECUTE format('INSERT INTO %s SELECT * FROM tenant_acme.%I ORDER BY id', copy, original);
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO usual_user', copy);
            IF variant.policy IS NOT NULL THEN
                EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', copy);
                EXECUTE format('CREATE POLICY tenant ON %s USING (%s)', copy, variant.policy);
            END IF;
        END LOOP;
    END LOOP;
END
$$;
VACUUM (FREEZE, ANALYZE);
CHECKPOINT;
