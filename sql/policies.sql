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
