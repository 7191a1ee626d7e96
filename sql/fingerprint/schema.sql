-- The schema itself
SELECT 'pg_namespace'::regclass::oid, s.oid, 0, s.object, '', 'SCHEMA', s.nspowner, true, s.nspacl, 'n'::"char" FROM space s
UNION ALL
SELECT 'pg_default_acl'::regclass, d.oid, 0,
       format('default privileges of %s on %s', d.defaclrole::regrole,
              CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions'
                                   WHEN 'T' THEN 'types' ELSE d.defaclobjtype::text END)
           || CASE d.defaclnamespace WHEN 0 THEN ' in all schemas' ELSE '' END, s.object,
       (SELECT string_agg(format('%s TO %s', a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END),
                          ', ' ORDER BY a.grantee::regrole::text, a.privilege_type) FROM aclexplode(d.defaclacl) a),
       NULL, false, NULL, NULL
FROM space s, pg_default_acl d
WHERE d.oid = ANY (ARRAY(SELECT h.objid FROM held h WHERE h.classid = 'pg_default_acl'::regclass) || ARRAY(
    SELECT g.oid FROM pg_default_acl g JOIN pg_authid o ON o.oid = g.defaclrole
    WHERE g.defaclnamespace = 0 AND o.rolname = $2::text::name))
