-- Migrations of one tenant's schema, and what differs from them.

CREATE FUNCTION @extschema@.tenant_migration_add(
    version text, name text, up text, down text DEFAULT NULL, transactional boolean DEFAULT NULL
)
    RETURNS SETOF fluxbase_tenant.migration
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migration_add_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migration_add(text, text, text, text, boolean) IS
    'Registers a migration: version, name, the SQL in up, and in down what undoes it for tenant_rollback(). '
    'transactional false: runs outside a transaction, statement by statement, in tenant_migrate_all(). Markers of goose '
    'or dbmate in up divide it into up and down, and decide about transactional where it is left out. A version that '
    'begins with R__ is repeatable: it may change, and is applied again when it has. The same again is a no-op. Changes '
    'no tenant: see tenant_migrate(). Instance admins. Returns the migration row; checksum is SHA-256 in hexadecimal. '
    'Errors: forbidden, invalid_argument, conflict for another text under a used version, 42601 for what does not '
    'parse.';
REVOKE ALL ON FUNCTION @extschema@.tenant_migration_add(text, text, text, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migration_add(text, text, text, text, boolean) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_migration_list()
    RETURNS SETOF fluxbase_tenant.migration
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migration_list_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migration_list() IS
    'The registered migrations in the order of versions: numbers by value, then texts. Instance admins. Errors: '
    'forbidden.';
REVOKE ALL ON FUNCTION @extschema@.tenant_migration_list() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migration_list() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_migration_remove(version text)
    RETURNS SETOF fluxbase_tenant.migration
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migration_remove_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migration_remove(text) IS
    'Takes a migration back that no tenant has applied whole, and returns its row. Instance admins. Errors: forbidden, '
    'not_found, conflict (applied to a tenant).';
REVOKE ALL ON FUNCTION @extschema@.tenant_migration_remove(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migration_remove(text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_migrate(tenant_id uuid, target text DEFAULT NULL)
    RETURNS TABLE (tenant_id uuid, slug text, status text, from_version text, to_version text, applied integer)
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migrate_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migrate(uuid, text) IS
    'Applies what is pending to one tenant, up to and including target, in the caller''s transaction. status is '
    'migrated, also if nothing was pending (applied = 0), or skipped for a soft-deleted tenant. Instance admins. '
    'Errors: not_found, forbidden, invalid_argument for an unknown target, 25001 if one pending runs outside a '
    'transaction, and the failing statement''s own with version and statement in CONTEXT. Fluxbase: tenant.migrate.';
REVOKE ALL ON FUNCTION @extschema@.tenant_migrate(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migrate(uuid, text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_rollback(tenant_id uuid, target text)
    RETURNS TABLE (tenant_id uuid, slug text, from_version text, to_version text, undone integer)
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_rollback_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_rollback(uuid, text) IS
    'Undoes what one tenant has applied behind target, newest first, by the down scripts, in the caller''s transaction; '
    'target stays applied, 0 stands for none. Instance admins. Errors: not_found, forbidden, invalid_argument for an '
    'unknown target, conflict if a down script is missing, and the failing statement''s own.';
REVOKE ALL ON FUNCTION @extschema@.tenant_rollback(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_rollback(uuid, text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_migration_status()
    RETURNS TABLE (tenant_id uuid, slug text, version text, pending bigint, unfinished text, last_error text)
    STABLE STRICT PARALLEL SAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migration_status_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migration_status() IS
    'How far each tenant that is not deleted has come, oldest first: version, how many migrations are pending, which of '
    'those outside a transaction is under way or stopped half way, and why tenant_migrate_all() failed at its last '
    'visit. Instance admins. Errors: forbidden.';
REVOKE ALL ON FUNCTION @extschema@.tenant_migration_status() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migration_status() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_migrations_load(directory text)
    RETURNS TABLE (version text, name text, file text, status text)
    VOLATILE PARALLEL UNSAFE COST 100000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_migrations_load_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_migrations_load(text) IS
    'Registers the .sql files of a directory on the server, in the caller''s transaction, all or none: named and marked '
    'as golang-migrate, Flyway, dbmate or goose do, or VERSION_name.sql. Instance admins whose database role has the '
    'privileges of pg_read_server_files. Returns a row for each migration in the order of versions, status added, '
    'unchanged or changed (repeatable). Errors: forbidden, invalid_argument (directory, names, markers, duplicates, '
    'missing numbers), conflict (changed file, missing file, out of order), 42601 for what does not parse.';
REVOKE ALL ON FUNCTION @extschema@.tenant_migrations_load(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_migrations_load(text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_drift(tenant_id uuid DEFAULT NULL)
    RETURNS TABLE (tenant_id uuid, slug text, object text, problem text, expected text, found text)
    VOLATILE PARALLEL UNSAFE COST 1000000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_drift_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_drift(uuid) IS
    'What differs in a tenant''s schema from what its ledger says it should be, found by replaying the ledger into a '
    'scratch schema that is rolled back; NULL: of all tenants that are not deleted. Returns a row for each thing: '
    'object, problem (missing, unexpected, different, unfinished; locked where somebody else keeps a tenant of the '
    'fleet from being compared), expected, found; no rows: no drift. Instance admins. Errors: forbidden, not_found, and '
    'that of a migration that fails in an empty schema.';
REVOKE ALL ON FUNCTION @extschema@.tenant_drift(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_drift(uuid) TO fluxbase_tenant_user;
