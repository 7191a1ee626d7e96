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
