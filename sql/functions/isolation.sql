-- Shared tables, and the audit of the installation.

CREATE FUNCTION @extschema@.tenant_protect(
    relation regclass, tenant_column name DEFAULT 'tenant_id', existing_rows uuid DEFAULT NULL
)
    RETURNS TABLE (object text, done text)
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_protect_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_protect(regclass, name, uuid) IS
    'Makes a table outside the tenant schemas a shared one, each row of which belongs to a tenant: a column with the '
    'current tenant as default, NOT NULL, index, and policies, on partitions too; rows go when their tenant is deleted. '
    'Existing rows are given to existing_rows. Instance admins who own the table. Returns a row for each thing done, '
    'none the second time. Errors: unauthenticated, forbidden, invalid_argument (no table, column not uuid), conflict '
    '(rows without a tenant or of one that does not exist, table of a tenant), not_found.';
REVOKE ALL ON FUNCTION @extschema@.tenant_protect(regclass, name, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_protect(regclass, name, uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_unprotect(relation regclass)
    RETURNS TABLE (object text, done text)
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_unprotect_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_unprotect(regclass) IS
    'Takes the policies and the default of tenant_protect() away; column and index stay. Instance admins who own the '
    'table. Returns a row for each thing done. Errors: unauthenticated, forbidden, invalid_argument, conflict.';
REVOKE ALL ON FUNCTION @extschema@.tenant_unprotect(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_unprotect(regclass) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_check()
    RETURNS TABLE (severity text, object text, problem text, fix text)
    STABLE STRICT PARALLEL UNSAFE COST 1000000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_check_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_check() IS
    'Audits the installation: a row for each finding with severity (error: tenants are not kept apart, or the catalog '
    'has lost something; warning: neither, by what may change), object, problem and fix, worst first; no rows: nothing '
    'found. Waits for nobody. Instance admins. Errors: forbidden.';
REVOKE ALL ON FUNCTION @extschema@.tenant_check() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_check() TO fluxbase_tenant_user;
