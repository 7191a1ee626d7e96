-- Functions for the session: the current user and tenant, and access checks for policies of the application.

CREATE FUNCTION @extschema@.tenant_current()
    RETURNS SETOF fluxbase_tenant.tenant
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_current_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_current() IS
    'Returns the row of the current tenant; no row if there is no current tenant. Raises not_found (P0002) if the '
    'current tenant is set and does not exist or the caller may not see it, and 22P02 if the setting is malformed.';
REVOKE ALL ON FUNCTION @extschema@.tenant_current() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_current() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_set_current(tenant text, is_local boolean DEFAULT false)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_set_current_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_set_current(text, boolean) IS
    'Makes a tenant, identified by slug or by id as text, the current one. Puts the tenant schema first in '
    'search_path and pg_temp last. is_local is as in set_config(): true limits the effect to the transaction; the '
    'default is false. Callable by members, instance admins and the tenant''s service context. Returns the tenant '
    'row. Raises unauthenticated (28000) for an anonymous caller, not_found (P0002) if the tenant does not exist or '
    'the caller may not see it, and conflict (55000) if the tenant is suspended or deleted. Fluxbase: setTenant; '
    'Nile: withContext.';
REVOKE ALL ON FUNCTION @extschema@.tenant_set_current(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_set_current(text, boolean) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_set_current(tenant uuid, is_local boolean DEFAULT false)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_set_current_by_id_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) IS
    'Makes a tenant, identified by id, the current one. Puts the tenant schema first in search_path and pg_temp '
    'last. is_local is as in set_config(): true limits the effect to the transaction; the default is false. Callable '
    'by members, instance admins and the tenant''s service context. Returns the tenant row. Raises unauthenticated '
    '(28000) for an anonymous caller, not_found (P0002) if the tenant does not exist or the caller may not see it, '
    'and conflict (55000) if the tenant is suspended or deleted. Fluxbase: setTenant; Nile: withContext.';
REVOKE ALL ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_reset_current()
    RETURNS void
    VOLATILE STRICT PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_reset_current_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_reset_current() IS
    'Undoes tenant_set_current(): sets no current tenant and restores search_path, unless search_path was changed in '
    'between. Callable by anyone.';
REVOKE ALL ON FUNCTION @extschema@.tenant_reset_current() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_reset_current() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_current_id()
    RETURNS uuid
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_current_id_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_current_id() IS
    'Returns the id of the current tenant: fluxbase_tenant.tenant_id, else the setting that '
    'fluxbase_tenant.tenant_id_setting names, else the tenant of the calling user''s oldest membership (unless '
    'fluxbase_tenant.default_tenant is none); NULL if there is none. For column defaults and policies. Raises '
    'not_found (P0002) if the current tenant is set and does not exist or the caller may not see it, and 22P02 if '
    'the setting is malformed. Fluxbase: getTenantId.';
REVOKE ALL ON FUNCTION @extschema@.tenant_current_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_current_id() TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_current_user_id()
    RETURNS uuid
    STABLE STRICT PARALLEL SAFE COST 10
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_current_user_id_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_current_user_id() IS
    'Returns the id of the current user, from fluxbase_tenant.user_id or from the setting that '
    'fluxbase_tenant.user_id_setting names; NULL if there is none. For column defaults and policies. Raises 22P02 if '
    'the setting is malformed.';
REVOKE ALL ON FUNCTION @extschema@.tenant_current_user_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_current_user_id() TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_has_access(tenant_id uuid)
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_has_access_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_has_access(uuid) IS
    'Reports whether the caller can access a tenant''s data: as a member of an active tenant, in the tenant''s '
    'service context, or as an instance admin. Returns false for an anonymous caller. For policies of the '
    'application.';
REVOKE ALL ON FUNCTION @extschema@.tenant_has_access(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_has_access(uuid) TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_has_role(tenant_id uuid, role text)
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_has_role_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_has_role(uuid, text) IS
    'Reports whether the caller can access a tenant''s data with at least the role: tenant_member or tenant_admin. '
    'Returns false for an anonymous caller. For policies of the application. Raises invalid_argument (22023) for any '
    'other role.';
REVOKE ALL ON FUNCTION @extschema@.tenant_has_role(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_has_role(uuid, text) TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_is_instance_admin()
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_is_instance_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_is_instance_admin() IS
    'Reports whether the caller is an instance admin, who may do everything to every tenant. For policies of the '
    'application.';
REVOKE ALL ON FUNCTION @extschema@.tenant_is_instance_admin() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_is_instance_admin() TO fluxbase_tenant_user, fluxbase_tenant_owner;
