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
