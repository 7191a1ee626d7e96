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
