fact (object, parent, definition) AS (
    SELECT t.object, t.parent, t.definition FROM thing t
    UNION ALL
    SELECT 'owner of ' || t.object, t.object, t.owner::regrole::text FROM thing t WHERE t.has_own_owner AND t.owner IS NOT NULL
    UNION ALL
    -- The lines above show the owner. Here, the owner is called 'its owner', so that a different owner does not change
    -- the grants.
    SELECT format('grant on %s to %s', t.object, g.grantee), t.object,
           string_agg(DISTINCT a.privilege_type || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END, ', ')
    FROM thing t, aclexplode(coalesce(t.acl, acldefault(t.acltype, t.owner))) a,
    LATERAL (SELECT CASE a.grantee WHEN t.owner THEN 'its owner' WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END) g (grantee)
    WHERE t.acltype IS NOT NULL GROUP BY t.classid, t.objid, t.subid, t.object, g.grantee
    UNION ALL
    SELECT 'comment on ' || t.object, t.object, d.description
    FROM thing t JOIN pg_description d ON d.classoid = t.classid AND d.objoid = t.objid AND d.objsubid = t.subid
)
SELECT concat(f.object, chr(2), f.parent, chr(2), f.definition) AS line FROM fact f
