-- Rare objects: operators, operator classes and families, collations, conversions, text search objects
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
