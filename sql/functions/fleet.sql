-- Migrations of all tenants, and spare tenants.

CREATE FUNCTION @extschema@.tenant_migrate_all(
    target text DEFAULT NULL, parallel integer DEFAULT 2, tenants text[] DEFAULT NULL,
    lock_timeout interval DEFAULT '5 s', retries integer DEFAULT 3, stop_on_error boolean DEFAULT false,
    dry_run boolean DEFAULT false
)
    RETURNS TABLE (
        tenant_id uuid, slug text, status text, from_version text, to_version text, applied integer, duration interval,
        sqlstate text, error text
    )
    VOLATILE PARALLEL UNSAFE COST 1000000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migrate_all_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migrate_all(text, integer, text[], interval, integer, boolean, boolean) IS
    'Applies what is pending, up to target, to all tenants that lack something or to those in tenants (slugs or ids), '
    'in background workers, one transaction a tenant. Waits lock_timeout for a lock and tries again retries times. '
    'stop_on_error: takes on no tenant after a failure; dry_run: rolls everything back. Instance admins, outside a '
    'transaction block. Returns a row for each tenant visited. Errors: forbidden, invalid_argument, not_found, 25001 in '
    'a transaction block, 53400 without a background worker.';
REVOKE ALL ON FUNCTION @extschema@.tenant_migrate_all(text, integer, text[], interval, integer, boolean, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migrate_all(text, integer, text[], interval, integer, boolean, boolean) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_migration_progress()
    RETURNS TABLE (
        run_id uuid, started_at timestamptz, workers integer, total integer, done bigint, failed bigint,
        percent double precision, per_second double precision, eta interval, bar text
    )
    VOLATILE STRICT PARALLEL RESTRICTED COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migration_progress_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migration_progress() IS
    'How far each tenant_migrate_all() is that is under way, for \watch; rate in tenants per second. Instance admins. '
    'Errors: forbidden.';
REVOKE ALL ON FUNCTION @extschema@.tenant_migration_progress() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migration_progress() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_spares_fill(n integer DEFAULT NULL)
    RETURNS TABLE (made integer, migrated integer, dropped integer)
    VOLATILE PARALLEL UNSAFE COST 1000000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_spares_fill_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_spares_fill(integer) IS
    'Makes, migrates or drops spare tenants until there are n, by default fluxbase_tenant.spare_tenants, in the '
    'caller''s transaction. tenant_create() takes one and only renames it. Instance admins. Returns how many were made, '
    'migrated and dropped. Errors: forbidden, invalid_argument.';
REVOKE ALL ON FUNCTION @extschema@.tenant_spares_fill(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_spares_fill(integer) TO fluxbase_tenant_user;
