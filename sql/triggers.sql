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
