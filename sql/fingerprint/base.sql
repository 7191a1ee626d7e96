WITH
-- The description of the schema $1: a line for each thing in it. A line consists of the thing's name, the name of its
-- parent (the thing with which it is created and dropped) and its definition, separated by chr(2). A dot that does not
-- follow a schema name is written as chr(3). The query finds everything through pg_depend and indexes on OIDs, so that
-- it is fast in databases of any size. It omits properties that do not depend on how the schema was created: OIDs,
-- column positions, sequence values, statistics.
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
