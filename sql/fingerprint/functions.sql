-- Functions, except those that are created with a range type
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
