WITH
-- What a schema ($1) is made of: a line for each thing, with its name, the thing it goes with, and its definition, and
-- chr(2) between them. A dot that stands behind no schema's name is chr(3). All is found by way of pg_depend and indexes on
-- oids, in a database of any size. What says nothing about how the schema was made is left out: oids, positions of columns,
-- last values, statistics.
space AS MATERIALIZED (
    SELECT n.oid, n.nspowner, n.nspacl, 'schema ' || $1::text AS object FROM pg_namespace n WHERE n.nspname = $1::text::name
),
held AS MATERIALIZED (
    SELECT DISTINCT d.classid, d.objid FROM space s
    JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = s.oid
),
relation AS MATERIALIZED (
    SELECT c.*, quote_ident(c.relname) AS name, s.object AS space,
           CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                          WHEN 'S' THEN 'sequence' ELSE 'table' END || ' ' || quote_ident(c.relname) AS object
    FROM held h JOIN pg_class c ON h.classid = 'pg_class'::regclass AND c.oid = h.objid JOIN space s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
),
-- owner: whose default privileges an absent acl stands for. tells: whether the owner is a fact of its own.
thing (classid, objid, subid, object, parent, definition, owner, tells, acl, acltype) AS MATERIALIZED (
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
    -- Relations
    UNION ALL
    SELECT 'pg_class'::regclass, r.oid, 0, r.object, r.space, concat_ws(' ',
               CASE r.relpersistence WHEN 'u' THEN 'UNLOGGED' END,
               CASE r.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END,
               'OF ' || nullif(r.reloftype, 0)::regtype,
               (SELECT CASE WHEN r.relispartition THEN 'PARTITION OF ' ELSE 'INHERITS ' END
                       || string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno)
                FROM pg_inherits i WHERE i.inhrelid = r.oid),
               pg_get_expr(r.relpartbound, 0),
               CASE r.relkind WHEN 'p' THEN 'PARTITION BY ' || pg_get_partkeydef(r.oid) END,
               (SELECT 'USING ' || quote_ident(am.amname) FROM pg_am am WHERE am.oid = r.relam AND am.amname <> 'heap'),
               (SELECT 'SERVER ' || quote_ident(v.srvname) || coalesce(' OPTIONS ' || f.ftoptions::text, '')
                FROM pg_foreign_table f JOIN pg_foreign_server v ON v.oid = f.ftserver WHERE f.ftrelid = r.oid),
               (SELECT 'WITH (' || string_agg(o, ', ' ORDER BY o) || ')' FROM unnest(r.reloptions) o),
               (SELECT 'TABLESPACE ' || quote_ident(ts.spcname) FROM pg_tablespace ts WHERE ts.oid = r.reltablespace),
               CASE WHEN r.relkind IN ('v', 'm') THEN NULL WHEN r.relreplident = 'n' THEN 'REPLICA IDENTITY NOTHING' WHEN r.relreplident = 'f' THEN 'REPLICA IDENTITY FULL' END,
               CASE WHEN r.relkind IN ('v', 'm') THEN 'AS ' || pg_get_viewdef(r.oid) END),
           r.relowner, true, r.relacl, 'r'
    FROM relation r WHERE r.relkind <> 'S'
    UNION ALL
    SELECT 'pg_class'::regclass, r.oid, 0, r.object, coalesce('column ' || owned.name, r.space), concat_ws(' ',
               CASE r.relpersistence WHEN 'u' THEN 'UNLOGGED' END, 'SEQUENCE', 'AS', format_type(q.seqtypid, NULL),
               'INCREMENT', q.seqincrement, 'MINVALUE', q.seqmin, 'MAXVALUE', q.seqmax, 'START', q.seqstart, 'CACHE', q.seqcache,
               CASE WHEN q.seqcycle THEN 'CYCLE' END, 'OWNED BY ' || owned.name),
           r.relowner, owned.name IS NULL, r.relacl, 's'
    FROM relation r JOIN pg_sequence q ON q.seqrelid = r.oid
    LEFT JOIN LATERAL (
        SELECT concat(quote_ident(t.relname), chr(3), quote_ident(a.attname)) AS name
        FROM pg_depend d JOIN pg_class t ON t.oid = d.refobjid
        JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = r.oid AND d.objsubid = 0 AND d.refclassid = 'pg_class'::regclass
          AND d.deptype IN ('a', 'i')) owned ON true
    WHERE r.relkind = 'S'
    UNION ALL
    SELECT 'pg_class'::regclass, r.oid, -1, 'row-level security of ' || r.object, r.object,
           concat_ws(', ', CASE WHEN r.relrowsecurity THEN 'ENABLED' ELSE 'DISABLED' END, CASE WHEN r.relforcerowsecurity THEN 'FORCED' END),
           NULL, false, NULL, NULL
    FROM relation r WHERE r.relkind IN ('r', 'p')
    UNION ALL
    SELECT 'pg_class'::regclass, r.oid, a.attnum, concat('column ', r.name, chr(3), quote_ident(a.attname)), r.object, concat_ws(' ',
               format_type(a.atttypid, a.atttypmod),
               CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation END,
               CASE WHEN a.attnotnull THEN 'NOT NULL' END,
               -- PostgreSQL 18 has a constraint for it, whose name is nobody's concern.
               (SELECT CASE WHEN k.connoinherit THEN 'NO INHERIT ' ELSE '' END || CASE WHEN k.convalidated THEN '' ELSE 'NOT VALID' END
                FROM pg_constraint k WHERE k.conrelid = r.oid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum]
                  AND (k.connoinherit OR NOT k.convalidated)),
               CASE a.attidentity WHEN 'a' THEN 'GENERATED ALWAYS AS IDENTITY' WHEN 'd' THEN 'GENERATED BY DEFAULT AS IDENTITY' END,
               CASE a.attgenerated WHEN '' THEN 'DEFAULT ' || pg_get_expr(d.adbin, 0)
                    ELSE format('GENERATED ALWAYS AS (%s) %s', pg_get_expr(d.adbin, r.oid),
                                CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END) END,
               CASE WHEN a.attstorage <> t.typstorage THEN 'STORAGE ' || a.attstorage::text END,
               'COMPRESSION ' || nullif(a.attcompression::text, ''), 'STATISTICS ' || nullif(a.attstattarget, -1),
               -- Some servers stamp columns with a version of their own, as pg_attver.
               (SELECT 'WITH (' || string_agg(o, ', ' ORDER BY o) || ')' FROM unnest(a.attoptions) o WHERE o !~ '^pg_'),
               'OPTIONS ' || a.attfdwoptions::text),
           r.relowner, false, a.attacl, CASE WHEN a.attacl IS NOT NULL THEN 'c'::"char" END
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    WHERE r.relkind <> 'S'
    -- Constraints of partitions and heirs that are their parents' follow those.
    UNION ALL
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
    -- The table is opened to print an expression only where that names its columns.
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
    -- Functions, but for those that come and go with a range type
    UNION ALL
    SELECT 'pg_proc'::regclass, p.oid, 0,
           format('%s %I(%s)', CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END, p.proname,
                  oidvectortypes(p.proargtypes)), s.object,
           CASE p.prokind WHEN 'a' THEN (
               SELECT format('AGGREGATE (%s) RETURNS %s ', pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)) || concat_ws(' ',
                   a.aggkind, a.aggnumdirectargs, a.aggtransfn::regprocedure, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
                   a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn, a.aggfinalextra, a.aggfinalmodify, a.aggsortop::regoperator,
                   format_type(a.aggtranstype, NULL), a.aggtransspace, quote_nullable(a.agginitval), format_type(a.aggmtranstype, NULL),
                   quote_nullable(a.aggminitval), p.proparallel)
               FROM pg_aggregate a WHERE a.aggfnoid = p.oid) ELSE pg_get_functiondef(p.oid) END,
           p.proowner, true, p.proacl, 'f'
    FROM held h JOIN pg_proc p ON h.classid = 'pg_proc'::regclass AND p.oid = h.objid JOIN space s ON s.oid = p.pronamespace
    WHERE NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = h.classid AND d.objid = h.objid AND d.refclassid = 'pg_type'::regclass AND d.deptype = 'i')
    -- Types
    UNION ALL
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
    -- What is rare: operators and classes of them, collations, conversions, text search
    UNION ALL
    SELECT h.classid, h.objid, 0, format('%s %s', i.type, i.identity), s.object, concat_ws(' ', upper(i.type),
               (SELECT concat_ws(' ', o.oprcode::regprocedure, 'COMMUTATOR ' || nullif(o.oprcom, 0)::regoperator, 'NEGATOR ' || nullif(o.oprnegate, 0)::regoperator,
                    o.oprrest, o.oprjoin, CASE WHEN o.oprcanhash THEN 'HASHES' END, CASE WHEN o.oprcanmerge THEN 'MERGES' END)
                FROM pg_operator o WHERE h.classid = 'pg_operator'::regclass AND o.oid = h.objid),
               (SELECT (to_jsonb(c) - '{oid,collname,collnamespace,collowner,collversion}'::text[])::text
                FROM pg_collation c WHERE h.classid = 'pg_collation'::regclass AND c.oid = h.objid),
               (SELECT concat_ws(' ', y.tmplname, d.dictinitoption) FROM pg_ts_dict d JOIN pg_ts_template y ON y.oid = d.dicttemplate
                WHERE h.classid = 'pg_ts_dict'::regclass AND d.oid = h.objid),
               (SELECT string_agg(concat_ws(' ', m.maptokentype, m.mapdict::regdictionary), ', ' ORDER BY m.maptokentype, m.mapseqno)
                FROM pg_ts_config_map m WHERE h.classid = 'pg_ts_config'::regclass AND m.mapcfg = h.objid)),
           coalesce((SELECT o.oprowner FROM pg_operator o WHERE h.classid = 'pg_operator'::regclass AND o.oid = h.objid),
                    (SELECT c.collowner FROM pg_collation c WHERE h.classid = 'pg_collation'::regclass AND c.oid = h.objid),
                    (SELECT d.dictowner FROM pg_ts_dict d WHERE h.classid = 'pg_ts_dict'::regclass AND d.oid = h.objid),
                    (SELECT c.cfgowner FROM pg_ts_config c WHERE h.classid = 'pg_ts_config'::regclass AND c.oid = h.objid)), true, NULL, NULL
    FROM held h CROSS JOIN space s, pg_identify_object(h.classid, h.objid, 0) i
    WHERE h.classid = ANY ('{pg_operator,pg_collation,pg_conversion,pg_opclass,pg_opfamily,pg_ts_config,pg_ts_dict,pg_ts_parser,pg_ts_template}'::regclass[])
      AND i.schema = quote_ident($1::text)
),
fact (object, parent, definition) AS (
    SELECT t.object, t.parent, t.definition FROM thing t
    UNION ALL
    SELECT 'owner of ' || t.object, t.object, t.owner::regrole::text FROM thing t WHERE t.tells AND t.owner IS NOT NULL
    UNION ALL
    -- Who owns it is told above; here the owner is the owner, whoever that is.
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
