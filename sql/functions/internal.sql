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
