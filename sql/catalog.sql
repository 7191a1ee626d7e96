-- The catalog: the extension's own tables. Every rule that a constraint can hold is a constraint, so that no code path
-- can leave a contradiction behind, with one exception: there are no foreign keys. A parallel pg_restore loads these tables
-- in any order, and a key would leave a whole table empty. What refers to a tenant or a migration is written while that row
-- is locked, and tenant_check() finds what refers to none.
-- Names are qualified throughout: nothing here depends on the search_path.

CREATE SCHEMA fluxbase_tenant;
COMMENT ON SCHEMA fluxbase_tenant IS 'catalog of the fluxbase_tenant extension';

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
-- A soft-deleted tenant frees its slug.
CREATE UNIQUE INDEX tenants_slug_key ON fluxbase_tenant.tenants (slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX tenants_one_default ON fluxbase_tenant.tenants (is_default) WHERE is_default;
CREATE INDEX tenants_spare ON fluxbase_tenant.tenants (id) WHERE spare;
COMMENT ON TABLE fluxbase_tenant.tenants IS 'one row per customer; members see their own, instance admins all';
COMMENT ON COLUMN fluxbase_tenant.tenants.status IS 'active, suspended, deleted or spare; follows from suspended_at, deleted_at and spare';
COMMENT ON COLUMN fluxbase_tenant.tenants.spare IS 'made beforehand for tenant_create(), and no tenant yet';
COMMENT ON COLUMN fluxbase_tenant.tenants.schema_version IS 'highest migration version applied to the tenant schema';
COMMENT ON COLUMN fluxbase_tenant.tenants.applied IS 'sum of the revisions of what is applied: less than that of all migrations means pending';

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
COMMENT ON COLUMN fluxbase_tenant.members.assigned_by IS 'user who gave the role; NULL: a back end without a user';

CREATE TABLE fluxbase_tenant.instance_admins (
    user_id    uuid PRIMARY KEY,
    granted_by uuid,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE fluxbase_tenant.instance_admins IS 'users who may do everything to every tenant';

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
COMMENT ON TABLE fluxbase_tenant.migrations IS 'scripts that make up every tenant schema';
COMMENT ON COLUMN fluxbase_tenant.migrations.sort_key IS 'orders versions: numbers by value, then texts, then repeatable ones';
COMMENT ON COLUMN fluxbase_tenant.migrations.transactional IS 'false: runs outside a transaction, statement by statement';
COMMENT ON COLUMN fluxbase_tenant.migrations.repeatable IS 'true: may change, and is applied again when it has';
COMMENT ON COLUMN fluxbase_tenant.migrations.revision IS 'how many texts a repeatable one has had';
COMMENT ON COLUMN fluxbase_tenant.migrations.checksum IS 'SHA-256 of up and down with line endings folded to LF';

CREATE TABLE fluxbase_tenant.applied_migrations (
    tenant_id  uuid NOT NULL,
    version    text NOT NULL,
    checksum   text NOT NULL,
    applied_by uuid,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (tenant_id, version)
);
COMMENT ON TABLE fluxbase_tenant.applied_migrations IS 'ledger: which migration was applied to which tenant';

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
COMMENT ON TABLE fluxbase_tenant.unfinished_migrations IS 'migrations outside a transaction that are under way or stopped half way';
COMMENT ON COLUMN fluxbase_tenant.unfinished_migrations.statements_done IS 'the next run goes on behind these';
COMMENT ON COLUMN fluxbase_tenant.unfinished_migrations.sqlstate IS 'NULL: an attempt at the next statement may have done it and not said so';
COMMENT ON COLUMN fluxbase_tenant.unfinished_migrations.error IS 'NULL: under way, or ended by a crash or a cancel';

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
COMMENT ON TABLE fluxbase_tenant.fleet_runs IS 'history of tenant_migrate_all()';
COMMENT ON COLUMN fluxbase_tenant.fleet_runs.started_by IS 'user who called; NULL: a database role without a user';
COMMENT ON COLUMN fluxbase_tenant.fleet_runs.finished_at IS 'NULL: under way, or ended by a crash';

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
COMMENT ON TABLE fluxbase_tenant.fleet_results IS 'what tenant_migrate_all() did to each tenant that it visited';
COMMENT ON COLUMN fluxbase_tenant.fleet_results.place IS 'of a failure: the migration''s version and the position of the statement';

-- As regclass, but that a name which means nothing is no error: in a restore that lacks one table, whoever made it so, all rows of
-- the tables below would be lost. Such a name reads as 0.
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
COMMENT ON FUNCTION fluxbase_tenant.relation_in(cstring) IS 'Input of the type relation: the relation of that name, 0 where there is none.';
REVOKE ALL ON FUNCTION fluxbase_tenant.relation_in(cstring) FROM PUBLIC;
COMMENT ON FUNCTION fluxbase_tenant.relation_out(fluxbase_tenant.relation) IS 'Output of the type relation: the name, as regclass prints it.';
REVOKE ALL ON FUNCTION fluxbase_tenant.relation_out(fluxbase_tenant.relation) FROM PUBLIC;
COMMENT ON TYPE fluxbase_tenant.relation IS 'a relation by its name; 0 where there is none of that name';

CREATE TABLE fluxbase_tenant.shared_tables (
    id            uuid PRIMARY KEY DEFAULT pg_catalog.gen_random_uuid(),
    relation      fluxbase_tenant.relation NOT NULL,
    tenant_column name NOT NULL,
    protected_at  timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE UNIQUE INDEX shared_tables_key ON fluxbase_tenant.shared_tables (relation) WHERE relation::pg_catalog.oid <> 0::pg_catalog.oid;
COMMENT ON COLUMN fluxbase_tenant.shared_tables.relation IS 'the table; 0 where a restored dump had none of its name';
COMMENT ON TABLE fluxbase_tenant.shared_tables IS 'tables outside the tenant schemas that tenant_protect() protects; partitions follow their root';
COMMENT ON COLUMN fluxbase_tenant.shared_tables.tenant_column IS 'holds the tenant of each row';

-- What is left to remove of deleted tenants. The tenant is gone, so nobody can reach it; a background worker removes it.
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
COMMENT ON TABLE fluxbase_tenant.removals IS 'what is left to remove of deleted tenants; a background worker does it';
COMMENT ON COLUMN fluxbase_tenant.removals.relation IS 'shared table that may hold rows of the tenant; NULL: its owner role';
COMMENT ON COLUMN fluxbase_tenant.removals.error IS 'why the last attempt failed; NULL: none has, yet';

-- One row that is locked by creators of tenants while fluxbase_tenant.max_tenants is set, and by who moves the default. It
-- is updated, not just locked, so that a REPEATABLE READ transaction with an older snapshot gets a serialization failure
-- instead of a stale answer.
CREATE TABLE fluxbase_tenant.tenant_limit (
    only_row boolean PRIMARY KEY DEFAULT true CONSTRAINT tenant_limit_one_row CHECK (only_row),
    taken    bigint NOT NULL DEFAULT 0
);
INSERT INTO fluxbase_tenant.tenant_limit DEFAULT VALUES;
COMMENT ON TABLE fluxbase_tenant.tenant_limit IS 'serializes creators while fluxbase_tenant.max_tenants is set, and changes of the default tenant';

-- pg_dump keeps the rows; without this it would leave the tables to CREATE EXTENSION and lose them. tenant_limit holds
-- nothing worth keeping.
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.tenants', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.members', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.instance_admins', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.migrations', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.applied_migrations', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.unfinished_migrations', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.fleet_runs', '');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.fleet_results', '');
-- Not those of tables that were dropped: their oid would be somebody else's after a restore.
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.shared_tables',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) relation::pg_catalog.oid)');
SELECT pg_catalog.pg_extension_config_dump('fluxbase_tenant.removals',
    'WHERE relation IS NULL OR EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid OPERATOR(pg_catalog.=) relation::pg_catalog.oid)');
