-- Run by CREATE EXTENSION fluxbase_tenant. Generated from the files in sql/ by `make schema`: edit those.
\echo Use "CREATE EXTENSION fluxbase_tenant" to load this file. \quit

-- sql/catalog.sql

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

-- sql/types.sql

-- The row types that most functions return.

CREATE TYPE fluxbase_tenant.tenant AS (
    id uuid, slug text, name text, schema_name name, status text, is_default boolean, metadata jsonb, schema_version text,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz
);
COMMENT ON TYPE fluxbase_tenant.tenant IS 'a tenant row, as the functions return it';

CREATE TYPE fluxbase_tenant.member AS (
    id uuid, tenant_id uuid, user_id uuid, email text, role text, assigned_by uuid, created_at timestamptz
);
COMMENT ON TYPE fluxbase_tenant.member IS
    'a member row: the membership of a user in a tenant, as the functions return it';

CREATE TYPE fluxbase_tenant.instance_admin AS (user_id uuid, granted_by uuid, created_at timestamptz);
COMMENT ON TYPE fluxbase_tenant.instance_admin IS
    'an instance admin: a user who may do everything to every tenant, as the functions return it';

CREATE TYPE fluxbase_tenant.migration AS (
    version text, name text, up text, down text, transactional boolean, repeatable boolean, checksum text, created_at timestamptz
);
COMMENT ON TYPE fluxbase_tenant.migration IS 'a registered migration, as the functions return it';

-- Without USAGE, no role except superusers can create a table column of these types, so a new version of the extension
-- can change them.
REVOKE USAGE ON TYPE
    fluxbase_tenant.tenant, fluxbase_tenant.member, fluxbase_tenant.instance_admin, fluxbase_tenant.migration
    FROM PUBLIC;

-- sql/roles.sql

-- The database roles: NOLOGIN group roles, like PostgreSQL's predefined roles. Roles and privileges on settings are
-- shared by all databases of the cluster, so CREATE EXTENSION in another database may have created them or may be
-- creating them now. The lock lets only one session do this at a time.
LOCK TABLE pg_catalog.pg_parameter_acl IN SHARE ROW EXCLUSIVE MODE;

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['fluxbase_tenant_user', 'fluxbase_tenant_server', 'fluxbase_tenant_admin',
                                  'fluxbase_tenant_owner'] LOOP
        IF pg_catalog.to_regrole(wanted) IS NULL THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END
$$;

GRANT fluxbase_tenant_user TO fluxbase_tenant_server, fluxbase_tenant_admin;
GRANT SET ON PARAMETER fluxbase_tenant.user_id, fluxbase_tenant.tenant_id TO fluxbase_tenant_server;

-- sql/functions/internal.sql

-- Functions in the catalog's schema, for internal use: policies, views, event triggers and triggers call them.

CREATE FUNCTION fluxbase_tenant.accessible_support(internal)
    RETURNS internal
    IMMUTABLE STRICT PARALLEL SAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'accessible_support_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.accessible_support(internal) IS
    'Planner support function of accessible(): replaces the call with true if the executor-start check covers the '
    'query.';
REVOKE ALL ON FUNCTION fluxbase_tenant.accessible_support(internal) FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.installed_support(internal)
    RETURNS internal
    IMMUTABLE STRICT PARALLEL SAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'installed_support_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.installed_support(internal) IS
    'Planner support function of installed(): replaces the call with true, so that it is not executed for each '
    'policy.';
REVOKE ALL ON FUNCTION fluxbase_tenant.installed_support(internal) FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.accessible(tenant_id uuid)
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100 SUPPORT fluxbase_tenant.accessible_support
    LANGUAGE c AS 'MODULE_PATHNAME', 'accessible_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.accessible(uuid) IS
    'Reports whether the tables of a tenant are accessible to the caller now. The policy tenant_isolation of every '
    'such table calls it.';
