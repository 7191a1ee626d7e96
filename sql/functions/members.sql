-- Functions for members and admins of tenants.

CREATE FUNCTION @extschema@.tenant_add_member(tenant_id uuid, user_id uuid, role text DEFAULT 'tenant_member')
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_add_member_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) IS
    'Adds a user to a tenant as tenant_member (the default) or tenant_admin, or changes the user''s role. Succeeds '
    'without effect if the user already has the role. Callable by tenant admins, instance admins and the tenant''s '
    'service context. Returns the member row. Raises unauthenticated (28000), forbidden (42501), not_found (P0002) '
    'if the tenant does not exist or the caller may not see it, invalid_argument (22023) for an unknown role, and '
    'conflict (55000) if the tenant is suspended or deleted, or would lose its last admin. Fluxbase: '
    'tenant.addMember, tenant.updateMember; Nile: tenants.addMember.';
REVOKE ALL ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_assign_admin(tenant_id uuid, user_id uuid)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_assign_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) IS
    'Makes a user tenant_admin of a tenant. Adds the user or promotes a member; succeeds without effect if the user '
    'already is an admin. Callable by tenant admins, instance admins and the tenant''s service context. Returns the '
    'member row. Raises unauthenticated (28000), forbidden (42501), not_found (P0002) if the tenant does not exist '
    'or the caller may not see it, and conflict (55000) if the tenant is suspended or deleted. Fluxbase: '
    'tenant.assignAdmin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_leave(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_leave_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_leave(uuid) IS
    'Ends the calling user''s own membership. tenant_id is optional; the default is the current tenant, which must '
    'then be set explicitly: the oldest membership does not count. Callable by members. Returns the member row as it '
    'was. Raises unauthenticated (28000), not_found (P0002) if the user is not a member or no current tenant is set, '
    'and conflict (55000) for the last admin. Nile: tenants.leaveTenant.';
REVOKE ALL ON FUNCTION @extschema@.tenant_leave(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_leave(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_admins(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.member
    STABLE PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_admins_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_admins(uuid) IS
    'Returns the member rows of the admins of a tenant, by default of the current tenant, oldest first. Callable by '
    'members, instance admins and the tenant''s service context. Raises unauthenticated (28000) for an anonymous '
    'caller and not_found (P0002) if the tenant does not exist, the caller may not see it, or there is no current '
    'tenant. Fluxbase: tenant.listAdmins.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_admins(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_admins(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_members(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.member
    STABLE PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_members_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_members(uuid) IS
    'Returns the member rows of all members of a tenant, by default of the current tenant, oldest first. Callable by '
    'members, instance admins and the tenant''s service context. Raises unauthenticated (28000) for an anonymous '
    'caller and not_found (P0002) if the tenant does not exist, the caller may not see it, or there is no current '
    'tenant. Fluxbase: tenant.listMembers; Nile: tenants.users.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_members(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_members(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_remove_admin(tenant_id uuid, user_id uuid)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_remove_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) IS
    'Ends the membership of a tenant admin. Callable by tenant admins, instance admins and the tenant''s service '
    'context. Returns the member row as it was. Raises unauthenticated (28000), forbidden (42501), not_found (P0002) '
    'if the user is not an admin of the tenant, or if the tenant does not exist or the caller may not see it, and '
    'conflict (55000) for the last admin or if the tenant is suspended or deleted. Fluxbase: tenant.removeAdmin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_remove_member(tenant_id uuid, user_id uuid)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_remove_member_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) IS
    'Ends a user''s membership, whatever the role. Callable by tenant admins, instance admins and the tenant''s '
    'service context. Returns the member row as it was. Raises unauthenticated (28000), forbidden (42501), not_found '
    '(P0002) if the user is not a member, or if the tenant does not exist or the caller may not see it, and conflict '
    '(55000) for the last admin or if the tenant is suspended or deleted. Fluxbase: tenant.removeMember; Nile: '
    'tenants.removeMember.';
REVOKE ALL ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) TO fluxbase_tenant_user;
