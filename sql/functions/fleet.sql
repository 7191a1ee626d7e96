-- Functions for migrations of the fleet and for spare tenants.

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
    'Applies the pending migrations to all tenants in background workers, one transaction for each tenant; '
    'nontransactional migrations run in their own transactions. target is the last version to apply; the default is '
    'all. parallel is the number of workers, from 1 to 64; the default is 2. tenants names the tenants to visit, by '
    'slug or id; the default is all tenants with pending migrations. lock_timeout limits the wait for each lock; the '
    'default is 5 seconds, and 0 means no limit. After a lock timeout, a deadlock or a serialization failure, a '
    'tenant is tried again up to retries times, by default 3, at growing intervals. stop_on_error starts no further '
    'tenant after a failure. dry_run rolls everything back. Callable by instance admins, outside a transaction '
    'block. Returns a row for each visited tenant; status is migrated, failed, or skipped for a soft-deleted tenant. '
    'Raises unauthenticated (28000), forbidden (42501), invalid_argument (22023), not_found (P0002) for an unknown '
    'tenant, 25001 in a transaction block, and 53400 if no background worker can be started.';
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
    'Returns the progress of each run of tenant_migrate_all() that is under way, for use with \watch. total, done '
    'and failed count tenants, per_second is in tenants per second, and eta is the estimated remaining time. '
    'Callable by instance admins. Raises unauthenticated (28000) and forbidden (42501).';
REVOKE ALL ON FUNCTION @extschema@.tenant_migration_progress() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migration_progress() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_spares_fill(n integer DEFAULT NULL)
    RETURNS TABLE (made integer, migrated integer, dropped integer)
    VOLATILE PARALLEL UNSAFE COST 1000000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_spares_fill_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_spares_fill(integer) IS
    'Creates, migrates or drops spare tenants until there are n up-to-date and whole ones, in the caller''s '
    'transaction. n is optional; the default is fluxbase_tenant.spare_tenants. tenant_create() uses a spare tenant '
    'if there is one, and only has to rename it. Callable by instance admins. Returns how many spare tenants were '
    'made, migrated and dropped. Raises unauthenticated (28000), forbidden (42501), invalid_argument (22023) if n is '
    'not between 0 and 10000, conflict (55000) if a migration stores the name of its schema, and the error of a '
    'migration that fails.';
REVOKE ALL ON FUNCTION @extschema@.tenant_spares_fill(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_spares_fill(integer) TO fluxbase_tenant_user;
