-- The database roles: NOLOGIN group roles, like PostgreSQL's predefined roles. Roles and privileges on settings are
-- shared by all databases of the cluster, so CREATE EXTENSION in another database may have created them or may be
-- creating them now. The lock lets only one session do this at a time.
LOCK TABLE pg_catalog.pg_parameter_acl IN SHARE ROW EXCLUSIVE MODE;

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['fluxbase_tenant_user', 'fluxbase_tenant_server', 'fluxbase_tenant_admin',
                                  'fluxbase_tenant_owner'] LOOP
        IF pg_catalog.to_regrole(wanted) IS NULL THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END
$$;

GRANT fluxbase_tenant_user TO fluxbase_tenant_server, fluxbase_tenant_admin;
GRANT SET ON PARAMETER fluxbase_tenant.user_id, fluxbase_tenant.tenant_id TO fluxbase_tenant_server;
