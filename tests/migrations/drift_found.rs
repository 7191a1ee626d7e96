//! tenant_drift() finds each kind of difference, and reports it under the name of the object that differs and no other.

use crate::cases;
use crate::support::Db;
use crate::support::audit::shared_cluster;
use crate::support::drift::{EVERYTHING, drift_of};
use crate::support::people::{new_user, run};

cases![
    tables_and_columns,
    constraints_and_indexes,
    code,
    policies,
    grants_and_owners,
    sequences_and_types,
    other_objects
];

/// A change that a superuser makes, and the drift that is reported. `{o}` is the owner role.
type Change<'a> = (&'a str, &'a [&'a str]);

#[track_caller]
fn each_is_found(db: &Db, changes: &[Change]) {
    let db = Db::new(&shared_cluster(db));
    db.add_migration("1", EVERYTHING);
    let acme = db.new_tenant("acme", new_user());
    let owner = Db::owner_role(acme);
    let mut superuser = db.superuser();
    run(&mut superuser, "SET client_min_messages = error; SET search_path = tenant_acme, public");
    let mut wrong = Vec::new();
    for (change, expected) in changes {
        let change = change.replace("{o}", &owner);
        let expected: Vec<String> = expected.iter().map(|line| line.replace("{o}", &owner)).collect();
        run(&mut superuser, &format!("BEGIN; {change}"));
        let found = drift_of(&mut superuser, acme);
        if found != expected {
            wrong.push(format!("{change}: {found:#?}"));
        }
        run(&mut superuser, "ROLLBACK");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(drift_of(&mut superuser, acme).is_empty());
    run(&mut superuser, &format!("SELECT tenant_delete('{acme}')"));
}

fn tables_and_columns(db: &Db) {
    each_is_found(
        db,
        &[
            ("CREATE TABLE extra (n serial PRIMARY KEY, CHECK (n > 1))", &["table extra unexpected"]),
            ("DROP TABLE heir CASCADE", &["policy notes.mine missing", "table heir missing"]),
            ("ALTER TABLE plain RENAME TO plan", &["table plain missing", "table plan unexpected"]),
            ("ALTER TABLE plain SET UNLOGGED", &["table plain different"]),
            ("ALTER TABLE plain SET (fillfactor = 50)", &["table plain different"]),
            ("ALTER TABLE plain REPLICA IDENTITY FULL", &["table plain different"]),
            ("ALTER TABLE heir NO INHERIT notes", &["table heir different"]),
            ("ALTER TABLE typed NOT OF", &["table typed different"]),
            ("DROP TABLE of_split, part", &["table of_split missing", "table part missing"]),
            ("ALTER TABLE plain ADD COLUMN extra int DEFAULT 1", &["column plain.extra unexpected"]),
            ("ALTER TABLE plain DROP COLUMN b", &["column plain.b missing"]),
            ("ALTER TABLE plain RENAME COLUMN b TO bb", &["column plain.b missing", "column plain.bb unexpected"]),
            ("ALTER TABLE plain ALTER a TYPE bigint", &["column plain.a different"]),
            ("ALTER TABLE plain ALTER a SET DEFAULT 2", &["column plain.a different"]),
            ("ALTER TABLE plain ALTER a DROP DEFAULT", &["column plain.a different"]),
            ("ALTER TABLE plain ALTER a DROP NOT NULL", &["column plain.a different"]),
            ("ALTER TABLE plain ALTER b SET NOT NULL", &["column plain.b different"]),
            ("ALTER TABLE plain ALTER b TYPE varchar(7)", &["column plain.b different"]),
            ("ALTER TABLE plain ALTER b TYPE text COLLATE \"C\"", &["column plain.b different"]),
            ("ALTER TABLE plain ALTER b SET STORAGE external", &["column plain.b different"]),
            ("ALTER TABLE plain ALTER b SET STATISTICS 7", &["column plain.b different"]),
            ("ALTER TABLE plain ALTER b SET (n_distinct = 7)", &["column plain.b different"]),
            ("ALTER TABLE people ALTER low DROP EXPRESSION", &["column people.low different"]),
            ("ALTER TABLE people ALTER i SET GENERATED ALWAYS", &["column people.i different"]),
            (
                "ALTER TABLE people ALTER i DROP IDENTITY",
                &["column people.i different", "sequence people_i_seq missing"],
            ),
        ],
    );
}

fn constraints_and_indexes(db: &Db) {
    each_is_found(
        db,
        &[
            ("ALTER TABLE people DROP CONSTRAINT c", &["constraint people.c missing"]),
            ("ALTER TABLE plain ADD CONSTRAINT big CHECK (a > 5) NOT VALID", &["constraint plain.big unexpected"]),
            (
                "ALTER TABLE people DROP CONSTRAINT c, ADD CONSTRAINT c CHECK (i > 1)",
                &["constraint people.c different"],
            ),
            (
                "ALTER TABLE people DROP CONSTRAINT people_pkey CASCADE",
                &["constraint notes.notes_who_fkey missing", "constraint people.people_pkey missing"],
            ),
            (
                "ALTER TABLE notes ALTER CONSTRAINT notes_who_fkey DEFERRABLE",
                &["constraint notes.notes_who_fkey different"],
            ),
            (
                "ALTER TABLE notes DISABLE TRIGGER ALL",
                &["constraint notes.notes_who_fkey different", "trigger notes.t different"],
            ),
            ("ALTER TABLE people DROP CONSTRAINT people_i_key", &["constraint people.people_i_key missing"]),
            ("ALTER TABLE plain ADD PRIMARY KEY (a)", &["constraint plain.plain_pkey unexpected"]),
            ("CREATE INDEX extra ON plain (c)", &["index extra unexpected"]),
            ("DROP INDEX notes_lower_idx", &["index notes_lower_idx missing"]),
            ("ALTER INDEX notes_lower_idx RENAME TO x", &["index notes_lower_idx missing", "index x unexpected"]),
            ("ALTER INDEX notes_lower_idx SET (fillfactor = 50)", &["index notes_lower_idx different"]),
            (
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'notes_lower_idx'::regclass",
                &["index notes_lower_idx different"],
            ),
            ("ALTER TABLE notes CLUSTER ON notes_pkey", &["index notes_pkey different"]),
            (
                "DROP INDEX split_at_idx",
                &["index part_at_idx missing", "index rest_at_idx missing", "index split_at_idx missing"],
            ),
            ("DROP STATISTICS st", &["statistics st missing"]),
            ("ALTER STATISTICS st SET STATISTICS 7", &["statistics st different"]),
        ],
    );
}

fn code(db: &Db) {
    each_is_found(
        db,
        &[
            ("CREATE VIEW extra AS SELECT 1 AS n", &["view extra unexpected"]),
            ("DROP VIEW seen", &["view seen missing"]),
            ("CREATE OR REPLACE VIEW seen AS SELECT n.id, p.m FROM notes n, people p", &["view seen different"]),
            ("ALTER VIEW seen SET (security_barrier)", &["view seen different"]),
            ("ALTER VIEW seen ALTER id SET DEFAULT 1", &["column seen.id different"]),
            ("DROP MATERIALIZED VIEW mat", &["materialized view mat missing"]),
            ("CREATE FUNCTION f(text) RETURNS int LANGUAGE sql AS 'SELECT 1'", &["function f(text) unexpected"]),
            ("DROP FUNCTION f(mood, int)", &["function f(mood, integer) missing"]),
            (
                "CREATE OR REPLACE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
                &["function t() different"],
            ),
            (
                "CREATE OR REPLACE FUNCTION g(n int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT id FROM notes; END",
                &["function g(integer) different"],
            ),
            ("ALTER FUNCTION g(int) SECURITY DEFINER", &["function g(integer) different"]),
            ("ALTER FUNCTION g(int) IMMUTABLE", &["function g(integer) different"]),
            ("ALTER FUNCTION g(int) SET work_mem = '1MB'", &["function g(integer) different"]),
            ("ALTER FUNCTION f(mood, int) RESET ALL", &["function f(mood, integer) different"]),
            ("ALTER FUNCTION f(mood, int) SET search_path = public", &["function f(mood, integer) different"]),
            ("ALTER PROCEDURE pr(int) SECURITY DEFINER", &["procedure pr(integer) different"]),
            ("DROP AGGREGATE total(int)", &["aggregate total(integer) missing"]),
            (
                "CREATE OR REPLACE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '1')",
                &["aggregate total(integer) different"],
            ),
            ("DROP TRIGGER t ON notes", &["trigger notes.t missing"]),
            ("ALTER TABLE notes DISABLE TRIGGER t", &["trigger notes.t different"]),
            ("ALTER TABLE split DISABLE TRIGGER t", &["trigger split.t different"]),
            (
                "CREATE TRIGGER x BEFORE INSERT ON plain FOR EACH ROW EXECUTE FUNCTION t()",
                &["trigger plain.x unexpected"],
            ),
            ("CREATE RULE x AS ON INSERT TO plain DO NOTHING", &["rule plain.x unexpected"]),
            ("DROP RULE r ON heir", &["rule heir.r missing"]),
            ("ALTER TABLE heir DISABLE RULE r", &["rule heir.r different"]),
        ],
    );
}

fn policies(db: &Db) {
    each_is_found(
        db,
        &[
            ("DROP POLICY mine ON notes", &["policy notes.mine missing"]),
            ("CREATE POLICY x ON plain USING (a > 1)", &["policy plain.x unexpected"]),
            ("ALTER POLICY mine ON notes USING (true)", &["policy notes.mine different"]),
            ("ALTER POLICY mine ON notes WITH CHECK (true)", &["policy notes.mine different"]),
            ("ALTER POLICY mine ON notes TO PUBLIC", &["policy notes.mine different"]),
            ("DROP POLICY tenant_isolation ON plain", &["policy plain.tenant_isolation missing"]),
            (
                "ALTER POLICY tenant_isolation ON plain USING (fluxbase_tenant.accessible(gen_random_uuid()))",
                &["policy plain.tenant_isolation different"],
            ),
            ("ALTER TABLE plain DISABLE ROW LEVEL SECURITY", &["row-level security of table plain different"]),
            ("ALTER TABLE plain NO FORCE ROW LEVEL SECURITY", &["row-level security of table plain different"]),
        ],
    );
}

fn grants_and_owners(db: &Db) {
    each_is_found(
        db,
        &[
            ("GRANT TRUNCATE ON notes TO app_user", &["grant on table notes to app_user unexpected"]),
            (
                "GRANT TRUNCATE ON notes TO fluxbase_tenant_user",
                &["grant on table notes to fluxbase_tenant_user different"],
            ),
            ("REVOKE SELECT ON notes FROM PUBLIC", &["grant on table notes to PUBLIC missing"]),
            (
                "REVOKE ALL ON plain FROM fluxbase_tenant_user",
                &["grant on table plain to fluxbase_tenant_user missing"],
            ),
            ("REVOKE ALL ON plain FROM {o}", &["grant on table plain to its owner missing"]),
            ("GRANT SELECT (a) ON plain TO app_user", &["grant on column plain.a to app_user unexpected"]),
            ("GRANT SELECT ON seen TO app_user", &["grant on view seen to app_user unexpected"]),
            ("GRANT USAGE ON SEQUENCE s TO PUBLIC", &["grant on sequence s to PUBLIC unexpected"]),
            ("REVOKE EXECUTE ON FUNCTION g(int) FROM PUBLIC", &["grant on function g(integer) to PUBLIC missing"]),
            ("REVOKE USAGE ON TYPE mood FROM PUBLIC", &["grant on type mood to PUBLIC missing"]),
            ("GRANT USAGE ON SCHEMA tenant_acme TO PUBLIC", &["grant on schema tenant_acme to PUBLIC unexpected"]),
            (
                "REVOKE USAGE ON SCHEMA tenant_acme FROM fluxbase_tenant_user",
                &["grant on schema tenant_acme to fluxbase_tenant_user missing"],
            ),
            (
                "ALTER DEFAULT PRIVILEGES FOR ROLE {o} IN SCHEMA tenant_acme GRANT SELECT ON TABLES TO PUBLIC",
                &["default privileges of {o} on tables different"],
            ),
            (
                "ALTER DEFAULT PRIVILEGES FOR ROLE {o} GRANT USAGE ON SEQUENCES TO PUBLIC",
                &["default privileges of {o} on sequences in all schemas unexpected"],
            ),
            ("ALTER SCHEMA tenant_acme OWNER TO postgres", &["owner of schema tenant_acme different"]),
            ("ALTER TABLE plain OWNER TO postgres", &["owner of table plain different"]),
            ("ALTER TABLE people OWNER TO postgres", &["owner of table people different"]),
            ("ALTER VIEW seen OWNER TO app_user", &["owner of view seen different"]),
            ("ALTER SEQUENCE s OWNER TO app_user", &["owner of sequence s different"]),
            ("ALTER FUNCTION g(int) OWNER TO postgres", &["owner of function g(integer) different"]),
            ("ALTER DOMAIN positive OWNER TO postgres", &["owner of domain positive different"]),
            ("ALTER COLLATION co OWNER TO postgres", &["owner of collation co different"]),
        ],
    );
}

fn sequences_and_types(db: &Db) {
    each_is_found(
        db,
        &[
            ("ALTER SEQUENCE s INCREMENT 7", &["sequence s different"]),
            ("ALTER SEQUENCE s CYCLE", &["sequence s different"]),
            ("ALTER SEQUENCE s MAXVALUE 70", &["sequence s different"]),
            ("ALTER SEQUENCE s START 7", &["sequence s different"]),
            ("ALTER SEQUENCE s CACHE 7", &["sequence s different"]),
            ("ALTER SEQUENCE s AS int", &["sequence s different"]),
            ("ALTER SEQUENCE s OWNED BY plain.a", &["owner of sequence s missing", "sequence s different"]),
            ("ALTER SEQUENCE s RESTART 70", &[]),
            ("DROP SEQUENCE s", &["sequence s missing"]),
            ("ALTER TYPE mood ADD VALUE 'great'", &["type mood different"]),
            ("ALTER TYPE mood RENAME VALUE 'ok' TO 'okay'", &["column people.m different", "type mood different"]),
            ("CREATE TYPE extra AS ENUM ()", &["type extra unexpected"]),
            (
                "ALTER TYPE pair RENAME ATTRIBUTE a TO aa CASCADE",
                &["column typed.a missing", "column typed.aa unexpected", "type pair different"],
            ),
            ("DROP TYPE span", &["type span missing"]),
            ("ALTER DOMAIN positive DROP CONSTRAINT pos", &["constraint positive.pos missing"]),
            ("ALTER DOMAIN positive ADD CONSTRAINT x CHECK (VALUE < 9)", &["constraint positive.x unexpected"]),
            ("ALTER DOMAIN positive SET DEFAULT 7", &["domain positive different"]),
            ("ALTER DOMAIN positive DROP NOT NULL", &["domain positive different"]),
        ],
    );
}

fn other_objects(db: &Db) {
    each_is_found(
        db,
        &[
            ("DROP OPERATOR ===(int, int)", &["operator ===(integer,integer) missing"]),
            ("ALTER OPERATOR ===(int, int) SET (RESTRICT = eqsel)", &["operator ===(integer,integer) different"]),
            ("DROP COLLATION co", &["collation co missing"]),
            ("ALTER TEXT SEARCH CONFIGURATION ts DROP MAPPING FOR word", &["text search configuration ts different"]),
            ("CREATE TEXT SEARCH DICTIONARY x (TEMPLATE = simple)", &["text search dictionary x unexpected"]),
            ("COMMENT ON TABLE notes IS 'something else'", &["comment on table notes different"]),
            ("COMMENT ON COLUMN notes.body IS 'x'", &["comment on column notes.body unexpected"]),
            ("COMMENT ON TABLE notes IS NULL", &["comment on table notes missing"]),
            (
                "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER v FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE far (n int) SERVER v",
                &["foreign table far unexpected"],
            ),
            ("INSERT INTO plain DEFAULT VALUES; ANALYZE plain", &[]),
        ],
    );
}