REVOKE ALL ON FUNCTION fluxbase_tenant.accessible(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fluxbase_tenant.accessible(uuid) TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION fluxbase_tenant.installed()
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 1 SUPPORT fluxbase_tenant.installed_support
    LANGUAGE c AS 'MODULE_PATHNAME', 'installed_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.installed() IS
    'Returns true. The policy tenant_access calls it, so that DROP EXTENSION ... CASCADE drops that policy too and '
    'leaves the tables inaccessible.';
REVOKE ALL ON FUNCTION fluxbase_tenant.installed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fluxbase_tenant.installed() TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION fluxbase_tenant.nextval(sequence regclass)
    RETURNS bigint
    VOLATILE STRICT PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'nextval_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.nextval(regclass) IS
    'Returns the next value of a sequence in an accessible tenant''s schema. No role is granted such sequences, so '
    'the defaults of serial columns in tenant schemas call this function. For other sequences, requires the '
    'caller''s own privileges, as pg_catalog.nextval() does. Raises forbidden (42501).';
REVOKE ALL ON FUNCTION fluxbase_tenant.nextval(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fluxbase_tenant.nextval(regclass) TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION fluxbase_tenant.visible_tenant_ids()
    RETURNS uuid[]
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'visible_tenant_ids_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.visible_tenant_ids() IS
    'Returns the ids of the tenants whose catalog rows the caller may see. The policies of the catalog call it. '
    'Instance admins see all rows, so it returns no ids for them.';
REVOKE ALL ON FUNCTION fluxbase_tenant.visible_tenant_ids() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fluxbase_tenant.visible_tenant_ids() TO fluxbase_tenant_user;

CREATE FUNCTION fluxbase_tenant.accessible_tenant_ids()
    RETURNS uuid[]
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'accessible_tenant_ids_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.accessible_tenant_ids() IS
    'Returns the ids of the tenants whose rows in shared tables are accessible to the caller now. The policies of '
    'shared tables call it.';
REVOKE ALL ON FUNCTION fluxbase_tenant.accessible_tenant_ids() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fluxbase_tenant.accessible_tenant_ids() TO fluxbase_tenant_user;

CREATE FUNCTION fluxbase_tenant.policy_tenant(condition pg_node_tree)
    RETURNS uuid
    STABLE STRICT PARALLEL SAFE COST 10
    LANGUAGE c AS 'MODULE_PATHNAME', 'policy_tenant_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.policy_tenant(pg_node_tree) IS
    'Returns the tenant in a policy condition that consists of a call of accessible(); NULL for any other condition.';
REVOKE ALL ON FUNCTION fluxbase_tenant.policy_tenant(pg_node_tree) FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.policy_column(condition pg_node_tree)
    RETURNS smallint
    STABLE STRICT PARALLEL SAFE COST 10
    LANGUAGE c AS 'MODULE_PATHNAME', 'policy_column_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.policy_column(pg_node_tree) IS
    'Returns the attribute number of the tenant column in a policy condition that only compares it with '
    'accessible_tenant_ids(); NULL for any other condition.';
REVOKE ALL ON FUNCTION fluxbase_tenant.policy_column(pg_node_tree) FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.before_command()
    RETURNS event_trigger
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'before_command_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.before_command() IS
    'Event trigger function. Rejects DROP OWNED BY the extension''s roles, GRANT and REVOKE on objects of tenants '
    'and of the catalog by roles that do not own them, and other commands that would lock such objects before '
    'PostgreSQL checks privileges. Raises forbidden (42501).';
REVOKE ALL ON FUNCTION fluxbase_tenant.before_command() FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.after_command()
    RETURNS event_trigger
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'after_command_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.after_command() IS
    'Event trigger function. Adds the policies to new relations in tenant schemas, and rejects commands that weaken '
    'these policies. Raises forbidden (42501).';
REVOKE ALL ON FUNCTION fluxbase_tenant.after_command() FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.after_any_command()
    RETURNS event_trigger
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'after_any_command_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.after_any_command() IS
    'Event trigger function. Rejects objects that depend on an object in the schema of a tenant that is not '
    'accessible to the caller. Raises forbidden (42501).';
REVOKE ALL ON FUNCTION fluxbase_tenant.after_any_command() FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.after_drop()
    RETURNS event_trigger
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'after_drop_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.after_drop() IS
    'Event trigger function. Rejects DROP POLICY of the policy tenant_isolation. Raises forbidden (42501).';
REVOKE ALL ON FUNCTION fluxbase_tenant.after_drop() FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.catalog_changed()
    RETURNS trigger
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'catalog_changed_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.catalog_changed() IS
    'Trigger function of the catalog''s tables. Announces a change, so that all sessions clear their caches of '
    'access decisions.';
REVOKE ALL ON FUNCTION fluxbase_tenant.catalog_changed() FROM PUBLIC;

-- sql/functions/session.sql

-- Functions for the session: the current user and tenant, and access checks for policies of the application.

CREATE FUNCTION @extschema@.tenant_current()
    RETURNS SETOF fluxbase_tenant.tenant
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_current_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_current() IS
    'Returns the row of the current tenant; no row if there is no current tenant. Raises not_found (P0002) if the '
    'current tenant is set and does not exist or the caller may not see it, and 22P02 if the setting is malformed.';
REVOKE ALL ON FUNCTION @extschema@.tenant_current() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_current() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_set_current(tenant text, is_local boolean DEFAULT false)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_set_current_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_set_current(text, boolean) IS
    'Makes a tenant, identified by slug or by id as text, the current one. Puts the tenant schema first in '
    'search_path and pg_temp last. is_local is as in set_config(): true limits the effect to the transaction; the '
    'default is false. Callable by members, instance admins and the tenant''s service context. Returns the tenant '
    'row. Raises unauthenticated (28000) for an anonymous caller, not_found (P0002) if the tenant does not exist or '
    'the caller may not see it, and conflict (55000) if the tenant is suspended or deleted. Fluxbase: setTenant; '
    'Nile: withContext.';
REVOKE ALL ON FUNCTION @extschema@.tenant_set_current(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_set_current(text, boolean) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_set_current(tenant uuid, is_local boolean DEFAULT false)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_set_current_by_id_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) IS
    'Makes a tenant, identified by id, the current one. Puts the tenant schema first in search_path and pg_temp '
    'last. is_local is as in set_config(): true limits the effect to the transaction; the default is false. Callable '
    'by members, instance admins and the tenant''s service context. Returns the tenant row. Raises unauthenticated '
    '(28000) for an anonymous caller, not_found (P0002) if the tenant does not exist or the caller may not see it, '
    'and conflict (55000) if the tenant is suspended or deleted. Fluxbase: setTenant; Nile: withContext.';
REVOKE ALL ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_reset_current()
    RETURNS void
    VOLATILE STRICT PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_reset_current_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_reset_current() IS
    'Undoes tenant_set_current(): sets no current tenant and restores search_path, unless search_path was changed in '
    'between. Callable by anyone.';
REVOKE ALL ON FUNCTION @extschema@.tenant_reset_current() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_reset_current() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_current_id()
    RETURNS uuid
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_current_id_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_current_id() IS
    'Returns the id of the current tenant: fluxbase_tenant.tenant_id, else the setting that '
    'fluxbase_tenant.tenant_id_setting names, else the tenant of the calling user''s oldest membership (unless '
    'fluxbase_tenant.default_tenant is none); NULL if there is none. For column defaults and policies. Raises '
    'not_found (P0002) if the current tenant is set and does not exist or the caller may not see it, and 22P02 if '
    'the setting is malformed. Fluxbase: getTenantId.';
REVOKE ALL ON FUNCTION @extschema@.tenant_current_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_current_id() TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_current_user_id()
    RETURNS uuid
    STABLE STRICT PARALLEL SAFE COST 10
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_current_user_id_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_current_user_id() IS
    'Returns the id of the current user, from fluxbase_tenant.user_id or from the setting that '
    'fluxbase_tenant.user_id_setting names; NULL if there is none. For column defaults and policies. Raises 22P02 if '
    'the setting is malformed.';
REVOKE ALL ON FUNCTION @extschema@.tenant_current_user_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_current_user_id() TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_has_access(tenant_id uuid)
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_has_access_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_has_access(uuid) IS
    'Reports whether the caller can access a tenant''s data: as a member of an active tenant, in the tenant''s '
    'service context, or as an instance admin. Returns false for an anonymous caller. For policies of the '
    'application.';
REVOKE ALL ON FUNCTION @extschema@.tenant_has_access(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_has_access(uuid) TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_has_role(tenant_id uuid, role text)
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_has_role_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_has_role(uuid, text) IS
    'Reports whether the caller can access a tenant''s data with at least the role: tenant_member or tenant_admin. '
    'Returns false for an anonymous caller. For policies of the application. Raises invalid_argument (22023) for any '
    'other role.';
REVOKE ALL ON FUNCTION @extschema@.tenant_has_role(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_has_role(uuid, text) TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_is_instance_admin()
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_is_instance_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_is_instance_admin() IS
    'Reports whether the caller is an instance admin, who may do everything to every tenant. For policies of the '
    'application.';
REVOKE ALL ON FUNCTION @extschema@.tenant_is_instance_admin() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_is_instance_admin() TO fluxbase_tenant_user, fluxbase_tenant_owner;

-- sql/functions/tenants.sql

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

-- sql/functions/members.sql

-- Functions for members and admins of tenants.

CREATE FUNCTION @extschema@.tenant_add_member(tenant_id uuid, user_id uuid, role text DEFAULT 'tenant_member')
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_add_member_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) IS
    'Adds a user to a tenant as tenant_member (the default) or tenant_admin, or changes the user''s role. Succeeds '
    'without effect if the user already has the role. Callable by tenant admins, instance admins and the tenant''s '
    'service context. Returns the member row. Raises unauthenticated (28000), forbidden (42501), not_found (P0002) '
    'if the tenant does not exist or the caller may not see it, invalid_argument (22023) for an unknown role, and '
    'conflict (55000) if the tenant is suspended or deleted, or would lose its last admin. Fluxbase: '
    'tenant.addMember, tenant.updateMember; Nile: tenants.addMember.';
REVOKE ALL ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_assign_admin(tenant_id uuid, user_id uuid)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_assign_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) IS
    'Makes a user tenant_admin of a tenant. Adds the user or promotes a member; succeeds without effect if the user '
    'already is an admin. Callable by tenant admins, instance admins and the tenant''s service context. Returns the '
    'member row. Raises unauthenticated (28000), forbidden (42501), not_found (P0002) if the tenant does not exist '
    'or the caller may not see it, and conflict (55000) if the tenant is suspended or deleted. Fluxbase: '
    'tenant.assignAdmin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_leave(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_leave_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_leave(uuid) IS
    'Ends the calling user''s own membership. tenant_id is optional; the default is the current tenant, which must '
    'then be set explicitly: the oldest membership does not count. Callable by members. Returns the member row as it '
    'was. Raises unauthenticated (28000), not_found (P0002) if the user is not a member or no current tenant is set, '
    'and conflict (55000) for the last admin. Nile: tenants.leaveTenant.';
REVOKE ALL ON FUNCTION @extschema@.tenant_leave(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_leave(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_admins(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.member
    STABLE PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_admins_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_admins(uuid) IS
    'Returns the member rows of the admins of a tenant, by default of the current tenant, oldest first. Callable by '
    'members, instance admins and the tenant''s service context. Raises unauthenticated (28000) for an anonymous '
    'caller and not_found (P0002) if the tenant does not exist, the caller may not see it, or there is no current '
    'tenant. Fluxbase: tenant.listAdmins.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_admins(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_admins(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_members(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.member
    STABLE PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_members_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_members(uuid) IS
    'Returns the member rows of all members of a tenant, by default of the current tenant, oldest first. Callable by '
    'members, instance admins and the tenant''s service context. Raises unauthenticated (28000) for an anonymous '
    'caller and not_found (P0002) if the tenant does not exist, the caller may not see it, or there is no current '
    'tenant. Fluxbase: tenant.listMembers; Nile: tenants.users.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_members(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_members(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_remove_admin(tenant_id uuid, user_id uuid)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_remove_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) IS
    'Ends the membership of a tenant admin. Callable by tenant admins, instance admins and the tenant''s service '
    'context. Returns the member row as it was. Raises unauthenticated (28000), forbidden (42501), not_found (P0002) '
    'if the user is not an admin of the tenant, or if the tenant does not exist or the caller may not see it, and '
    'conflict (55000) for the last admin or if the tenant is suspended or deleted. Fluxbase: tenant.removeAdmin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_remove_member(tenant_id uuid, user_id uuid)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_remove_member_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) IS
    'Ends a user''s membership, whatever the role. Callable by tenant admins, instance admins and the tenant''s '
    'service context. Returns the member row as it was. Raises unauthenticated (28000), forbidden (42501), not_found '
    '(P0002) if the user is not a member, or if the tenant does not exist or the caller may not see it, and conflict '
    '(55000) for the last admin or if the tenant is suspended or deleted. Fluxbase: tenant.removeMember; Nile: '
    'tenants.removeMember.';
REVOKE ALL ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) TO fluxbase_tenant_user;

-- sql/functions/instance_admins.sql

-- Functions for instance admins.

CREATE FUNCTION @extschema@.tenant_grant_instance_admin(user_id uuid)
    RETURNS SETOF fluxbase_tenant.instance_admin
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_grant_instance_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) IS
    'Makes a user an instance admin. Succeeds without effect if the user already is one. Callable by instance '
    'admins. Returns user_id, granted_by and created_at. Raises unauthenticated (28000), forbidden (42501), and '
    'invalid_argument (22023) for NULL.';
REVOKE ALL ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_instance_admins()
    RETURNS SETOF fluxbase_tenant.instance_admin
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_instance_admins_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_instance_admins() IS
    'Returns the users who are instance admins, oldest first. Callable by instance admins. Raises unauthenticated '
    '(28000) and forbidden (42501).';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_instance_admins() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_instance_admins() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_revoke_instance_admin(user_id uuid)
    RETURNS SETOF fluxbase_tenant.instance_admin
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_revoke_instance_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) IS
    'Ends a user''s status as an instance admin. Callable by instance admins. Returns the row as it was. Raises '
    'unauthenticated (28000), forbidden (42501), and not_found (P0002) if the user is not an instance admin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) TO fluxbase_tenant_user;

-- sql/functions/migrations.sql

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

-- sql/functions/fleet.sql

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

-- sql/functions/isolation.sql

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

-- sql/views.sql

-- Views that define which policies and triggers the catalog and the tables of tenants must have, and which foreign keys
-- of shared tables are unsafe. The code that creates, checks and repairs them reads these views, so that each
-- definition exists only once.

-- The policies of the catalog. tenant_check() compares them with the existing ones, and tenant_repair() creates missing
-- ones again. The conditions are written exactly as PostgreSQL prints them. The policies apply to all roles, because a
-- policy TO a role is dropped when a member of that role executes DROP OWNED BY the role. The conditions use
-- sub-selects, so that the caller's tenants are looked up once per query and not once per row.
CREATE VIEW fluxbase_tenant.catalog_policies AS
SELECT pg_catalog.format('fluxbase_tenant.%I', t.relation)::pg_catalog.regclass AS relation,
       CASE WHEN t.tenant_column IS NULL THEN 'instance_admins_only' ELSE 'own_tenants' END::pg_catalog.name AS name,
       CASE WHEN t.tenant_column IS NULL THEN
                pg_catalog.format('( SELECT %s.tenant_is_instance_admin() AS tenant_is_instance_admin)', e.schema)
            ELSE pg_catalog.format('(( SELECT %s.tenant_is_instance_admin() AS tenant_is_instance_admin) OR (%I = ANY '
                '(( SELECT fluxbase_tenant.visible_tenant_ids() AS visible_tenant_ids)::uuid[])))', e.schema, t.tenant_column)
       END AS condition
FROM (VALUES ('tenants', 'id'), ('members', 'tenant_id'), ('applied_migrations', 'tenant_id'), ('instance_admins', NULL),
             ('migrations', NULL), ('unfinished_migrations', NULL), ('fleet_runs', NULL), ('fleet_results', NULL))
         AS t (relation, tenant_column),
     (SELECT extnamespace::pg_catalog.regnamespace AS schema FROM pg_catalog.pg_extension
      WHERE extname OPERATOR(pg_catalog.=) 'fluxbase_tenant'::pg_catalog.name) AS e;
COMMENT ON VIEW fluxbase_tenant.catalog_policies IS
    'row-level security policies that the tables of the catalog must have';

-- The tables that have a policy named tenant_isolation. tenant_id is set if the condition is that of a table in a
-- tenant schema, and tenant_column (an attnum) if it is that of a shared table. Both are NULL for any other condition.
-- in_force reports whether row-level security is enabled and forced and the policy is restrictive and applies to all
-- commands and roles.
CREATE VIEW fluxbase_tenant.isolation_policies AS
SELECT c.oid AS relation, p.oid AS policy,
       -- Any table owner can create a policy with this name. A condition that is too long, and therefore may be nested
       -- too deeply for the stack, is not parsed.
       CASE WHEN pg_catalog.octet_length(p.polqual::pg_catalog.text) OPERATOR(pg_catalog.<) 10000
           THEN fluxbase_tenant.policy_tenant(p.polqual) END AS tenant_id,
       CASE WHEN pg_catalog.octet_length(p.polqual::pg_catalog.text) OPERATOR(pg_catalog.<) 10000
           THEN fluxbase_tenant.policy_column(p.polqual) END AS tenant_column,
       c.relrowsecurity AND c.relforcerowsecurity AND NOT p.polpermissive AND p.polcmd OPERATOR(pg_catalog.=) '*'::"char"
           AND p.polroles OPERATOR(pg_catalog.=) '{0}'::pg_catalog.oid[] AND p.polwithcheck IS NULL AS in_force
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.polrelid
WHERE p.polname OPERATOR(pg_catalog.=) 'tenant_isolation'::pg_catalog.name;
COMMENT ON VIEW fluxbase_tenant.isolation_policies IS
    'tables with the policy tenant_isolation, the tenant or tenant column in its condition, and whether it is in force';

-- Foreign keys to shared tables that do not include the tenant column. PostgreSQL checks foreign keys without applying
-- policies, so a row of one tenant can refer to a row of another. That reveals that the other row exists, and the
-- referring row blocks its deletion or is deleted with it.
--
-- The suggested fix adds the key NOT VALID, because validating it runs operators and casts of the tables' owners with
-- the privileges of the role that executes the command. The owner of the table should therefore validate it. Before
-- PostgreSQL 18, a foreign key of a partitioned table cannot be NOT VALID, so there the owner must execute the whole
-- fix.
CREATE VIEW fluxbase_tenant.loose_keys AS
SELECT k.conrelid, k.confrelid, pg_catalog.quote_ident(k.conname) AS constraint_name, f.name AS referring, t.name AS referred,
       CASE WHEN own.relation IS NULL THEN
                pg_catalog.format('Make %s a shared table with tenant_protect(), then add the tenant column to the key.', f.name)
            WHEN f.owner_is_super AND t.owner_is_super THEN key.command
            WHEN f.is_partitioned THEN pg_catalog.format('As %I: %s', f.owner, key.command)
            -- The generated SQL comment contains no name, because a name with a line break would end the comment.
            ELSE pg_catalog.format('%s NOT VALID -- then have the owner of the table VALIDATE the constraint', key.command)
       END AS fix
FROM fluxbase_tenant.shared_tables s
JOIN pg_catalog.pg_constraint k ON k.confrelid OPERATOR(pg_catalog.=) s.relation::pg_catalog.oid
                               AND k.contype OPERATOR(pg_catalog.=) 'f'::"char" AND k.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
LEFT JOIN fluxbase_tenant.shared_tables own ON own.relation::pg_catalog.oid OPERATOR(pg_catalog.=) k.conrelid
CROSS JOIN LATERAL (
    SELECT pg_catalog.format('%I.%I', n.nspname, r.relname) AS name, o.rolname AS owner, o.rolsuper AS owner_is_super,
           r.relkind OPERATOR(pg_catalog.=) 'p'::"char" AS is_partitioned
    FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) r.relnamespace
    JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) r.relowner
    WHERE r.oid OPERATOR(pg_catalog.=) k.conrelid) f
