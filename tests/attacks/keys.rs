//! PostgreSQL does not apply policies to a table's owner while it checks or enforces a foreign key. Any role can create
//! such a key between its own tables and run code inside the foreign-key action, including views and functions of the
//! owner of a shared table.

use postgres::Client;

use crate::cases;
use crate::support::people::{column, one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![triggers, rules, functions_in_constraints, recursion_and_errors, casts_to_a_superusers_key];

/// A shared table whose owner is not a superuser. The owner exposes it by a view and by functions.
struct Shop<'a> {
    scene: Scene<'a>,
    owner: String,
}

impl<'a> Shop<'a> {
    fn open(db: &'a Db) -> Self {
        let scene = Scene::set(db);
        let owner = format!("shop_of_{}", db.name());
        run(
            &mut db.superuser(),
            &format!(
                "CREATE ROLE {owner} IN ROLE fluxbase_tenant_user; CREATE SCHEMA shop AUTHORIZATION {owner};
                 GRANT USAGE ON SCHEMA shop TO PUBLIC;
                 SET ROLE {owner};
                 CREATE TABLE shop.events (id serial PRIMARY KEY, happened text);
                 RESET ROLE;
                 SELECT tenant_protect('shop.events');
                 INSERT INTO shop.events (happened, tenant_id) VALUES ('of victim', '{}'), ('of thief', '{}');
                 SET ROLE {owner};
                 CREATE VIEW shop.seen AS SELECT happened, tenant_id FROM shop.events;
                 CREATE FUNCTION shop.in_sql() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS
                     'SELECT happened FROM shop.events';
                 CREATE FUNCTION shop.in_plpgsql() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER AS
                     'BEGIN RETURN QUERY SELECT happened FROM shop.events; END';
                 CREATE FUNCTION shop.change() RETURNS void LANGUAGE sql SECURITY DEFINER AS
                     'UPDATE shop.events SET happened = happened || '', changed''';
                 GRANT SELECT, UPDATE ON shop.seen TO PUBLIC",
                scene.victim, scene.thief
            ),
        );
        run(
            &mut scene.thief(),
            "CREATE TABLE lair.loot (what text);
             CREATE TABLE lair.parent (id int PRIMARY KEY);
             CREATE TABLE lair.child (id int REFERENCES lair.parent ON DELETE CASCADE ON UPDATE CASCADE);
             INSERT INTO lair.parent VALUES (1), (2); INSERT INTO lair.child VALUES (1), (2)",
        );
        Shop { scene, owner }
    }

    fn rows(&self) -> Vec<String> {
        column(&mut self.scene.db.superuser(), "SELECT happened FROM shop.events ORDER BY id", &[])
    }

    fn loot(&self) -> Vec<String> {
        column(&mut self.scene.thief(), "SELECT DISTINCT what FROM lair.loot ORDER BY 1", &[])
    }
}

/// Inside the foreign-key action the triggers see what they see outside it: only the thief's own rows.
fn triggers(db: &Db) {
    let shop = Shop::open(db);
    let mut thief = shop.scene.thief();
    run(
        &mut thief,
        "CREATE FUNCTION lair.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO lair.loot SELECT happened FROM shop.seen;
             INSERT INTO lair.loot SELECT shop.in_sql();
             INSERT INTO lair.loot SELECT shop.in_plpgsql();
             PERFORM shop.change();
             UPDATE shop.seen SET happened = happened || ', by the view';
             RETURN OLD; END $$;
         CREATE TRIGGER look BEFORE DELETE ON lair.child FOR EACH ROW EXECUTE FUNCTION lair.look();
         DELETE FROM lair.parent WHERE id = 1",
    );
    assert_eq!(shop.loot(), ["of thief"]);
    assert_eq!(shop.rows(), ["of victim", "of thief, changed, by the view"]);
    // A plan that was cached inside the foreign-key action shows no more either.
    assert_eq!(column::<String>(&mut thief, "SELECT shop.in_plpgsql()", &[]), ["of thief, changed, by the view"]);
    // The foreign key itself works.
    assert_eq!(column::<i32>(&mut thief, "SELECT id FROM lair.child", &[]), [2]);
}

/// A rule becomes part of the server's own foreign-key query. The query is refused if the rule uses a table whose
/// policies PostgreSQL did not apply.
fn rules(db: &Db) {
    let shop = Shop::open(db);
    let mut thief = shop.scene.thief();
    run(
        &mut thief,
        "CREATE RULE look AS ON DELETE TO lair.child DO ALSO INSERT INTO lair.loot SELECT happened FROM shop.seen",
    );
    expect_error(thief.batch_execute("DELETE FROM lair.parent WHERE id = 1"), "42501");
    run(&mut thief, "DELETE FROM lair.child WHERE id = 1");
    assert_eq!(shop.loot(), ["of thief"]);
    // A view of a table without policies works inside a foreign-key action.
    run(
        &mut db.superuser(),
        &format!(
            "SET ROLE {}; CREATE TABLE shop.prices AS SELECT 'price'::text AS what; CREATE VIEW shop.listed AS TABLE shop.prices;
             GRANT SELECT ON shop.listed TO PUBLIC",
            shop.owner
        ),
    );
    run(
        &mut thief,
        "CREATE OR REPLACE RULE look AS ON DELETE TO lair.child DO ALSO INSERT INTO lair.loot SELECT what FROM shop.listed;
         DELETE FROM lair.parent WHERE id = 2",
    );
    assert_eq!(shop.loot(), ["of thief", "price"]);
}

