-- The session: current user, current tenant, and questions for policies of the application.

CREATE FUNCTION @extschema@.tenant_current()
    RETURNS SETOF fluxbase_tenant.tenant
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_current_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_current() IS
    'The tenant row of the current tenant; no row if there is none. Errors: not_found if it is set and not the '
    'caller''s to see.';
REVOKE ALL ON FUNCTION @extschema@.tenant_current() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_current() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_set_current(tenant text, is_local boolean DEFAULT false)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_set_current_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_set_current(text, boolean) IS
    'Makes a tenant the current one, by slug or by id as text, and puts its schema first in search_path; is_local as in '
    'set_config(). Members, service context, instance admins. Returns the tenant row. Errors: not_found, conflict if '
    'suspended. Fluxbase: setTenant; Nile: withContext.';
REVOKE ALL ON FUNCTION @extschema@.tenant_set_current(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_set_current(text, boolean) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_set_current(tenant uuid, is_local boolean DEFAULT false)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_set_current_by_id_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) IS
    'Makes a tenant the current one, by id, and puts its schema first in search_path; is_local as in set_config(). '
    'Members, service context, instance admins. Returns the tenant row. Errors: not_found, conflict if suspended. '
    'Fluxbase: setTenant; Nile: withContext.';
REVOKE ALL ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_reset_current()
    RETURNS void
    VOLATILE STRICT PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_reset_current_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_reset_current() IS
    'Undoes tenant_set_current(): no current tenant, and search_path as it was, unless somebody else changed it since. '
    'Anyone.';
REVOKE ALL ON FUNCTION @extschema@.tenant_reset_current() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_reset_current() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_current_id()
    RETURNS uuid
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_current_id_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_current_id() IS
    'Id of the current tenant: the setting, else the claim, else the calling user''s oldest membership; NULL if there '
    'is none. Errors: not_found if it is set and not the caller''s to see. Fluxbase: getTenantId.';
REVOKE ALL ON FUNCTION @extschema@.tenant_current_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_current_id() TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_current_user_id()
    RETURNS uuid
    STABLE STRICT PARALLEL SAFE COST 10
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_current_user_id_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_current_user_id() IS
    'Id of the current user as set or claimed; NULL if there is none. Errors: 22P02 if the setting or claim holds no '
    'uuid.';
REVOKE ALL ON FUNCTION @extschema@.tenant_current_user_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_current_user_id() TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_has_access(tenant_id uuid)
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_has_access_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_has_access(uuid) IS
    'Whether the caller may reach a tenant''s data: as member of an active tenant, as its service context, or as '
    'instance admin. Never an error for want of an identity. For policies of the application.';
REVOKE ALL ON FUNCTION @extschema@.tenant_has_access(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_has_access(uuid) TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_has_role(tenant_id uuid, role text)
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_has_role_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_has_role(uuid, text) IS
    'Whether the caller may reach a tenant''s data with at least the role: tenant_member or tenant_admin. Errors: '
    'invalid_argument for another role. For policies of the application.';
REVOKE ALL ON FUNCTION @extschema@.tenant_has_role(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_has_role(uuid, text) TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_is_instance_admin()
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_is_instance_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_is_instance_admin() IS
    'Whether the caller may do everything to every tenant. For policies of the application.';
REVOKE ALL ON FUNCTION @extschema@.tenant_is_instance_admin() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_is_instance_admin() TO fluxbase_tenant_user, fluxbase_tenant_owner;