CROSS JOIN LATERAL (
    SELECT pg_catalog.format('%I.%I', n.nspname, r.relname) AS name, o.rolname AS owner, o.rolsuper AS owner_is_super,
           r.relkind OPERATOR(pg_catalog.=) 'p'::"char" AS is_partitioned
    FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) r.relnamespace
    JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) r.relowner
    WHERE r.oid OPERATOR(pg_catalog.=) k.confrelid) t
CROSS JOIN LATERAL (
    SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY p.place) AS ours,
           pg_catalog.format('%I, ', s.tenant_column)
               OPERATOR(pg_catalog.||) pg_catalog.string_agg(pg_catalog.quote_ident(b.attname), ', ' ORDER BY p.place) AS theirs,
           pg_catalog.bool_or(a.attname OPERATOR(pg_catalog.=) own.tenant_column
                              AND b.attname OPERATOR(pg_catalog.=) s.tenant_column) AS with_tenant
    FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey)) WITH ORDINALITY AS p (own, other, place)
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) k.conrelid AND a.attnum OPERATOR(pg_catalog.=) p.own
    JOIN pg_catalog.pg_attribute b ON b.attrelid OPERATOR(pg_catalog.=) k.confrelid AND b.attnum OPERATOR(pg_catalog.=) p.other) c
