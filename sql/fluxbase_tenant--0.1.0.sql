-- What CREATE EXTENSION fluxbase_tenant runs. Made of the files in sql/ by `make schema`: change these.
\echo Use "CREATE EXTENSION fluxbase_tenant" to load this file. \quit

-- sql/catalog.sql

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

-- sql/types.sql

-- The rows that most functions return.

CREATE TYPE fluxbase_tenant.tenant AS (
    id uuid, slug text, name text, schema_name name, status text, is_default boolean, metadata jsonb, schema_version text,
    created_at timestamptz, updated_at timestamptz, deleted_at timestamptz
);
COMMENT ON TYPE fluxbase_tenant.tenant IS 'a tenant, as functions return it';

CREATE TYPE fluxbase_tenant.member AS (
    id uuid, tenant_id uuid, user_id uuid, email text, role text, assigned_by uuid, created_at timestamptz
);
COMMENT ON TYPE fluxbase_tenant.member IS 'a user''s membership of a tenant, as functions return it';

CREATE TYPE fluxbase_tenant.instance_admin AS (user_id uuid, granted_by uuid, created_at timestamptz);
COMMENT ON TYPE fluxbase_tenant.instance_admin IS 'a user who may do everything to every tenant, as functions return it';

CREATE TYPE fluxbase_tenant.migration AS (
    version text, name text, up text, down text, transactional boolean, repeatable boolean, checksum text, created_at timestamptz
);
COMMENT ON TYPE fluxbase_tenant.migration IS 'a registered migration, as functions return it';

-- Nobody's table has a column of these: a new version of the extension may change them.
REVOKE USAGE ON TYPE
    fluxbase_tenant.tenant, fluxbase_tenant.member, fluxbase_tenant.instance_admin, fluxbase_tenant.migration
    FROM PUBLIC;

-- sql/roles.sql

-- The database roles: NOLOGIN groups, as PostgreSQL's predefined roles are. Roles and privileges on settings belong to the
-- cluster, so another database may have them already, or be making them: the lock lets one at a time do so.
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

-- Functions of the catalog's schema: what policies, event triggers and triggers call.

CREATE FUNCTION fluxbase_tenant.accessible_support(internal)
    RETURNS internal
    IMMUTABLE STRICT PARALLEL SAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'accessible_support_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.accessible_support(internal) IS
    'Planner support of accessible(): true where the caller is checked when the query starts.';
REVOKE ALL ON FUNCTION fluxbase_tenant.accessible_support(internal) FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.installed_support(internal)
    RETURNS internal
    IMMUTABLE STRICT PARALLEL SAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'installed_support_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.installed_support(internal) IS
    'Planner support of installed(): true, without a call for each policy.';
REVOKE ALL ON FUNCTION fluxbase_tenant.installed_support(internal) FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.accessible(tenant_id uuid)
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100 SUPPORT fluxbase_tenant.accessible_support
    LANGUAGE c AS 'MODULE_PATHNAME', 'accessible_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.accessible(uuid) IS
    'Whether the caller reaches the tables of a tenant now; called by the policy tenant_isolation of every such table.';
