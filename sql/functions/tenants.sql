-- Tenants: created, read, changed, deleted.

CREATE FUNCTION @extschema@.tenant_clone(
    source uuid, slug text DEFAULT NULL, name text DEFAULT NULL, with_data boolean DEFAULT false
)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_clone_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_clone(uuid, text, text, boolean) IS
    'Creates a tenant like another one: its schema by the migrations in the source''s ledger, its metadata, and '
    'with_data its rows and where its sequences are; writers of the source wait meanwhile. Without slug one is made '
    'from name, without name it is the source''s. The calling user becomes tenant_admin. Instance admins. Returns the '
    'new tenant row. Errors: not_found, forbidden, invalid_argument, conflict (23505 slug taken; 55000 source deleted, '
    'or with something that no migration makes).';
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
    'Creates a tenant: its row, schema, owner role, grants and all registered migrations, in the caller''s transaction. '
    'Without slug one is made from name, which is required. The calling user or admin_user_id becomes tenant_admin. '
    'Instance admins; under create_policy authenticated any user, who may choose neither id nor another admin. Returns '
    'the new tenant row. Errors: invalid_argument, forbidden, conflict (23505 slug taken, 55000 limit reached or id in '
    'use), and those of a migration. Fluxbase: tenant.create; Nile: tenants.create.';
REVOKE ALL ON FUNCTION @extschema@.tenant_create(text, text, jsonb, uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_create(text, text, jsonb, uuid, uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_get(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.tenant
    STABLE PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_get_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_get(uuid) IS
    'The tenant row of one tenant, by default the current one. Members and instance admins. Errors: not_found, also for '
    'tenants that are not the caller''s to see. Fluxbase: tenant.get; Nile: tenants.get.';
REVOKE ALL ON FUNCTION @extschema@.tenant_get(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_get(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_get_by_slug(slug text)
    RETURNS SETOF fluxbase_tenant.tenant
    STABLE PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_get_by_slug_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_get_by_slug(text) IS
    'The tenant row of one tenant, by slug. Members and instance admins. Errors: not_found, also for tenants that are '
    'not the caller''s to see.';
REVOKE ALL ON FUNCTION @extschema@.tenant_get_by_slug(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_get_by_slug(text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list()
    RETURNS SETOF fluxbase_tenant.tenant
    STABLE STRICT PARALLEL SAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list() IS
    'The tenant rows of all tenants that are not deleted, oldest first. Instance admins. Errors: forbidden. Fluxbase: '
    'tenant.list.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_set_default(tenant_id uuid)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_set_default_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_set_default(uuid) IS
    'Makes a tenant the default one, which cannot be deleted; the former default is none any more. Instance admins. '
    'Returns the tenant row. Errors: not_found, forbidden, conflict if deleted.';
REVOKE ALL ON FUNCTION @extschema@.tenant_set_default(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_set_default(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_update(
    tenant_id uuid DEFAULT NULL, name text DEFAULT NULL, metadata jsonb DEFAULT NULL
)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_update_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_update(uuid, text, jsonb) IS
    'Changes name and metadata of a tenant, by default the current one; NULL leaves as it is, metadata is replaced '
    'whole, the slug never changes. Tenant admins. Returns the tenant row. Errors: not_found, forbidden, '
    'invalid_argument, conflict if suspended. Fluxbase: tenant.update; Nile: tenants.update.';
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
    'The tenant rows of the calling user''s tenants that are not deleted, with my_role, oldest membership first; no '
    'rows if there are none. Errors: unauthenticated without a current user. Fluxbase: tenant.listMine; Nile: '
    'tenants.list.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_mine() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_mine() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_delete(tenant_id uuid)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_delete_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_delete(uuid) IS
    'Deletes a tenant for good: schema, data, owner role, members. Rows of shared tables whose removal runs code or has '
    'to wait are removed after the commit, by a background worker; until then nobody reaches them. Instance admins. '
    'Returns the tenant row as it was. Errors: not_found, forbidden, conflict for the default tenant. Fluxbase: '
    'tenant.delete.';
REVOKE ALL ON FUNCTION @extschema@.tenant_delete(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_delete(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_deleted()
    RETURNS SETOF fluxbase_tenant.tenant
    STABLE STRICT PARALLEL SAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_deleted_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_deleted() IS
    'The tenant rows of the soft-deleted tenants, longest deleted first. Instance admins. Errors: forbidden.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_deleted() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_deleted() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_purge(older_than interval)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_purge_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_purge(interval) IS
    'Deletes for good what was soft-deleted longer ago than older_than, and tries again what is left of earlier '
    'deletions, in background workers and a transaction for each tenant; in the caller''s transaction where that is a '
    'block. Instance admins. Returns the tenant rows as they were. Errors: forbidden.';
REVOKE ALL ON FUNCTION @extschema@.tenant_purge(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_purge(interval) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_restore(tenant_id uuid)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_restore_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_restore(uuid) IS
    'Undoes tenant_soft_delete(). Instance admins. Returns the tenant row. Errors: not_found, forbidden, conflict '
    '(23505 if the slug was reused, 55000 if not deleted or the limit is reached).';
REVOKE ALL ON FUNCTION @extschema@.tenant_restore(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_restore(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_resume(tenant_id uuid)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_resume_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_resume(uuid) IS
    'Undoes tenant_suspend(); again: the same success. Instance admins. Returns the tenant row. Errors: not_found, '
    'forbidden, conflict if deleted.';
REVOKE ALL ON FUNCTION @extschema@.tenant_resume(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_resume(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_soft_delete(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_soft_delete_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_soft_delete(uuid) IS
    'Marks a tenant as deleted and keeps its data; again: the same success. Without an argument the current tenant must '
    'have been set, not just found by membership. Tenant admins. Returns the tenant row. Errors: not_found, forbidden, '
    'conflict for the default tenant. Nile: tenants.delete.';
REVOKE ALL ON FUNCTION @extschema@.tenant_soft_delete(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_soft_delete(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_suspend(tenant_id uuid)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_suspend_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_suspend(uuid) IS
    'Keeps everybody but instance admins from a tenant''s data; again: the same success. Instance admins. Returns the '
    'tenant row. Errors: not_found, forbidden, conflict if deleted.';
REVOKE ALL ON FUNCTION @extschema@.tenant_suspend(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_suspend(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_repair(tenant_id uuid)
    RETURNS TABLE (object text, problem text)
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_repair_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_repair(uuid) IS
    'Puts back a tenant''s grants, ownership, owner role and policies, and the grants and policies of the catalog. '
    'Instance admins. Returns a row for each thing repaired: object, problem. Errors: not_found, forbidden, conflict if '
    'the schema is missing.';
REVOKE ALL ON FUNCTION @extschema@.tenant_repair(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_repair(uuid) TO fluxbase_tenant_user;
