-- Functions for instance admins.

CREATE FUNCTION @extschema@.tenant_grant_instance_admin(user_id uuid)
    RETURNS SETOF fluxbase_tenant.instance_admin
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_grant_instance_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) IS
    'Makes a user an instance admin. Succeeds without effect if the user already is one. Callable by instance '
    'admins. Returns user_id, granted_by and created_at. Raises unauthenticated (28000), forbidden (42501), and '
    'invalid_argument (22023) for NULL.';
REVOKE ALL ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_instance_admins()
    RETURNS SETOF fluxbase_tenant.instance_admin
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_instance_admins_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_instance_admins() IS
    'Returns the users who are instance admins, oldest first. Callable by instance admins. Raises unauthenticated '
    '(28000) and forbidden (42501).';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_instance_admins() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_instance_admins() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_revoke_instance_admin(user_id uuid)
    RETURNS SETOF fluxbase_tenant.instance_admin
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_revoke_instance_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) IS
    'Ends a user''s status as an instance admin. Callable by instance admins. Returns the row as it was. Raises '
    'unauthenticated (28000), forbidden (42501), and not_found (P0002) if the user is not an instance admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) TO fluxbase_tenant_user;