CROSS JOIN LATERAL (
    SELECT pg_catalog.format('ALTER TABLE %s ADD UNIQUE (%s); ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I '
               'FOREIGN KEY (%I, %s) REFERENCES %s (%s)%s', t.name, c.theirs, f.name, k.conname, k.conname, own.tenant_column,
               c.ours, t.name, c.theirs, CASE k.confdeltype WHEN 'c' THEN ' ON DELETE CASCADE' WHEN 'r' THEN ' ON DELETE RESTRICT'
                   WHEN 'n' THEN pg_catalog.format(' ON DELETE SET NULL (%s)', c.ours)
                   WHEN 'd' THEN pg_catalog.format(' ON DELETE SET DEFAULT (%s)', c.ours) ELSE '' END) AS command) key
WHERE c.with_tenant IS NOT TRUE;
COMMENT ON VIEW fluxbase_tenant.loose_keys IS
    'foreign keys to shared tables that do not include the tenant column, and the commands that add it';

-- The triggers of the catalog that invalidate the caches of all sessions when a change commits. tenant_check() prints
-- the commands that create them again. They are row-level triggers, because a subscriber of logical replication fires
-- only those for changes of rows. On tenants, the triggers list the columns on which the caches depend, because other
-- columns, such as name and schema_version, change often.
CREATE VIEW fluxbase_tenant.catalog_triggers AS
SELECT pg_catalog.format('fluxbase_tenant.%I', t.relation)::pg_catalog.regclass AS relation, w.name::pg_catalog.name AS name,
       pg_catalog.format('CREATE OR REPLACE TRIGGER %I AFTER %s ON fluxbase_tenant.%I FOR EACH %s '
           'EXECUTE FUNCTION fluxbase_tenant.catalog_changed()', w.name, w.events, t.relation, w.level) AS command
