-- Instance admins.

CREATE FUNCTION @extschema@.tenant_grant_instance_admin(user_id uuid)
    RETURNS SETOF fluxbase_tenant.instance_admin
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_grant_instance_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) IS
    'Makes a user instance admin; again: the same row. Instance admins. Returns user_id, granted_by, created_at. '
    'Errors: forbidden.';
REVOKE ALL ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_instance_admins()
    RETURNS SETOF fluxbase_tenant.instance_admin
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_instance_admins_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_instance_admins() IS
    'The users who are instance admins, oldest first. Instance admins. Errors: forbidden.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_instance_admins() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_instance_admins() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_revoke_instance_admin(user_id uuid)
    RETURNS SETOF fluxbase_tenant.instance_admin
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_revoke_instance_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) IS
    'Ends a user''s being instance admin. Instance admins. Returns the row as it was. Errors: not_found, forbidden.';
REVOKE ALL ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) TO fluxbase_tenant_user;