REVOKE ALL ON FUNCTION fluxbase_tenant.accessible(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fluxbase_tenant.accessible(uuid) TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION fluxbase_tenant.installed()
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 1 SUPPORT fluxbase_tenant.installed_support
    LANGUAGE c AS 'MODULE_PATHNAME', 'installed_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.installed() IS
    'True. The policy tenant_access calls it, so that DROP EXTENSION with CASCADE leaves no table open.';
REVOKE ALL ON FUNCTION fluxbase_tenant.installed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fluxbase_tenant.installed() TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION fluxbase_tenant.nextval(sequence regclass)
    RETURNS bigint
    VOLATILE STRICT PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'nextval_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.nextval(regclass) IS
    'nextval() for sequences of tenants within the caller''s reach, which are granted to nobody; serial columns of '
    'tenants call it. Errors: forbidden.';
REVOKE ALL ON FUNCTION fluxbase_tenant.nextval(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fluxbase_tenant.nextval(regclass) TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION fluxbase_tenant.visible_tenant_ids()
    RETURNS uuid[]
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'visible_tenant_ids_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.visible_tenant_ids() IS
    'The tenants whose catalog rows the caller sees; called by the catalog''s policies.';
REVOKE ALL ON FUNCTION fluxbase_tenant.visible_tenant_ids() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fluxbase_tenant.visible_tenant_ids() TO fluxbase_tenant_user;

CREATE FUNCTION fluxbase_tenant.accessible_tenant_ids()
    RETURNS uuid[]
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'accessible_tenant_ids_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.accessible_tenant_ids() IS
    'The tenants whose rows of shared tables the caller reaches now; called by the policies of such tables.';
REVOKE ALL ON FUNCTION fluxbase_tenant.accessible_tenant_ids() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION fluxbase_tenant.accessible_tenant_ids() TO fluxbase_tenant_user;

CREATE FUNCTION fluxbase_tenant.policy_tenant(condition pg_node_tree)
    RETURNS uuid
    STABLE STRICT PARALLEL SAFE COST 10
    LANGUAGE c AS 'MODULE_PATHNAME', 'policy_tenant_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.policy_tenant(pg_node_tree) IS
    'The tenant in a policy''s condition that is a call of accessible() and nothing else; NULL for any other condition.';
REVOKE ALL ON FUNCTION fluxbase_tenant.policy_tenant(pg_node_tree) FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.policy_column(condition pg_node_tree)
    RETURNS smallint
    STABLE STRICT PARALLEL SAFE COST 10
    LANGUAGE c AS 'MODULE_PATHNAME', 'policy_column_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.policy_column(pg_node_tree) IS
    'The number of the tenant column in a policy''s condition that compares it with accessible_tenant_ids() and does '
    'nothing else; NULL for any other condition.';
REVOKE ALL ON FUNCTION fluxbase_tenant.policy_column(pg_node_tree) FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.before_command()
    RETURNS event_trigger
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'before_command_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.before_command() IS
    'Event trigger function: refuses DROP OWNED BY the extension''s roles, and GRANT and REVOKE on objects of tenants '
    'by others than their owner.';
REVOKE ALL ON FUNCTION fluxbase_tenant.before_command() FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.after_command()
    RETURNS event_trigger
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'after_command_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.after_command() IS
    'Event trigger function: gives relations of tenants their policies, and refuses to weaken them.';
REVOKE ALL ON FUNCTION fluxbase_tenant.after_command() FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.after_any_command()
    RETURNS event_trigger
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'after_any_command_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.after_any_command() IS
    'Event trigger: refuses objects that hang on what is in the schema of a tenant out of the caller''s reach.';
REVOKE ALL ON FUNCTION fluxbase_tenant.after_any_command() FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.after_drop()
    RETURNS event_trigger
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'after_drop_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.after_drop() IS
    'Event trigger function: refuses to drop the policy tenant_isolation.';
REVOKE ALL ON FUNCTION fluxbase_tenant.after_drop() FROM PUBLIC;

CREATE FUNCTION fluxbase_tenant.catalog_changed()
    RETURNS trigger
    VOLATILE PARALLEL UNSAFE
    LANGUAGE c AS 'MODULE_PATHNAME', 'catalog_changed_wrapper';
COMMENT ON FUNCTION fluxbase_tenant.catalog_changed() IS
    'Trigger function: tells all sessions to forget what they know about access.';
REVOKE ALL ON FUNCTION fluxbase_tenant.catalog_changed() FROM PUBLIC;

-- sql/functions/session.sql

-- The session: current user, current tenant, and questions for policies of the application.

CREATE FUNCTION @extschema@.tenant_current()
    RETURNS SETOF fluxbase_tenant.tenant
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_current_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_current() IS
    'The tenant row of the current tenant; no row if there is none. Errors: not_found if it is set and not the '
    'caller''s to see.';
REVOKE ALL ON FUNCTION @extschema@.tenant_current() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_current() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_set_current(tenant text, is_local boolean DEFAULT false)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_set_current_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_set_current(text, boolean) IS
    'Makes a tenant the current one, by slug or by id as text, and puts its schema first in search_path; is_local as in '
    'set_config(). Members, service context, instance admins. Returns the tenant row. Errors: not_found, conflict if '
    'suspended. Fluxbase: setTenant; Nile: withContext.';
REVOKE ALL ON FUNCTION @extschema@.tenant_set_current(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_set_current(text, boolean) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_set_current(tenant uuid, is_local boolean DEFAULT false)
    RETURNS SETOF fluxbase_tenant.tenant
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_set_current_by_id_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) IS
    'Makes a tenant the current one, by id, and puts its schema first in search_path; is_local as in set_config(). '
    'Members, service context, instance admins. Returns the tenant row. Errors: not_found, conflict if suspended. '
    'Fluxbase: setTenant; Nile: withContext.';
REVOKE ALL ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_set_current(uuid, boolean) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_reset_current()
    RETURNS void
    VOLATILE STRICT PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_reset_current_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_reset_current() IS
    'Undoes tenant_set_current(): no current tenant, and search_path as it was, unless somebody else changed it since. '
    'Anyone.';
REVOKE ALL ON FUNCTION @extschema@.tenant_reset_current() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_reset_current() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_current_id()
    RETURNS uuid
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_current_id_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_current_id() IS
    'Id of the current tenant: the setting, else the claim, else the calling user''s oldest membership; NULL if there '
    'is none. Errors: not_found if it is set and not the caller''s to see. Fluxbase: getTenantId.';
REVOKE ALL ON FUNCTION @extschema@.tenant_current_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_current_id() TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_current_user_id()
    RETURNS uuid
    STABLE STRICT PARALLEL SAFE COST 10
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_current_user_id_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_current_user_id() IS
    'Id of the current user as set or claimed; NULL if there is none. Errors: 22P02 if the setting or claim holds no '
    'uuid.';
REVOKE ALL ON FUNCTION @extschema@.tenant_current_user_id() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_current_user_id() TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_has_access(tenant_id uuid)
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_has_access_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_has_access(uuid) IS
    'Whether the caller may reach a tenant''s data: as member of an active tenant, as its service context, or as '
    'instance admin. Never an error for want of an identity. For policies of the application.';
REVOKE ALL ON FUNCTION @extschema@.tenant_has_access(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_has_access(uuid) TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_has_role(tenant_id uuid, role text)
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_has_role_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_has_role(uuid, text) IS
    'Whether the caller may reach a tenant''s data with at least the role: tenant_member or tenant_admin. Errors: '
    'invalid_argument for another role. For policies of the application.';
REVOKE ALL ON FUNCTION @extschema@.tenant_has_role(uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_has_role(uuid, text) TO fluxbase_tenant_user, fluxbase_tenant_owner;

CREATE FUNCTION @extschema@.tenant_is_instance_admin()
    RETURNS boolean
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_is_instance_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_is_instance_admin() IS
    'Whether the caller may do everything to every tenant. For policies of the application.';
REVOKE ALL ON FUNCTION @extschema@.tenant_is_instance_admin() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_is_instance_admin() TO fluxbase_tenant_user, fluxbase_tenant_owner;

-- sql/functions/tenants.sql

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

-- sql/functions/members.sql

-- Members and admins of tenants.

CREATE FUNCTION @extschema@.tenant_add_member(tenant_id uuid, user_id uuid, role text DEFAULT 'tenant_member')
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_add_member_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) IS
    'Adds a user to a tenant as tenant_member or tenant_admin, or changes the role there; again: the same row. Tenant '
    'admins. Returns the assignment row. Errors: not_found, forbidden, invalid_argument, conflict if the last admin '
    'would become a member. Fluxbase: tenant.addMember, tenant.updateMember; Nile: tenants.addMember.';
REVOKE ALL ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_add_member(uuid, uuid, text) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_assign_admin(tenant_id uuid, user_id uuid)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_assign_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) IS
    'Makes a user tenant_admin of a tenant; a member is promoted; again: the same row. Tenant admins. Returns the '
    'assignment row. Errors: not_found, forbidden, conflict if suspended. Fluxbase: tenant.assignAdmin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_assign_admin(uuid, uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_leave(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_leave_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_leave(uuid) IS
    'Ends the calling user''s own membership. Without an argument the current tenant must have been set, not just found '
    'by membership. Returns the assignment row as it was. Errors: unauthenticated, not_found, conflict for the last '
    'admin. Nile: tenants.leaveTenant.';
REVOKE ALL ON FUNCTION @extschema@.tenant_leave(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_leave(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_admins(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.member
    STABLE PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_admins_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_admins(uuid) IS
    'The assignment rows of the admins of a tenant, by default the current one, oldest first. Members. Errors: '
    'not_found. Fluxbase: tenant.listAdmins.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_admins(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_admins(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_members(tenant_id uuid DEFAULT NULL)
    RETURNS SETOF fluxbase_tenant.member
    STABLE PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_members_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_members(uuid) IS
    'The assignment rows of all members of a tenant, by default the current one, oldest first. Members. Errors: '
    'not_found. Fluxbase: tenant.listMembers; Nile: tenants.users.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_members(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_members(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_remove_admin(tenant_id uuid, user_id uuid)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_remove_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) IS
    'Ends the membership of a tenant_admin. Tenant admins. Returns the assignment row as it was. Errors: not_found, '
    'also if the user is no admin there; forbidden; conflict for the last admin. Fluxbase: tenant.removeAdmin.';
REVOKE ALL ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_remove_admin(uuid, uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_remove_member(tenant_id uuid, user_id uuid)
    RETURNS SETOF fluxbase_tenant.member
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_remove_member_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) IS
    'Ends a user''s membership, whatever the role. Tenant admins. Returns the assignment row as it was. Errors: '
    'not_found, forbidden, conflict for the last admin. Fluxbase: tenant.removeMember; Nile: tenants.removeMember.';
REVOKE ALL ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_remove_member(uuid, uuid) TO fluxbase_tenant_user;

-- sql/functions/instance_admins.sql

-- Instance admins.

CREATE FUNCTION @extschema@.tenant_grant_instance_admin(user_id uuid)
    RETURNS SETOF fluxbase_tenant.instance_admin
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_grant_instance_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) IS
    'Makes a user instance admin; again: the same row. Instance admins. Returns user_id, granted_by, created_at. '
    'Errors: forbidden.';
REVOKE ALL ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_grant_instance_admin(uuid) TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_list_instance_admins()
    RETURNS SETOF fluxbase_tenant.instance_admin
    STABLE STRICT PARALLEL SAFE COST 100
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_list_instance_admins_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_list_instance_admins() IS
    'The users who are instance admins, oldest first. Instance admins. Errors: forbidden.';
REVOKE ALL ON FUNCTION @extschema@.tenant_list_instance_admins() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_list_instance_admins() TO fluxbase_tenant_user;

CREATE FUNCTION @extschema@.tenant_revoke_instance_admin(user_id uuid)
    RETURNS SETOF fluxbase_tenant.instance_admin
    VOLATILE PARALLEL UNSAFE COST 1000
    LANGUAGE c AS 'MODULE_PATHNAME', 'tenant_revoke_instance_admin_wrapper';
COMMENT ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) IS
    'Ends a user''s being instance admin. Instance admins. Returns the row as it was. Errors: not_found, forbidden.';
REVOKE ALL ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @extschema@.tenant_revoke_instance_admin(uuid) TO fluxbase_tenant_user;

-- sql/functions/migrations.sql

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

-- sql/functions/fleet.sql

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

-- sql/functions/isolation.sql

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

-- sql/views.sql

-- What the catalog and the tables of tenants must have, each said once: what creates it, checks it and repairs it reads it here.

-- The policies of the catalog, as the server prints their conditions: tenant_check() compares, tenant_repair() creates them
-- again. They are for every role, since policies TO a role go when a member of it says DROP OWNED BY that role.
-- Sub-selects, so that the caller's tenants are looked up once per query and not once per row.
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
COMMENT ON VIEW fluxbase_tenant.catalog_policies IS 'the row-level security policies that the catalog must have';

-- Which tables have the policy tenant_isolation, what it says, and whether it is in force. tenant_id is set on a tenant's
-- table, tenant_column (its attnum) on a shared one; both are NULL where the policy says something else.
CREATE VIEW fluxbase_tenant.isolation_policies AS
SELECT c.oid AS relation, p.oid AS policy,
       -- Anybody may write a policy of this name; one that is too long, or too deep for the stack, is not read. The length is known
       -- without.
       CASE WHEN pg_catalog.octet_length(p.polqual::pg_catalog.text) OPERATOR(pg_catalog.<) 10000
           THEN fluxbase_tenant.policy_tenant(p.polqual) END AS tenant_id,
       CASE WHEN pg_catalog.octet_length(p.polqual::pg_catalog.text) OPERATOR(pg_catalog.<) 10000
           THEN fluxbase_tenant.policy_column(p.polqual) END AS tenant_column,
       c.relrowsecurity AND c.relforcerowsecurity AND NOT p.polpermissive AND p.polcmd OPERATOR(pg_catalog.=) '*'::"char"
           AND p.polroles OPERATOR(pg_catalog.=) '{0}'::pg_catalog.oid[] AND p.polwithcheck IS NULL AS in_force
FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.polrelid
WHERE p.polname OPERATOR(pg_catalog.=) 'tenant_isolation'::pg_catalog.name;
COMMENT ON VIEW fluxbase_tenant.isolation_policies IS 'tables with the policy tenant_isolation, what it says, and whether it is in force';

-- Foreign keys to shared tables that leave out the tenant. The server checks a key past the policies: a row of one tenant may
-- refer to another's, learn so that it is there, and keep it from being deleted, or be deleted with it.
-- To check the rows runs operators and casts of the tables' owners as whoever gives the command. So it is theirs to do, and the
-- key comes NOT VALID, which a partitioned table's cannot before PostgreSQL 18.
CREATE VIEW fluxbase_tenant.loose_keys AS
SELECT k.conrelid, k.confrelid, pg_catalog.quote_ident(k.conname) AS constraint_name, f.name AS referring, t.name AS referred,
       CASE WHEN own.relation IS NULL THEN
                pg_catalog.format('Make %s a shared table with tenant_protect(), then put the tenant column into the key.', f.name)
            WHEN f.owner_is_super AND t.owner_is_super THEN key.command
            WHEN f.is_partitioned THEN pg_catalog.format('As %I: %s', f.owner, key.command)
            -- No name in the comment: one with a line break would end it.
            ELSE pg_catalog.format('%s NOT VALID -- then let the owner of the table VALIDATE the constraint', key.command)
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
COMMENT ON VIEW fluxbase_tenant.loose_keys IS 'foreign keys to shared tables that leave out the tenant, and the commands that put it in';

-- The triggers that tell the caches of all sessions of a change, as it commits; tenant_check() creates them again. For each row, since a
-- subscriber of logical replication fires no other triggers for changes of rows. Of a tenant no other column matters to the
-- caches, and a name or a version changes often.
CREATE VIEW fluxbase_tenant.catalog_triggers AS
SELECT pg_catalog.format('fluxbase_tenant.%I', t.relation)::pg_catalog.regclass AS relation, w.name::pg_catalog.name AS name,
       pg_catalog.format('CREATE OR REPLACE TRIGGER %I AFTER %s ON fluxbase_tenant.%I FOR EACH %s '
           'EXECUTE FUNCTION fluxbase_tenant.catalog_changed()', w.name, w.events, t.relation, w.level) AS command
FROM (VALUES ('tenants', 'id, schema_name, spare, suspended_at, deleted_at'), ('members', NULL), ('instance_admins', NULL))
         AS t (relation, columns)
CROSS JOIN LATERAL (VALUES
    ('catalog_changed', pg_catalog.concat('INSERT OR UPDATE ', 'OF ' OPERATOR(pg_catalog.||) t.columns, ' OR DELETE'), 'ROW'),
    ('catalog_truncated', 'TRUNCATE', 'STATEMENT')) AS w (name, events, level);
COMMENT ON VIEW fluxbase_tenant.catalog_triggers IS 'the triggers that the catalog must have, enabled always';

-- sql/policies.sql

-- Who may see which rows of the catalog.

-- Catalog tables: rows of the own tenants, by policy; writes only through the functions.
GRANT USAGE ON SCHEMA @extschema@ TO fluxbase_tenant_user, fluxbase_tenant_owner;
-- Defaults of serial columns are written as their table's owner, and name fluxbase_tenant.nextval().
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

-- Event triggers, which protect objects of tenants from birth on, and the triggers of the catalog.

-- Before any command, whatever session_replication_role says: DROP OWNED BY a role of the extension, and GRANT on what is
-- a tenant's, are refused before anything is locked.
CREATE EVENT TRIGGER fluxbase_tenant_before_command ON ddl_command_start
    EXECUTE FUNCTION fluxbase_tenant.before_command();
ALTER EVENT TRIGGER fluxbase_tenant_before_command ENABLE ALWAYS;

-- Relations of tenants are protected from the command that creates them on, and stay so, whatever
-- session_replication_role says.
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

-- After any command: no object of others hangs on what is in a tenant's schema.
CREATE EVENT TRIGGER fluxbase_tenant_after_any_command ON ddl_command_end
    EXECUTE FUNCTION fluxbase_tenant.after_any_command();
ALTER EVENT TRIGGER fluxbase_tenant_after_any_command ENABLE ALWAYS;

COMMENT ON EVENT TRIGGER fluxbase_tenant_before_command IS
    'roles of the extension and objects of tenants keep their privileges, and are not locked by others';
COMMENT ON EVENT TRIGGER fluxbase_tenant_after_command IS
    'row-level security and policies for every table that comes to be in a tenant schema';
COMMENT ON EVENT TRIGGER fluxbase_tenant_after_any_command IS
    'no object of others hangs on what is in a tenant''s schema';
COMMENT ON EVENT TRIGGER fluxbase_tenant_after_drop IS
    'the policy tenant_isolation goes with its table or not at all';

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
