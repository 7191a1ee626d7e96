-- Tenants
SELECT 'error', 'tenant ' || slug, 'schema ' || quote_ident(schema_name) || ' does not exist',
       'Restore it from a backup, or delete the tenant with tenant_delete().'
FROM tenant WHERE schema IS NULL AND renamed IS NULL
UNION ALL
SELECT 'error', 'tenant ' || slug, 'schema ' || quote_ident(schema_name) || ' was renamed to ' || quote_ident(renamed),
       format('SELECT %s.tenant_repair(%L::uuid)', $3, id)
FROM tenant WHERE renamed IS NOT NULL
UNION ALL
SELECT 'error', 'tenant ' || slug, 'owner role ' || owner_name || ' does not exist', format('SELECT %s.tenant_repair(%L::uuid)', $3, id)
FROM tenant WHERE owner IS NULL
UNION ALL
SELECT 'error', 'schema ' || quote_ident(schema_name), 'is owned by ' || nspowner::regrole, format('SELECT %s.tenant_repair(%L::uuid)', $3, id)
FROM tenant WHERE schema IS NOT NULL AND nspowner IS DISTINCT FROM owner
UNION ALL
SELECT 'error', 'role ' || r.rolname, 'owner role of a tenant has attributes that an owner role must not have', format('SELECT %s.tenant_repair(%L::uuid)', $3, t.id)
FROM tenant t JOIN pg_roles r ON r.oid = t.owner
WHERE r.rolcanlogin OR r.rolsuper OR r.rolbypassrls OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication
UNION ALL
SELECT 'error', 'role ' || t.owner_name, 'owner role of a tenant has the member ' || m.member::regrole, format('SELECT %s.tenant_repair(%L::uuid)', $3, t.id)
FROM tenant t JOIN pg_auth_members m ON m.roleid = t.owner
