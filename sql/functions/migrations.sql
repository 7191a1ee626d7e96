-- Functions that register migrations, apply them to one tenant and report drift.

CREATE FUNCTION @extschema@.tenant_migration_add(
    version text, name text, up text, down text DEFAULT NULL, transactional boolean DEFAULT NULL
)
    RETURNS SETOF fluxbase_tenant.migration
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migration_add_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migration_add(text, text, text, text, boolean) IS
    'Registers a migration. up is its SQL, and down the SQL that undoes it for tenant_rollback(); down is optional. '
    'transactional is true by default; false makes the migration nontransactional: tenant_migrate_all() runs it '
    'statement by statement, each in its own transactions. Markers of goose or dbmate in up divide it into up and '
    'down, and set transactional if it is not passed. A version that begins with R__ is repeatable: its SQL may '
    'change, and is applied again after each change. Registering the same migration again has no effect. Changes no '
    'tenant: see tenant_migrate(). Callable by instance admins. Returns the migration row; checksum is SHA-256 in '
    'hexadecimal. Raises unauthenticated (28000), forbidden (42501), invalid_argument (22023), conflict (55000) if '
    'the version is registered with other SQL, and syntax_error (42601) if the SQL does not parse.';
REVOKE ALL ON FUNCTION @extschema@.tenant_migration_add(text, text, text, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migration_add(text, text, text, text, boolean) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_migration_list()
    RETURNS SETOF fluxbase_tenant.migration
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migration_list_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migration_list() IS
    'Returns the registered migrations in the order of versions: numbers by value, then texts, then repeatable '
    'migrations. Callable by instance admins. Raises unauthenticated (28000) and forbidden (42501).';
REVOKE ALL ON FUNCTION @extschema@.tenant_migration_list() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migration_list() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_migration_remove(version text)
    RETURNS SETOF fluxbase_tenant.migration
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migration_remove_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migration_remove(text) IS
    'Removes a registered migration that no tenant has fully applied. Callable by instance admins. Returns the '
    'migration row as it was. Raises unauthenticated (28000), forbidden (42501), not_found (P0002) if the version is '
    'not registered, and conflict (55000) if a tenant has applied it.';
REVOKE ALL ON FUNCTION @extschema@.tenant_migration_remove(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migration_remove(text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_migrate(tenant_id uuid, target text DEFAULT NULL)
    RETURNS TABLE (tenant_id uuid, slug text, status text, from_version text, to_version text, applied integer)
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migrate_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migrate(uuid, text) IS
    'Applies the pending migrations to one tenant, up to and including target, in the caller''s transaction. target '
    'is optional; the default is all. status is migrated, also if nothing was pending (applied is 0), or skipped for '
    'a soft-deleted tenant. Callable by instance admins. Raises unauthenticated (28000), forbidden (42501), '
    'not_found (P0002), invalid_argument (22023) for an unknown target, 25001 if a pending migration is '
    'nontransactional, and the error of the failing statement, with the version and the statement in CONTEXT. '
    'Fluxbase: tenant.migrate.';
REVOKE ALL ON FUNCTION @extschema@.tenant_migrate(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migrate(uuid, text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_rollback(tenant_id uuid, target text)
    RETURNS TABLE (tenant_id uuid, slug text, from_version text, to_version text, undone integer)
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_rollback_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_rollback(uuid, text) IS
    'Undoes the migrations that a tenant has applied after target, newest first, by their down scripts, in the '
    'caller''s transaction. target itself stays applied; 0 undoes all. Repeatable migrations are not undone. '
    'Callable by instance admins. Raises unauthenticated (28000), forbidden (42501), not_found (P0002), '
    'invalid_argument (22023) for an unknown target, conflict (55000) if a down script is missing, the tenant is '
    'deleted or a migration is unfinished, and the error of the failing statement.';
REVOKE ALL ON FUNCTION @extschema@.tenant_rollback(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_rollback(uuid, text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_migration_status()
    RETURNS TABLE (tenant_id uuid, slug text, version text, pending bigint, unfinished text, last_error text)
    STABLE STRICT PARALLEL SAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migration_status_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migration_status() IS
    'Returns the migration status of each tenant that is not deleted, oldest first: version, the number of pending '
    'migrations, the unfinished migration with the number of its statements done, and last_error, the error of the '
    'last visit of tenant_migrate_all() if it failed. Callable by instance admins. Raises unauthenticated (28000) '
    'and forbidden (42501).';
REVOKE ALL ON FUNCTION @extschema@.tenant_migration_status() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migration_status() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_migrations_load(directory text)
    RETURNS TABLE (version text, name text, file text, status text)
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migrations_load_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migrations_load(text) IS
    'Registers all .sql files of a directory on the server, in the caller''s transaction. On an error, it registers '
    'none. The names and markers are those of golang-migrate, Flyway, dbmate or goose, or the name is '
    'VERSION_name.sql. Changes no tenant: see tenant_migrate(). Callable by instance admins whose database role has '
    'the privileges of pg_read_server_files. Returns a row for each migration in the order of versions; status is '
    'added, unchanged, or changed (repeatable). Raises unauthenticated (28000), forbidden (42501), invalid_argument '
    '(22023) for an unsuitable directory, name or marker, a duplicate version or a missing number, conflict (55000) '
    'for a changed or missing file or a version out of order, and syntax_error (42601) if the SQL does not parse.';
REVOKE ALL ON FUNCTION @extschema@.tenant_migrations_load(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migrations_load(text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_drift(tenant_id uuid DEFAULT NULL)
    RETURNS TABLE (tenant_id uuid, slug text, object text, problem text, expected text, found text)
    VOLATILE PARALLEL UNSAFE COST 1000000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_drift_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_drift(uuid) IS
    'Reports how a tenant schema differs from its ledger, by applying the ledger to a scratch schema, which is '
    'rolled back. tenant_id is optional; the default is all tenants that are not deleted. Returns a row for each '
    'difference: object, problem, expected and found; no rows if there is no drift. problem is missing, unexpected '
    'or different; for a migration also unfinished; and locked if, in a comparison of all tenants, another session '
    'kept the schema locked for 2 seconds. Callable by instance admins. Raises unauthenticated (28000), forbidden '
    '(42501), not_found (P0002), and the error of a migration that fails in an empty schema.';
REVOKE ALL ON FUNCTION @extschema@.tenant_drift(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_drift(uuid) TO fluxbase_tenant_user;
