-- Functions for shared tables and for the audit of the installation.

CREATE FUNCTION @extschema@.tenant_protect(
    relation regclass, tenant_column name DEFAULT 'tenant_id', existing_rows uuid DEFAULT NULL
)
    RETURNS TABLE (object text, done text)
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_protect_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_protect(regclass, name, uuid) IS
    'Makes a table outside tenant schemas a shared table, in which each row belongs to a tenant. Adds what is '
    'missing: the tenant column, of type uuid, NOT NULL and with the current tenant as default; an index; and '
    'policies, also on partitions. When a tenant is deleted, its rows are deleted. The default for tenant_column is '
    'tenant_id. existing_rows is the tenant of rows that have none; it is required if there are such rows. Callable '
    'by instance admins who own the table. Returns a row for each change; no rows if the table is already protected. '
    'Raises unauthenticated (28000), forbidden (42501), not_found (P0002) for the tenant existing_rows, '
    'invalid_argument (22023) if relation is not a table or the column is not a plain uuid column, and conflict '
    '(55000) if rows have no tenant or one that does not exist, or the table is in a tenant schema or is a partition '
    'or child of a table that is not a shared table.';
REVOKE ALL ON FUNCTION @extschema@.tenant_protect(regclass, name, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_protect(regclass, name, uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_unprotect(relation regclass)
    RETURNS TABLE (object text, done text)
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_unprotect_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_unprotect(regclass) IS
    'Removes the policies and the column default that tenant_protect() added. The column and its index stay. '
    'Callable by instance admins who own the table. Returns a row for each change. Raises unauthenticated (28000), '
    'forbidden (42501), invalid_argument (22023) if relation is not a table, and conflict (55000) if the table is in '
    'a tenant schema.';
REVOKE ALL ON FUNCTION @extschema@.tenant_unprotect(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_unprotect(regclass) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_check()
    RETURNS TABLE (severity text, object text, problem text, fix text)
    STABLE STRICT PARALLEL UNSAFE COST 1000000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_check_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_check() IS
    'Audits the installation. Returns a row for each finding, errors first: severity, object, problem and fix; no '
    'rows if there are no findings. error means that tenants are not isolated or the catalog has lost data; warning '
    'means that this could happen. Waits for no lock. Callable by instance admins. Raises unauthenticated (28000) '
    'and forbidden (42501).';
REVOKE ALL ON FUNCTION @extschema@.tenant_check() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_check() TO fluxbase_tenant_user;
