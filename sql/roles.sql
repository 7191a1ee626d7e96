-- The database roles: NOLOGIN groups, as PostgreSQL's predefined roles are. Roles belong to the cluster, so another
-- database may have made them before.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['fluxbase_tenant_user', 'fluxbase_tenant_server', 'fluxbase_tenant_admin',
                                  'fluxbase_tenant_owner'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) wanted::pg_catalog.name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END
$$;

GRANT fluxbase_tenant_user TO fluxbase_tenant_server, fluxbase_tenant_admin;
GRANT SET ON PARAMETER fluxbase_tenant.user_id, fluxbase_tenant.tenant_id TO fluxbase_tenant_server;
