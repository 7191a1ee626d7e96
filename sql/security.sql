-- Who may see which rows of the catalog, and the event trigger that protects tables of tenants from birth.

-- Catalog tables: rows of the own tenants, by policy; writes only through the functions.
GRANT USAGE ON SCHEMA fluxbase_tenant TO fluxbase_tenant_user;
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

-- Sub-selects, so that the caller's tenants are looked up once per query and not once per row.
CREATE POLICY own_tenants ON fluxbase_tenant.tenants FOR SELECT TO fluxbase_tenant_user
    USING ((SELECT @extschema@.tenant_is_instance_admin())
        OR id = ANY ((SELECT fluxbase_tenant.visible_tenant_ids())::pg_catalog.uuid[]));
CREATE POLICY own_tenants ON fluxbase_tenant.members FOR SELECT TO fluxbase_tenant_user
    USING ((SELECT @extschema@.tenant_is_instance_admin())
        OR tenant_id = ANY ((SELECT fluxbase_tenant.visible_tenant_ids())::pg_catalog.uuid[]));
CREATE POLICY own_tenants ON fluxbase_tenant.applied_migrations FOR SELECT TO fluxbase_tenant_user
    USING ((SELECT @extschema@.tenant_is_instance_admin())
        OR tenant_id = ANY ((SELECT fluxbase_tenant.visible_tenant_ids())::pg_catalog.uuid[]));
CREATE POLICY instance_admins_only ON fluxbase_tenant.instance_admins FOR SELECT TO fluxbase_tenant_user
    USING ((SELECT @extschema@.tenant_is_instance_admin()));
CREATE POLICY instance_admins_only ON fluxbase_tenant.migrations FOR SELECT TO fluxbase_tenant_user
    USING ((SELECT @extschema@.tenant_is_instance_admin()));
CREATE POLICY instance_admins_only ON fluxbase_tenant.unfinished_migrations FOR SELECT TO fluxbase_tenant_user
    USING ((SELECT @extschema@.tenant_is_instance_admin()));
CREATE POLICY instance_admins_only ON fluxbase_tenant.fleet_runs FOR SELECT TO fluxbase_tenant_user
    USING ((SELECT @extschema@.tenant_is_instance_admin()));
CREATE POLICY instance_admins_only ON fluxbase_tenant.fleet_results FOR SELECT TO fluxbase_tenant_user
    USING ((SELECT @extschema@.tenant_is_instance_admin()));

-- Relations of tenants are protected from their birth, by whatever command they come to be, and stay so.
CREATE EVENT TRIGGER fluxbase_tenant_after_command ON ddl_command_end
    WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'CREATE SCHEMA', 'ALTER TABLE', 'CREATE VIEW', 'ALTER VIEW',
                 'CREATE MATERIALIZED VIEW', 'ALTER MATERIALIZED VIEW', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE',
                 'IMPORT FOREIGN SCHEMA', 'ALTER POLICY')
    EXECUTE FUNCTION fluxbase_tenant.after_command();
CREATE EVENT TRIGGER fluxbase_tenant_after_drop ON sql_drop
    WHEN TAG IN ('DROP POLICY')
    EXECUTE FUNCTION fluxbase_tenant.after_drop();

-- What answers about access depend on: a change reaches the caches of all sessions when it commits.
-- Of a tenant no other column matters to them, and a name or a version changes often.
CREATE TRIGGER catalog_changed
    AFTER INSERT OR UPDATE OF id, schema_name, spare, suspended_at, deleted_at OR DELETE OR TRUNCATE ON fluxbase_tenant.tenants
    FOR EACH STATEMENT EXECUTE FUNCTION fluxbase_tenant.catalog_changed();
CREATE TRIGGER catalog_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON fluxbase_tenant.members
    FOR EACH STATEMENT EXECUTE FUNCTION fluxbase_tenant.catalog_changed();
CREATE TRIGGER catalog_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON fluxbase_tenant.instance_admins
    FOR EACH STATEMENT EXECUTE FUNCTION fluxbase_tenant.catalog_changed();