FROM (VALUES ('tenants', 'id, schema_name, spare, suspended_at, deleted_at'), ('members', NULL), ('instance_admins', NULL))
         AS t (relation, columns)
CROSS JOIN LATERAL (VALUES
    ('catalog_changed', pg_catalog.concat('INSERT OR UPDATE ', 'OF ' OPERATOR(pg_catalog.||) t.columns, ' OR DELETE'), 'ROW'),
    ('catalog_truncated', 'TRUNCATE', 'STATEMENT')) AS w (name, events, level);
COMMENT ON VIEW fluxbase_tenant.catalog_triggers IS
    'triggers that the tables of the catalog must have, with ENABLE ALWAYS';

-- sql/policies.sql

-- Grants and row-level security of the catalog. Policies show each caller the rows of the caller's own tenants. Only
-- the extension's functions write to the catalog.
GRANT USAGE ON SCHEMA @extschema@ TO fluxbase_tenant_user, fluxbase_tenant_owner;
-- The defaults of serial columns in tenant schemas call fluxbase_tenant.nextval(), so users and owner roles need USAGE.
GRANT USAGE ON SCHEMA fluxbase_tenant TO fluxbase_tenant_user, fluxbase_tenant_owner;
GRANT SELECT ON fluxbase_tenant.tenants, fluxbase_tenant.members, fluxbase_tenant.instance_admins,
    fluxbase_tenant.migrations, fluxbase_tenant.applied_migrations, fluxbase_tenant.unfinished_migrations,
    fluxbase_tenant.fleet_runs, fluxbase_tenant.fleet_results TO fluxbase_tenant_user;

