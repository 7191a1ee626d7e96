-- The database roles: NOLOGIN groups, as PostgreSQL's predefined roles are. Roles and privileges on settings belong to the
-- cluster, so another database may have them already, or be making them: the lock lets one at a time do so.
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