fn functions_in_constraints(db: &Db) {
    let shop = Shop::open(db);
    let mut thief = shop.scene.thief();
    run(
        &mut thief,
        "CREATE FUNCTION lair.look(int, what text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
             PERFORM set_config('lair.' || what, (SELECT string_agg(happened, ', ') FROM shop.seen), false);
             PERFORM set_config('lair.by_function_' || what, (SELECT string_agg(f, ', ') FROM shop.in_sql() AS f), false);
             RETURN $1; END $$;
         ALTER TABLE lair.child ADD COLUMN twice int GENERATED ALWAYS AS (lair.look(id, 'generated')) STORED,
             ADD CHECK (lair.look(id, 'checked') > 0);
         CREATE INDEX ON lair.child (lair.look(id, 'indexed'));
         SELECT set_config('lair.checked', 'not called', false);
         UPDATE lair.parent SET id = 10 WHERE id = 1",
    );
    for what in ["generated", "checked", "indexed"] {
        for by in ["", "by_function_"] {
            let seen = format!("SELECT current_setting('lair.{by}{what}')");
            assert_eq!(column::<String>(&mut thief, &seen, &[]), ["of thief"], "{by}{what}");
        }
    }
}

fn recursion_and_errors(db: &Db) {
    let shop = Shop::open(db);
    let mut thief: Client = shop.scene.thief();
    run(
        &mut thief,
        "CREATE FUNCTION lair.look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             INSERT INTO lair.loot SELECT happened FROM shop.seen;
             IF OLD.id = 1 THEN
                 BEGIN DELETE FROM lair.parent WHERE id = 2; EXCEPTION WHEN others THEN NULL; END;
             ELSE
                 RAISE EXCEPTION 'no';
             END IF;
             INSERT INTO lair.loot SELECT shop.in_sql();
             RETURN OLD; END $$;
         CREATE TRIGGER look BEFORE DELETE ON lair.child FOR EACH ROW EXECUTE FUNCTION lair.look();
         DELETE FROM lair.parent WHERE id = 1",
    );
    assert_eq!(shop.loot(), ["of thief"]);
    assert_eq!(column::<i32>(&mut thief, "SELECT id FROM lair.child", &[]), [2]);
    expect_error(thief.batch_execute("DELETE FROM lair.parent"), "P0001");
    let current = "SELECT current_user::text";
    assert_eq!(one::<String>(&mut thief, current, &[]), shop.scene.role);
}

/// The server looks up the referenced row as the owner of that table, and casts the value with the cast of the
/// referencing column's type.
fn casts_to_a_superusers_key(db: &Db) {
    let shop = Shop::open(db);
    let role = &shop.scene.role;
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE countries (code int PRIMARY KEY); INSERT INTO countries VALUES (1);
             CREATE TABLE shop.colors (code int PRIMARY KEY); INSERT INTO shop.colors VALUES (1); ALTER TABLE shop.colors OWNER TO {};
             GRANT SELECT, REFERENCES ON countries, shop.colors TO {role}, fluxbase_tenant_owner",
            shop.owner
        ),
    );
    let cast = |schema: &str| {
        format!(
            "CREATE TYPE {schema}t AS (a int);
             CREATE FUNCTION {schema}to_int({schema}t) RETURNS int LANGUAGE plpgsql AS
                 $f$ BEGIN IF current_user <> '{role}' THEN RAISE WARNING 'as %', current_user; END IF; RETURN ($1).a; END $f$;
             CREATE CAST ({schema}t AS int) WITH FUNCTION {schema}to_int({schema}t) AS IMPLICIT;"
        )
    };
    let mut thief = shop.scene.thief();
    run(&mut thief, &cast("lair."));
    for (number, table) in ["countries", "shop.colors"].into_iter().enumerate() {
        run(&mut thief, &format!("CREATE TABLE lair.refers_{number} (c lair.t REFERENCES {table} (code))"));
        let inserted = thief.batch_execute(&format!("INSERT INTO lair.refers_{number} VALUES (ROW(1)::lair.t)"));
        expect_error(inserted, "42501").message_has("to_int");
    }
    let script = format!(
        "{} CREATE TABLE refers (c t REFERENCES public.countries (code)); INSERT INTO refers VALUES (ROW(1)::t)",
        cast("")
    );
    expect_error(db.try_migration(shop.scene.thief, &script), "42501").message_has("to_int");
    // Keys whose casts are PostgreSQL's own work.
    run(
        &mut thief,
        "CREATE TABLE lair.plain (c int REFERENCES countries, d smallint REFERENCES shop.colors); INSERT INTO lair.plain VALUES (1, 1)",
    );
    expect_error(thief.batch_execute("INSERT INTO lair.plain VALUES (2, 1)"), "23503");
}
