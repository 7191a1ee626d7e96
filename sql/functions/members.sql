-- Members and admins of tenants.

CREATE FUNCTION @extschema@.tenant_add_member(tenant_id uuid, user_id uuid, role text DEFAULT 'tenant_member')
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_add_member_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) IS
    'Adds a user to a tenant as tenant_member or tenant_admin, or changes the role there; again: the same row. Tenant '
    'admins. Returns the assignment row. Errors: not_found, forbidden, invalid_argument, conflict if the last admin '
    'would become a member. Fluxbase: tenant.addMember, tenant.updateMember; Nile: tenants.addMember.';
REVOKE ALL ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_assign_admin(tenant_id uuid, user_id uuid)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_assign_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) IS
    'Makes a user tenant_admin of a tenant; a member is promoted; again: the same row. Tenant admins. Returns the '
    'assignment row. Errors: not_found, forbidden, conflict if suspended. Fluxbase: tenant.assignAdmin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_leave(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_leave_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_leave(uuid) IS
    'Ends the calling user''s own membership. Without an argument the current tenant must have been set, not just found '
    'by membership. Returns the assignment row as it was. Errors: unauthenticated, not_found, conflict for the last '
    'admin. Nile: tenants.leaveTenant.';
REVOKE ALL ON FUNCTION @extschema@.tenant_leave(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_leave(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_admins(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.member
    STABLE PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_admins_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_admins(uuid) IS
    'The assignment rows of the admins of a tenant, by default the current one, oldest first. Members. Errors: '
    'not_found. Fluxbase: tenant.listAdmins.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_admins(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_admins(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_members(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.member
    STABLE PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_members_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_members(uuid) IS
    'The assignment rows of all members of a tenant, by default the current one, oldest first. Members. Errors: '
    'not_found. Fluxbase: tenant.listMembers; Nile: tenants.users.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_members(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_members(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_remove_admin(tenant_id uuid, user_id uuid)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_remove_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) IS
    'Ends the membership of a tenant_admin. Tenant admins. Returns the assignment row as it was. Errors: not_found, '
    'also if the user is no admin there; forbidden; conflict for the last admin. Fluxbase: tenant.removeAdmin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_remove_member(tenant_id uuid, user_id uuid)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_remove_member_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) IS
    'Ends a user''s membership, whatever the role. Tenant admins. Returns the assignment row as it was. Errors: '
    'not_found, forbidden, conflict for the last admin. Fluxbase: tenant.removeMember; Nile: tenants.removeMember.';
REVOKE ALL ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) TO fluxbase_tenant_user;
