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
)