ALTER TABLE fluxbase_tenant.tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE fluxbase_tenant.members ENABLE ROW LEVEL SECURITY;
ALTER TABLE fluxbase_tenant.instance_admins ENABLE ROW LEVEL SECURITY;
ALTER TABLE fluxbase_tenant.migrations ENABLE ROW LEVEL SECURITY;
ALTER TABLE fluxbase_tenant.applied_migrations ENABLE ROW LEVEL SECURITY;
ALTER TABLE fluxbase_tenant.unfinished_migrations ENABLE ROW LEVEL SECURITY;
ALTER TABLE fluxbase_tenant.fleet_runs ENABLE ROW LEVEL SECURITY;
ALTER TABLE fluxbase_tenant.fleet_results ENABLE ROW LEVEL SECURITY;
ALTER TABLE fluxbase_tenant.tenant_limit ENABLE ROW LEVEL SECURITY;
ALTER TABLE fluxbase_tenant.shared_tables ENABLE ROW LEVEL SECURITY;
ALTER TABLE fluxbase_tenant.removals ENABLE ROW LEVEL SECURITY;

DO $$
DECLARE
    wanted pg_catalog.record;
BEGIN
    FOR wanted IN SELECT relation, name, condition FROM fluxbase_tenant.catalog_policies LOOP
        EXECUTE pg_catalog.format('CREATE POLICY %I ON %s FOR SELECT USING (%s)', wanted.name, wanted.relation, wanted.condition);
    END LOOP;
