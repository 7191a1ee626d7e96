-- Types
SELECT 'pg_type'::regclass, t.oid, 0, CASE t.typtype WHEN 'd' THEN 'domain ' ELSE 'type ' END || quote_ident(t.typname), s.object,
       CASE t.typtype
           WHEN 'e' THEN 'ENUM (' || coalesce((SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                                               FROM pg_enum e WHERE e.enumtypid = t.oid), '') || ')'
           WHEN 'd' THEN concat_ws(' ', 'DOMAIN AS', format_type(t.typbasetype, t.typtypmod),
               (SELECT 'COLLATE ' || t.typcollation::regcollation FROM pg_type b WHERE b.oid = t.typbasetype AND b.typcollation <> t.typcollation),
               CASE WHEN t.typnotnull THEN 'NOT NULL' END, 'DEFAULT ' || pg_get_expr(t.typdefaultbin, 0))
           WHEN 'c' THEN 'COMPOSITE (' || coalesce((
               SELECT string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                   (SELECT 'COLLATE ' || a.attcollation::regcollation FROM pg_type b WHERE b.oid = a.atttypid AND b.typcollation <> a.attcollation)),
                   ', ' ORDER BY a.attnum)
               FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped), '') || ')'
           WHEN 'r' THEN (
               SELECT concat_ws(' ', 'RANGE', format_type(g.rngsubtype, NULL), format_type(g.rngmultitypid, NULL), 'COLLATE ' || nullif(g.rngcollation, 0)::regcollation,
                   (SELECT format('OPCLASS %s.%I', c.opcnamespace::regnamespace, c.opcname) FROM pg_opclass c WHERE c.oid = g.rngsubopc),
                   g.rngcanonical, g.rngsubdiff)
               FROM pg_range g WHERE g.rngtypid = t.oid)
           ELSE concat_ws(' ', 'TYPE', t.typtype, t.typinput, t.typoutput) END,
       t.typowner, true, t.typacl, 'T'
FROM held h JOIN pg_type t ON h.classid = 'pg_type'::regclass AND t.oid = h.objid JOIN space s ON s.oid = t.typnamespace
WHERE t.typtype <> 'm'
UNION ALL
SELECT 'pg_constraint'::regclass, k.oid, 0, concat('constraint ', quote_ident(t.typname), chr(3), quote_ident(k.conname)), 'domain ' || quote_ident(t.typname),
       pg_get_constraintdef(k.oid), NULL, false, NULL, NULL
FROM held h JOIN pg_type t ON h.classid = 'pg_type'::regclass AND t.oid = h.objid JOIN space s ON s.oid = t.typnamespace
JOIN pg_constraint k ON k.contypid = t.oid AND k.contype <> 'n'
