-- Functions that create, read, change and delete tenants.

CREATE FUNCTION @extschema@.tenant_clone(
    source uuid, slug text DEFAULT NULL, name text DEFAULT NULL, with_data boolean DEFAULT false
)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_clone_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_clone(uuid, text, text, boolean) IS
    'Creates a tenant as a copy of source: it applies the migrations in source''s ledger and copies the metadata. '
    'with_data also copies the rows and the positions of sequences; the default is false. While it copies rows, '
    'writers of source wait. slug is optional and by default made from name; the default for name is source''s name. '
    'The calling user, if any, becomes tenant_admin. Callable by instance admins. Returns the new tenant row. Raises '
    'unauthenticated (28000), forbidden (42501), not_found (P0002) if source does not exist, invalid_argument '
    '(22023), conflict (23505 if the slug is taken; 55000 if the tenant limit is reached, if source is deleted or '
    'has an unfinished migration, or if with_data is true and source has a table, column or sequence that none of '
    'its migrations creates), and the error of a migration that fails.';
REVOKE ALL ON FUNCTION @extschema@.tenant_clone(uuid, text, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_clone(uuid, text, text, boolean) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_create(
    slug text DEFAULT NULL, name text DEFAULT NULL, metadata jsonb DEFAULT NULL, id uuid DEFAULT NULL,
    admin_user_id uuid DEFAULT NULL
)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_create_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_create(text, text, jsonb, uuid, uuid) IS
    'Creates a tenant in the caller''s transaction: its row, schema, owner role and grants. Applies all registered '
    'migrations. Only name is required. The default slug is made from name, the default metadata is an empty object, '
    'and the default id is a new UUIDv7. admin_user_id, or by default the calling user, becomes tenant_admin. '
    'Callable by instance admins; if fluxbase_tenant.create_policy is authenticated, also by any user, who may pass '
    'neither id nor another user as admin_user_id. Returns the new tenant row. Raises unauthenticated (28000), '
    'forbidden (42501), invalid_argument (22023), conflict (23505 if the slug is taken; 55000 if the id is in use or '
    'the tenant limit is reached), and the error of a migration that fails. Fluxbase: tenant.create; Nile: '
    'tenants.create.';
REVOKE ALL ON FUNCTION @extschema@.tenant_create(text, text, jsonb, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_create(text, text, jsonb, uuid, uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_get(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.tenant
    STABLE PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_get_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_get(uuid) IS
    'Returns the row of one tenant, by default of the current tenant. Callable by members, instance admins and the '
    'tenant''s service context. Raises unauthenticated (28000) for an anonymous caller and not_found (P0002) if the '
    'tenant does not exist, the caller may not see it, or there is no current tenant. Fluxbase: tenant.get; Nile: '
    'tenants.get.';
REVOKE ALL ON FUNCTION @extschema@.tenant_get(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_get(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_get_by_slug(slug text)
    RETURNS SETOF fluxbase_tenant.tenant
    STABLE PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_get_by_slug_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_get_by_slug(text) IS
    'Returns the row of the tenant with the slug. Callable by members, instance admins and the tenant''s service '
    'context. Raises unauthenticated (28000) for an anonymous caller and not_found (P0002) if there is no such '
    'tenant, it is deleted, or the caller may not see it.';
REVOKE ALL ON FUNCTION @extschema@.tenant_get_by_slug(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_get_by_slug(text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list()
    RETURNS SETOF fluxbase_tenant.tenant
    STABLE STRICT PARALLEL SAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list() IS
    'Returns the rows of all tenants that are not deleted, oldest first. Callable by instance admins. Raises '
    'unauthenticated (28000) and forbidden (42501). Fluxbase: tenant.list.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_set_default(tenant_id uuid)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_set_default_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_set_default(uuid) IS
    'Makes a tenant the default one, which cannot be deleted. The previous default tenant loses this status. It has '
    'nothing to do with fluxbase_tenant.default_tenant. Callable by instance admins. Returns the tenant row. Raises '
    'unauthenticated (28000), forbidden (42501), not_found (P0002), and conflict (55000) if the tenant is deleted.';
REVOKE ALL ON FUNCTION @extschema@.tenant_set_default(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_set_default(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_update(
    tenant_id uuid DEFAULT NULL, name text DEFAULT NULL, metadata jsonb DEFAULT NULL
)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_update_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_update(uuid, text, jsonb) IS
    'Changes the name and the metadata of a tenant, by default of the current tenant. NULL leaves a value unchanged. '
    'metadata is a JSON object and replaces the old one as a whole. The slug cannot be changed. Callable by tenant '
    'admins, instance admins and the tenant''s service context. Returns the tenant row. Raises unauthenticated '
    '(28000), forbidden (42501), not_found (P0002) if the tenant does not exist, the caller may not see it, or there '
    'is no current tenant, invalid_argument (22023), and conflict (55000) if the tenant is suspended or deleted. '
    'Fluxbase: tenant.update; Nile: tenants.update.';
REVOKE ALL ON FUNCTION @extschema@.tenant_update(uuid, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_update(uuid, text, jsonb) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_mine()
    RETURNS TABLE (
        id uuid, slug text, name text, schema_name name, status text, is_default boolean, metadata jsonb,
        schema_version text, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz, my_role text
    )
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_mine_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_mine() IS
    'Returns the rows of the calling user''s tenants that are not deleted, oldest membership first. my_role is the '
    'user''s role: tenant_member or tenant_admin. Callable by any user. Raises unauthenticated (28000) if there is '
    'no current user. Fluxbase: tenant.listMine; Nile: tenants.list.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_mine() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_mine() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_delete(tenant_id uuid)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_delete_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_delete(uuid) IS
    'Deletes a tenant permanently: its schema with all data, its owner role, its members and its rows in shared '
    'tables. Rows of shared tables whose deletion would run code or wait for a lock are deleted after the commit by '
    'a background worker. Until then, they are not accessible, because their tenant no longer exists. Callable by '
    'instance admins. Returns the tenant row as it was. Raises unauthenticated (28000), forbidden (42501), not_found '
    '(P0002), and conflict (55000) for the default tenant. Fluxbase: tenant.delete.';
REVOKE ALL ON FUNCTION @extschema@.tenant_delete(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_delete(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_deleted()
    RETURNS SETOF fluxbase_tenant.tenant
    STABLE STRICT PARALLEL SAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_deleted_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_deleted() IS
    'Returns the rows of the soft-deleted tenants, longest deleted first. Callable by instance admins. Raises '
    'unauthenticated (28000) and forbidden (42501).';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_deleted() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_deleted() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_purge(older_than interval)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_purge_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_purge(interval) IS
    'Deletes permanently all tenants that were soft-deleted longer than older_than ago, and retries the removal of '
    'what earlier deletions left behind. It uses background workers, with one transaction for each tenant; inside a '
    'transaction block, it uses the caller''s transaction. Skips tenants that another session keeps locked for 5 '
    'seconds, with a WARNING. Callable by instance admins. Returns the rows of the deleted tenants as they were. '
    'Raises unauthenticated (28000), forbidden (42501), and invalid_argument (22023).';
REVOKE ALL ON FUNCTION @extschema@.tenant_purge(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_purge(interval) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_restore(tenant_id uuid)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_restore_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_restore(uuid) IS
    'Undoes tenant_soft_delete(). Callable by instance admins. Returns the tenant row. Raises unauthenticated '
    '(28000), forbidden (42501), not_found (P0002), and conflict (23505 if another tenant has the slug now; 55000 if '
    'the tenant is not deleted or the tenant limit is reached).';
REVOKE ALL ON FUNCTION @extschema@.tenant_restore(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_restore(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_resume(tenant_id uuid)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_resume_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_resume(uuid) IS
    'Undoes tenant_suspend(). Succeeds without effect if the tenant is not suspended. Callable by instance admins. '
    'Returns the tenant row. Raises unauthenticated (28000), forbidden (42501), not_found (P0002), and conflict '
    '(55000) if the tenant is deleted.';
REVOKE ALL ON FUNCTION @extschema@.tenant_resume(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_resume(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_soft_delete(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_soft_delete_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_soft_delete(uuid) IS
    'Marks a tenant as deleted and keeps its data; the slug can be reused. Succeeds without effect if the tenant is '
    'already soft-deleted. tenant_id is optional; the default is the current tenant, which must then be set '
    'explicitly: the oldest membership does not count. Callable by tenant admins, instance admins and the tenant''s '
    'service context. Returns the tenant row. Raises unauthenticated (28000), forbidden (42501), not_found (P0002) '
    'if the tenant does not exist, the caller may not see it, or there is no current tenant, and conflict (55000) '
    'for the default tenant. Nile: tenants.delete.';
REVOKE ALL ON FUNCTION @extschema@.tenant_soft_delete(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_soft_delete(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_suspend(tenant_id uuid)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_suspend_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_suspend(uuid) IS
    'Suspends a tenant: until tenant_resume(), only instance admins can access its data. Succeeds without effect if '
    'the tenant is already suspended. Callable by instance admins. Returns the tenant row. Raises unauthenticated '
    '(28000), forbidden (42501), not_found (P0002), and conflict (55000) if the tenant is deleted.';
REVOKE ALL ON FUNCTION @extschema@.tenant_suspend(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_suspend(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_repair(tenant_id uuid)
    RETURNS TABLE (object text, problem text)
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_repair_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_repair(uuid) IS
    'Restores the name of a tenant''s schema, its grants, ownership, owner role and policies, also of a deleted or '
    'spare tenant, and the grants and policies of the catalog. Callable by instance admins. Returns a row for each '
    'repair: object and problem; no rows if nothing had to be repaired. Raises unauthenticated (28000), forbidden '
    '(42501), not_found (P0002), and conflict (55000) if the tenant schema does not exist.';
REVOKE ALL ON FUNCTION @extschema@.tenant_repair(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_repair(uuid) TO fluxbase_tenant_user;
