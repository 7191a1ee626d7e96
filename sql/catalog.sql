-- The catalog: the extension's own tables. Constraints enforce every rule that a constraint can express, so that no
-- code can store contradictory data. There is one exception: the tables have no foreign keys. A parallel pg_restore
-- loads the tables in any order, and a foreign key that is violated during the load would leave a whole table empty.
-- Instead, a row that refers to a tenant or a migration is inserted while the referenced row is locked, and
-- tenant_check() finds rows that refer to a missing one.
--
-- All names are schema-qualified, so that nothing depends on the search_path.

CREATE SCHEMA fluxbase_tenant;
COMMENT ON SCHEMA fluxbase_tenant IS 'catalog of the extension fluxbase_tenant';

CREATE TABLE fluxbase_tenant.tenants (
    id             uuid PRIMARY KEY,
    slug           text NOT NULL,
    name           text NOT NULL,
    schema_name    name NOT NULL CONSTRAINT tenants_schema_name_key UNIQUE,
    status         text NOT NULL GENERATED ALWAYS AS (
                       CASE WHEN spare THEN 'spare'
                            WHEN deleted_at IS NOT NULL THEN 'deleted'
                            WHEN suspended_at IS NOT NULL THEN 'suspended'
                            ELSE 'active' END) STORED,
    spare          boolean NOT NULL DEFAULT false,
    is_default     boolean NOT NULL DEFAULT false,
    metadata       jsonb NOT NULL DEFAULT '{}',
    schema_version text,
    applied        integer NOT NULL DEFAULT 0,
    created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
    suspended_at   timestamptz,
    deleted_at     timestamptz,
    CONSTRAINT tenants_slug_check CHECK (slug ~ '^[a-z]([a-z0-9-]*[a-z0-9])?$' AND pg_catalog.length(slug) <= 63),
    CONSTRAINT tenants_name_check CHECK (name <> '' AND pg_catalog.length(name) <= 255),
    CONSTRAINT tenants_metadata_check CHECK (pg_catalog.jsonb_typeof(metadata) = 'object'),
    CONSTRAINT tenants_default_not_deleted_check CHECK (NOT is_default OR deleted_at IS NULL),
    CONSTRAINT tenants_spare_state_check CHECK (NOT (spare AND (is_default OR deleted_at IS NOT NULL OR suspended_at IS NOT NULL)))
);
-- A soft-deleted tenant does not keep its slug.
CREATE UNIQUE INDEX tenants_slug_key ON fluxbase_tenant.tenants (slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX tenants_one_default ON fluxbase_tenant.tenants (is_default) WHERE is_default;
CREATE INDEX tenants_spare ON fluxbase_tenant.tenants (id) WHERE spare;
COMMENT ON TABLE fluxbase_tenant.tenants IS 'tenants; members see their own tenants, instance admins see all';
COMMENT ON COLUMN fluxbase_tenant.tenants.status IS
    'active, suspended, deleted or spare; computed from suspended_at, deleted_at and spare';
COMMENT ON COLUMN fluxbase_tenant.tenants.spare IS
    'true: created in advance for tenant_create(), not assigned to a customer yet';
COMMENT ON COLUMN fluxbase_tenant.tenants.schema_version IS
    'highest version that was applied to the tenant schema, not counting repeatable migrations';
COMMENT ON COLUMN fluxbase_tenant.tenants.applied IS
    'sum of the revisions of the applied migrations; migrations are pending if it is less than the sum of all '
    'migrations';

CREATE TABLE fluxbase_tenant.members (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    user_id     uuid NOT NULL,
    role        text NOT NULL CONSTRAINT members_role_check CHECK (role IN ('tenant_admin', 'tenant_member')),
    assigned_by uuid,
    created_at  timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT members_tenant_user_key UNIQUE (tenant_id, user_id)
);
CREATE INDEX members_user_idx ON fluxbase_tenant.members (user_id, tenant_id);
COMMENT ON TABLE fluxbase_tenant.members IS 'which user has which role in which tenant';
COMMENT ON COLUMN fluxbase_tenant.members.assigned_by IS
    'user who assigned the role; NULL: a session without a current user';

CREATE TABLE fluxbase_tenant.instance_admins (
    user_id    uuid PRIMARY KEY,
    granted_by uuid,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE fluxbase_tenant.instance_admins IS 'instance admins: users who may do everything to every tenant';

CREATE TABLE fluxbase_tenant.migrations (
    version       text PRIMARY KEY CONSTRAINT migrations_version_check CHECK (version <> ''),
    sort_key      text COLLATE "C" NOT NULL CONSTRAINT migrations_sort_key_key UNIQUE,
    name          text NOT NULL,
    up            text NOT NULL,
    down          text,
    transactional boolean NOT NULL DEFAULT true,
    repeatable    boolean NOT NULL DEFAULT false,
    revision      integer NOT NULL DEFAULT 1,
    checksum      text NOT NULL CONSTRAINT migrations_checksum_check CHECK (checksum ~ '^[0-9a-f]{64}$'),
    created_at    timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE fluxbase_tenant.migrations IS 'registered migrations of the tenant schemas';
COMMENT ON COLUMN fluxbase_tenant.migrations.sort_key IS
    'order of versions: numbers by value, then texts, then repeatable migrations';
COMMENT ON COLUMN fluxbase_tenant.migrations.transactional IS
    'false: nontransactional, runs statement by statement, each in its own transactions';
COMMENT ON COLUMN fluxbase_tenant.migrations.repeatable IS
    'true: the scripts may change, and are applied again after each change';
COMMENT ON COLUMN fluxbase_tenant.migrations.revision IS
    'number of different scripts that a repeatable migration has had; 1 for other migrations';
COMMENT ON COLUMN fluxbase_tenant.migrations.checksum IS
    'SHA-256 of up and down, in hexadecimal, computed with line endings converted to LF';

CREATE TABLE fluxbase_tenant.applied_migrations (
    tenant_id  uuid NOT NULL,
    version    text NOT NULL,
    checksum   text NOT NULL,
    applied_by uuid,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (tenant_id, version)
);
COMMENT ON TABLE fluxbase_tenant.applied_migrations IS 'ledger: which migrations each tenant has applied';

CREATE TABLE fluxbase_tenant.unfinished_migrations (
    tenant_id       uuid PRIMARY KEY,
    version         text NOT NULL,
    checksum        text NOT NULL,
    statements      integer NOT NULL,
    statements_done integer NOT NULL DEFAULT 0,
    sqlstate        text,
    error           text,
    started_at      timestamptz NOT NULL DEFAULT pg_catalog.now(),
    updated_at      timestamptz NOT NULL DEFAULT pg_catalog.now(),
    CONSTRAINT unfinished_migrations_done_check CHECK (statements_done BETWEEN 0 AND statements)
);
COMMENT ON TABLE fluxbase_tenant.unfinished_migrations IS
    'nontransactional migrations that are running or were interrupted';
COMMENT ON COLUMN fluxbase_tenant.unfinished_migrations.statements_done IS
    'number of statements that are done; the next attempt continues after them';
COMMENT ON COLUMN fluxbase_tenant.unfinished_migrations.sqlstate IS
    'SQLSTATE of the failure; NULL: the next statement may have been executed without a record of it';
COMMENT ON COLUMN fluxbase_tenant.unfinished_migrations.error IS
    'message of the failure; NULL: running, or ended by a crash or a cancellation';

CREATE TABLE fluxbase_tenant.fleet_runs (
    id              uuid PRIMARY KEY,
    target          text,
    dry_run         boolean NOT NULL,
    workers         integer NOT NULL,
    total           integer NOT NULL,
    started_by      uuid,
    started_by_role name NOT NULL,
    started_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    finished_at     timestamptz
);
COMMENT ON TABLE fluxbase_tenant.fleet_runs IS 'history of the runs of tenant_migrate_all()';
COMMENT ON COLUMN fluxbase_tenant.fleet_runs.started_by IS
    'user who called tenant_migrate_all(); NULL: a session without a current user';
COMMENT ON COLUMN fluxbase_tenant.fleet_runs.finished_at IS 'NULL: running, or ended by a crash since the last run';

CREATE TABLE fluxbase_tenant.fleet_results (
    run_id       uuid NOT NULL,
    tenant_id    uuid NOT NULL,
    slug         text NOT NULL,
    status       text NOT NULL CONSTRAINT fleet_results_status_check CHECK (status IN ('migrated', 'failed', 'skipped')),
    from_version text,
    to_version   text,
    applied      integer NOT NULL,
    duration     interval NOT NULL,
    sqlstate     text,
    error        text,
    place        text,
    finished_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (run_id, tenant_id)
);
CREATE INDEX fleet_results_tenant_idx ON fluxbase_tenant.fleet_results (tenant_id, finished_at);
COMMENT ON TABLE fluxbase_tenant.fleet_results IS
    'outcome of each run of tenant_migrate_all() for each tenant that it visited';
COMMENT ON COLUMN fluxbase_tenant.fleet_results.place IS
    'where a failure occurred: the version of the migration and the position of the statement';

-- The type is like regclass, but reads the name of a nonexistent relation as 0 instead of raising an error. Otherwise,
-- if a dump is restored without one of the tables named in shared_tables or removals, all rows of that catalog table
-- would be lost.
CREATE TYPE fluxbase_tenant.relation;
CREATE FUNCTION fluxbase_tenant.relation_in(cstring) RETURNS fluxbase_tenant.relation STABLE STRICT PARALLEL SAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'relation_in_wrapper';
CREATE FUNCTION fluxbase_tenant.relation_out(fluxbase_tenant.relation) RETURNS cstring STABLE STRICT PARALLEL SAFE
    LANGUAGE internal AS 'regclassout';
CREATE TYPE fluxbase_tenant.relation (
    INPUT = fluxbase_tenant.relation_in, OUTPUT = fluxbase_tenant.relation_out, LIKE = pg_catalog.regclass
);
CREATE CAST (fluxbase_tenant.relation AS pg_catalog.oid) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (fluxbase_tenant.relation AS pg_catalog.regclass) WITHOUT FUNCTION;
CREATE CAST (pg_catalog.oid AS fluxbase_tenant.relation) WITHOUT FUNCTION;
COMMENT ON FUNCTION fluxbase_tenant.relation_in(cstring) IS
    'Input function of type relation. Returns the relation with the name, or 0 if there is none.';
REVOKE ALL ON FUNCTION fluxbase_tenant.relation_in(cstring) FROM PUBLIC;
COMMENT ON FUNCTION fluxbase_tenant.relation_out(fluxbase_tenant.relation) IS
    'Output function of type relation. Returns the name, as regclass prints it.';
REVOKE ALL ON FUNCTION fluxbase_tenant.relation_out(fluxbase_tenant.relation) FROM PUBLIC;
COMMENT ON TYPE fluxbase_tenant.relation IS 'a relation, written as its name; 0 if there is no relation with the name';

CREATE TABLE fluxbase_tenant.shared_tables (
    id            uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    relation      fluxbase_tenant.relation NOT NULL,
    tenant_column name NOT NULL,
    protected_at  timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE UNIQUE INDEX shared_tables_key ON fluxbase_tenant.shared_tables (relation) WHERE relation::pg_catalog.oid <> 0::pg_catalog.oid;
COMMENT ON COLUMN fluxbase_tenant.shared_tables.relation IS 'the table; 0 if it did not exist when a dump was restored';
COMMENT ON TABLE fluxbase_tenant.shared_tables IS
    'shared tables: tables outside tenant schemas that tenant_protect() protects; a partitioned table is listed by '
    'its root';
COMMENT ON COLUMN fluxbase_tenant.shared_tables.tenant_column IS
    'column that contains the id of the tenant of each row';

-- What must still be removed of deleted tenants, by a background worker. It is not accessible, because the tenant no
-- longer exists.
CREATE TABLE fluxbase_tenant.removals (
    id           uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    tenant_id    uuid NOT NULL,
    relation     fluxbase_tenant.relation,
    requested_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    attempts     integer NOT NULL DEFAULT 0,
    tried_at     timestamptz,
    error        text
);
CREATE UNIQUE INDEX removals_key ON fluxbase_tenant.removals (tenant_id, relation) NULLS NOT DISTINCT
    WHERE relation IS NULL OR relation::pg_catalog.oid <> 0::pg_catalog.oid;
COMMENT ON TABLE fluxbase_tenant.removals IS 'what a background worker must still remove of deleted tenants';
COMMENT ON COLUMN fluxbase_tenant.removals.relation IS
    'shared table that may contain rows of the tenant; NULL: the tenant''s owner role and what remains of its schema';
COMMENT ON COLUMN fluxbase_tenant.removals.error IS 'why the last attempt failed; NULL: not attempted yet';

-- Serializes two things. Sessions that create tenants while fluxbase_tenant.max_tenants is set take a lock that is
-- identified by this table. Transactions that change the default tenant update its only row. They update it instead of
-- only locking it, so that a REPEATABLE READ transaction with an older snapshot gets a serialization failure and does
-- not decide on stale data.
CREATE TABLE fluxbase_tenant.tenant_limit (
    only_row boolean PRIMARY KEY DEFAULT true CONSTRAINT tenant_limit_one_row CHECK (only_row),
    changes  bigint NOT NULL DEFAULT 0
);
INSERT INTO fluxbase_tenant.tenant_limit DEFAULT VALUES;
COMMENT ON TABLE fluxbase_tenant.tenant_limit IS
    'serializes the creation of tenants while fluxbase_tenant.max_tenants is set, and changes of the default tenant';

-- Make pg_dump include the rows of these tables. By default, it dumps only CREATE EXTENSION and no data of an
-- extension's tables. tenant_limit contains nothing to preserve.
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.tenants', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.members', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.instance_admins', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.migrations', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.applied_migrations', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.unfinished_migrations', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.fleet_runs', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.fleet_results', '');
-- Omit rows for dropped tables: after a restore, another table may have the OID.
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.shared_tables',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) relation::pg_catalog.oid)');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.removals',
    'WHERE relation IS NULL OR EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) relation::pg_catalog.oid)');
