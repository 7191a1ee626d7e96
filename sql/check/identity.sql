-- Identity
SELECT 'warning', 'setting ' || i.setting, 'determines the ' || i.purpose || ' and can be set by every role that can run SQL: '
       || coalesce((SELECT string_agg(quote_ident(rolname), ', ' ORDER BY rolname) FROM application), 'no role yet'),
       'Do not let untrusted roles run their own SQL, or use fluxbase_tenant.user_id and fluxbase_tenant.tenant_id.'
FROM identity i LEFT JOIN pg_settings s ON s.name = i.setting
WHERE i.setting <> '' AND i.setting NOT IN ('fluxbase_tenant.user_id', 'fluxbase_tenant.tenant_id')
  AND coalesce(s.context, 'user') = 'user'
UNION ALL
SELECT 'error', 'setting ' || p.parname, 'can be set by PUBLIC', format('REVOKE SET ON PARAMETER %s FROM PUBLIC', p.parname)
FROM pg_parameter_acl p, aclexplode(p.paracl) a WHERE p.parname LIKE 'fluxbase\_tenant.%' AND a.grantee = 0