END
$$;

-- sql/triggers.sql

-- The event triggers, which protect objects of tenants as soon as they are created, and the triggers of the catalog.

-- Before every command, under every session_replication_role: rejects DROP OWNED BY a role of the extension, and GRANT
-- and REVOKE on objects of tenants, before they lock anything.
CREATE EVENT TRIGGER fluxbase_tenant_before_command ON ddl_command_start
    EXECUTE FUNCTION fluxbase_tenant.before_command();
ALTER EVENT TRIGGER fluxbase_tenant_before_command ENABLE ALWAYS;

-- After commands that create or alter relations, under every session_replication_role: adds the policies to relations
-- in tenant schemas, and rejects commands that weaken them.
CREATE EVENT TRIGGER fluxbase_tenant_after_command ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'ALTER TABLE', 'CREATE VIEW', 'ALTER VIEW',
                 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE',
                 'IMPORT FOREIGN SCHEMA', 'ALTER POLICY')
    EXECUTE FUNCTION fluxbase_tenant.after_command();
ALTER EVENT TRIGGER fluxbase_tenant_after_command ENABLE ALWAYS;
CREATE EVENT TRIGGER fluxbase_tenant_after_drop ON sql_drop
    WHEN TAG IN ('DROP POLICY')
    EXECUTE FUNCTION fluxbase_tenant.after_drop();
