-- Parts of relations: constraints, indexes, triggers, rules, policies, statistics. Constraints that a partition or
-- inheritance child has from its parent are omitted.
SELECT 'pg_constraint'::regclass, k.oid, 0, concat('constraint ', r.name, chr(3), quote_ident(k.conname)), r.object,
       pg_get_constraintdef(k.oid) || CASE WHEN EXISTS (
           SELECT 1 FROM pg_trigger t WHERE t.tgconstraint = k.oid AND t.tgenabled <> 'O') THEN ' DISABLED' ELSE '' END,
       NULL, false, NULL, NULL
FROM relation r JOIN pg_constraint k ON k.conrelid = r.oid
WHERE k.contype NOT IN ('n', 't') AND k.conparentid = 0 AND (k.conislocal OR k.coninhcount = 0)
UNION ALL
SELECT 'pg_class'::regclass, x.oid, 0, format('index %I', x.relname), coalesce('constraint ' || r.name || chr(3) || quote_ident(k.conname), r.object),
       concat_ws(' ', pg_get_indexdef(x.oid), (SELECT 'TABLESPACE ' || quote_ident(ts.spcname) FROM pg_tablespace ts WHERE ts.oid = x.reltablespace),
           CASE WHEN NOT i.indisvalid THEN 'INVALID' END, CASE WHEN i.indisclustered THEN 'CLUSTERED' END,
           CASE WHEN i.indisreplident THEN 'REPLICA IDENTITY' END),
       NULL, false, NULL, NULL
FROM relation r JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class x ON x.oid = i.indexrelid
LEFT JOIN pg_constraint k ON k.conrelid = r.oid AND k.conindid = x.oid AND k.contype IN ('p', 'u', 'x') AND k.conparentid = 0
UNION ALL
SELECT 'pg_trigger'::regclass, t.oid, 0, concat('trigger ', r.name, chr(3), quote_ident(t.tgname)), r.object,
       pg_get_triggerdef(t.oid) || CASE t.tgenabled WHEN 'O' THEN '' WHEN 'D' THEN ' DISABLED' WHEN 'R' THEN ' ENABLED REPLICA' ELSE ' ENABLED ALWAYS' END,
       NULL, false, NULL, NULL
FROM relation r JOIN pg_trigger t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal AND t.tgparentid = 0
UNION ALL
SELECT 'pg_rewrite'::regclass, w.oid, 0, concat('rule ', r.name, chr(3), quote_ident(w.rulename)), r.object,
       pg_get_ruledef(w.oid) || CASE w.ev_enabled WHEN 'O' THEN '' WHEN 'D' THEN ' DISABLED' WHEN 'R' THEN ' ENABLED REPLICA' ELSE ' ENABLED ALWAYS' END,
       NULL, false, NULL, NULL
FROM relation r JOIN pg_rewrite w ON w.ev_class = r.oid AND w.rulename <> '_RETURN'
-- pg_get_expr() opens and locks the table whose OID it is passed. Pass the OID only if the expression refers to
-- columns.
UNION ALL
SELECT 'pg_policy'::regclass, p.oid, 0, concat('policy ', r.name, chr(3), quote_ident(p.polname)), r.object, concat_ws(' ',
           CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, 'FOR',
           CASE p.polcmd WHEN '*' THEN 'ALL' WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' ELSE 'DELETE' END,
           'TO', (SELECT string_agg(g, ', ' ORDER BY g) FROM unnest(p.polroles) role,
                  LATERAL (SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END) x (g)),
           format('USING (%s)', pg_get_expr(p.polqual, CASE WHEN strpos(p.polqual::text, '{VAR ') > 0 THEN r.oid ELSE 0 END)),
           'WITH CHECK (' || pg_get_expr(p.polwithcheck, CASE WHEN strpos(p.polwithcheck::text, '{VAR ') > 0 THEN r.oid ELSE 0 END) || ')'),
       NULL, false, NULL, NULL
FROM relation r JOIN pg_policy p ON p.polrelid = r.oid
UNION ALL
SELECT 'pg_statistic_ext'::regclass, x.oid, 0, format('statistics %I', x.stxname), coalesce(r.object, s.object),
       concat_ws(' ', pg_get_statisticsobjdef(x.oid), 'STATISTICS ' || nullif(x.stxstattarget, -1)), x.stxowner, true, NULL, NULL
FROM held h JOIN pg_statistic_ext x ON h.classid = 'pg_statistic_ext'::regclass AND x.oid = h.objid
JOIN space s ON s.oid = x.stxnamespace LEFT JOIN relation r ON r.oid = x.stxrelid