ALTER EVENT TRIGGER fluxbase_tenant_after_drop ENABLE ALWAYS;

-- After every command: rejects objects that depend on objects in the schema of a tenant that is not accessible to the
-- caller.
CREATE EVENT TRIGGER fluxbase_tenant_after_any_command ON ddl_command_end
    EXECUTE FUNCTION fluxbase_tenant.after_any_command();
ALTER EVENT TRIGGER fluxbase_tenant_after_any_command ENABLE ALWAYS;

COMMENT ON EVENT TRIGGER fluxbase_tenant_before_command IS
    'rejects commands that take privileges from roles of the extension or objects of tenants, or lock such objects '
    'without privileges';
COMMENT ON EVENT TRIGGER fluxbase_tenant_after_command IS
    'adds row-level security and policies to every table that is created in or moved to a tenant schema';
COMMENT ON EVENT TRIGGER fluxbase_tenant_after_any_command IS
    'rejects objects that depend on objects of a tenant that is not accessible to the caller';
COMMENT ON EVENT TRIGGER fluxbase_tenant_after_drop IS
    'rejects DROP POLICY for the policy tenant_isolation, which can only be dropped with its table';

DO $$
DECLARE
    wanted pg_catalog.record;
BEGIN
    FOR wanted IN SELECT relation, name, command FROM fluxbase_tenant.catalog_triggers LOOP
        EXECUTE wanted.command;
        EXECUTE pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', wanted.relation, wanted.name);
    END LOOP;
END
$$;
