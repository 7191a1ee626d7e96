//! tenant_clone(): the clone is built by the same migrations as its source, and gets the rows if requested.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    a_clone_is_a_tenant_of_its_own,
    rows_and_sequences_are_copied,
    keys_and_views_refer_to_the_clone,
    triggers_do_not_fire_while_rows_are_copied,
    columns_of_types_in_the_schema_are_copied,
    partitions_children_and_generated_columns_are_copied,
    rows_inserted_by_migrations_are_not_duplicated,
    a_clone_has_the_version_of_its_source,
    writers_of_the_source_wait,
    objects_that_no_migration_creates_are_refused,
    the_new_owner_keeps_no_access_to_the_source,
    code_of_the_schema_runs_as_the_new_owner,
    clone_is_for_instance_admins,
    bad_arguments_leave_nothing,
];

const SHOP: &str = "
    CREATE TABLE customers (id bigserial PRIMARY KEY, name text NOT NULL UNIQUE);
    CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        customer bigint NOT NULL REFERENCES customers ON DELETE CASCADE,
        amount int NOT NULL CHECK (amount > 0));
    CREATE VIEW totals AS SELECT c.name, sum(o.amount) AS amount FROM customers c JOIN orders o ON o.customer = c.id GROUP BY 1;";

fn shop(db: &Db) -> (Client, Uuid) {
    db.add_migration("1", SHOP);
    let id = db.new_tenant("acme", new_user());
    let mut client = db.superuser();
    run(
        &mut client,
        "INSERT INTO tenant_acme.customers (name) SELECT 'c' || g FROM generate_series(1, 5) g;
         INSERT INTO tenant_acme.orders (customer, amount) SELECT g, g * 10 FROM generate_series(1, 5) g",
    );
    (client, id)
}

#[track_caller]
fn clone(client: &mut Client, source: Uuid, slug: &str) -> Uuid {
    one(client, "SELECT id FROM tenant_clone($1, $2, with_data => true)", &[&source, &slug])
}

fn a_clone_is_a_tenant_of_its_own(db: &Db) {
    let (mut client, source) = shop(db);
    run(&mut client, &format!("SELECT tenant_update('{source}', NULL, '{{\"plan\": \"pro\"}}')"));
    let row = client
        .query_one("SELECT id, slug, name, schema_name::text, schema_version, metadata->>'plan' FROM tenant_clone($1, 'beta', 'Beta')", &[&source])
        .unwrap();
    assert_eq!(
        (row.get(1), row.get(2), row.get(3), row.get(4), row.get(5)),
        ("beta", "Beta", "tenant_beta", "1", "pro")
    );
    let id: Uuid = row.get(0);
    assert_eq!(reached(&mut client, "tenant_beta.customers"), 0, "no data by default");
    assert!(client.query("SELECT * FROM tenant_repair($1)", &[&id]).unwrap().is_empty());
    let user = db.new_member(id);
    assert_eq!(reached(&mut db.as_user(user), "tenant_acme.customers"), 0);
    run(&mut db.as_user(user), "INSERT INTO tenant_beta.customers (name) VALUES ('mine')");
    // By default the clone is named after its source, and the current user becomes its admin.
    let creator = new_user();
    run(&mut client, &format!("SELECT tenant_grant_instance_admin('{creator}')"));
    let copy: Uuid = one(&mut db.as_user(creator), "SELECT id FROM tenant_clone($1)", &[&source]);
    let row = client.query_one("SELECT slug, name FROM tenant_get($1)", &[&copy]).unwrap();
    assert_eq!((row.get(0), row.get(1)), ("acme-2", "acme"));
    let admins = "SELECT user_id FROM tenant_list_admins($1)";
    assert_eq!(column::<Uuid>(&mut client, admins, &[&copy]), [creator]);
}

fn rows_and_sequences_are_copied(db: &Db) {
    let (mut client, source) = shop(db);
    run(&mut client, "DELETE FROM tenant_acme.orders WHERE id = 5; SELECT setval('tenant_acme.customers_id_seq', 100)");
    clone(&mut client, source, "beta");
    let same = "SELECT (SELECT array_agg(c ORDER BY id)::text FROM tenant_acme.customers c)
                     = (SELECT array_agg(c ORDER BY id)::text FROM tenant_beta.customers c)
                   AND (SELECT array_agg(o ORDER BY id)::text FROM tenant_acme.orders o)
                     = (SELECT array_agg(o ORDER BY id)::text FROM tenant_beta.orders o)";
    assert!(one::<bool>(&mut client, same, &[]));
    let next = "INSERT INTO tenant_beta.customers (name) VALUES ('next') RETURNING id";
    assert_eq!(one::<i64>(&mut client, next, &[]), 101);
    let next = "INSERT INTO tenant_beta.orders (customer, amount) VALUES (1, 1) RETURNING id";
    assert_eq!(one::<i64>(&mut client, next, &[]), 6, "an id is never reused, even if its row was deleted");
}

fn keys_and_views_refer_to_the_clone(db: &Db) {
    let (mut client, source) = shop(db);
    clone(&mut client, source, "beta");
    run(&mut client, "DELETE FROM tenant_beta.customers WHERE name = 'c1'");
    assert_eq!(
        one::<i64>(&mut client, "SELECT count(*) FROM tenant_beta.orders", &[]),
        4,
        "the foreign key cascades in the clone"
    );
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_acme.orders", &[]), 5);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_beta.totals", &[]), 4);
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_acme.totals", &[]), 5);
    expect_error(client.batch_execute("INSERT INTO tenant_beta.orders (customer, amount) VALUES (1, 1)"), "23503");
}

fn triggers_do_not_fire_while_rows_are_copied(db: &Db) {
    db.add_migration(
        "1",
        "CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE log (item int);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN EXECUTE format('INSERT INTO %I.log VALUES ($1)', TG_TABLE_SCHEMA) USING NEW.id; RETURN NEW; END$$;
         CREATE TRIGGER plain AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION note();
         CREATE TRIGGER always AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION note();
         CREATE TRIGGER replica AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION note();
         CREATE TRIGGER silent AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION note();
         ALTER TABLE items ENABLE ALWAYS TRIGGER always; ALTER TABLE items ENABLE REPLICA TRIGGER replica;
         ALTER TABLE items DISABLE TRIGGER silent;",
    );
    let source = db.new_tenant("acme", new_user());
    let mut client = db.superuser();
    run(&mut client, "INSERT INTO tenant_acme.items SELECT generate_series(1, 10)");
    clone(&mut client, source, "beta");
    assert_eq!(
        one::<i64>(&mut client, "SELECT count(*) FROM tenant_beta.log", &[]),
        20,
        "copied from the source, where two triggers fired"
    );
    let modes = "SELECT string_agg(tgname || tgenabled::text, ' ' ORDER BY tgname) FROM pg_trigger WHERE tgrelid = $1::text::regclass AND NOT tgisinternal";
    let in_source: String = one(&mut client, modes, &[&"tenant_acme.items"]);
    assert_eq!(one::<String>(&mut client, modes, &[&"tenant_beta.items"]), in_source);
    run(&mut client, "INSERT INTO tenant_beta.items VALUES (11)");
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_beta.log", &[]), 22);
}

fn columns_of_types_in_the_schema_are_copied(db: &Db) {
    db.add_migration(
        "1",
        "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN age AS int CHECK (VALUE >= 0);
         CREATE TYPE pair AS (a int, b mood);
         CREATE TABLE people (id int PRIMARY KEY, mood mood, moods mood[], age age, pair pair, note text COLLATE \"C\", at timestamptz DEFAULT now());",
    );
    let source = db.new_tenant("acme", new_user());
    let mut client = db.superuser();
    run(
        &mut client,
        "INSERT INTO tenant_acme.people VALUES (1, 'glad', '{sad,glad}', 7, '(1,sad)', 'n'), (2, NULL, NULL, NULL, NULL, NULL)",
    );
    clone(&mut client, source, "beta");
    let rows = "SELECT array_agg(p::text ORDER BY id)::text FROM tenant_acme.people p";
    let expected: String = one(&mut client, rows, &[]);
    assert_eq!(one::<String>(&mut client, &rows.replace("acme", "beta"), &[]), expected);
}

fn partitions_children_and_generated_columns_are_copied(db: &Db) {
    db.add_migration(
        "1",
        "CREATE TABLE events (id bigint GENERATED BY DEFAULT AS IDENTITY, day date NOT NULL, twice bigint GENERATED ALWAYS AS (id * 2) STORED) PARTITION BY RANGE (day);
         CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
         CREATE TABLE events_rest PARTITION OF events DEFAULT;
         CREATE TABLE things (id int); CREATE TABLE big_things (size int) INHERITS (things);
         CREATE TABLE dropped (a int, b int, c int); ALTER TABLE dropped DROP COLUMN b;",
    );
    let source = db.new_tenant("acme", new_user());
    let mut client = db.superuser();
    run(
        &mut client,
        "INSERT INTO tenant_acme.events (day) VALUES ('2026-01-05'), ('2026-03-05');
         INSERT INTO tenant_acme.things VALUES (1); INSERT INTO tenant_acme.big_things VALUES (2, 20);
         INSERT INTO tenant_acme.dropped VALUES (1, 3)",
    );
    clone(&mut client, source, "beta");
    for (table, rows) in
        [("events", 2), ("events_1", 1), ("events_rest", 1), ("things", 2), ("big_things", 1), ("dropped", 1)]
    {
        assert_eq!(one::<i64>(&mut client, &format!("SELECT count(*) FROM tenant_beta.{table}"), &[]), rows, "{table}");
    }
    assert_eq!(one::<i64>(&mut client, "SELECT sum(twice)::bigint FROM tenant_beta.events", &[]), 6);
    assert_eq!(one::<i32>(&mut client, "SELECT c FROM tenant_beta.dropped", &[]), 3);
}

fn rows_inserted_by_migrations_are_not_duplicated(db: &Db) {
    db.add_migration(
        "1",
        "CREATE TABLE plans (id int PRIMARY KEY, name text); INSERT INTO plans VALUES (1, 'free'), (2, 'pro')",
    );
    let source = db.new_tenant("acme", new_user());
    let mut client = db.superuser();
    run(&mut client, "DELETE FROM tenant_acme.plans WHERE id = 2");
    clone(&mut client, source, "beta");
    assert_eq!(column::<String>(&mut client, "SELECT name FROM tenant_beta.plans", &[]), ["free"]);
    run(&mut client, &format!("SELECT tenant_clone('{source}', 'gamma')"));
    assert_eq!(
        one::<i64>(&mut client, "SELECT count(*) FROM tenant_gamma.plans", &[]),
        2,
        "the rows that its migrations insert"
    );
}

fn a_clone_has_the_version_of_its_source(db: &Db) {
    let (mut client, source) = shop(db);
    db.add_migration("2", "ALTER TABLE customers ADD COLUMN more int");
    let id = clone(&mut client, source, "beta");
    assert_eq!(one::<String>(&mut client, "SELECT schema_version FROM tenant_get($1)", &[&id]), "1");
    assert_eq!(one::<i32>(&mut client, "SELECT applied FROM tenant_migrate($1)", &[&id]), 1);
}

fn writers_of_the_source_wait(db: &Db) {
    let (mut client, source) = shop(db);
    run(&mut client, "BEGIN");
    clone(&mut client, source, "beta");
    let mut other = db.superuser();
    run(&mut other, "SET lock_timeout = '100 ms'; SELECT * FROM tenant_acme.customers");
    expect_error(other.batch_execute("DELETE FROM tenant_acme.orders"), "55P03");
    run(&mut client, "ROLLBACK");
    run(&mut other, "DELETE FROM tenant_acme.orders");
    assert_eq!(one::<i64>(&mut other, "SELECT count(*) FROM pg_namespace WHERE nspname = 'tenant_beta'", &[]), 0);
}

fn objects_that_no_migration_creates_are_refused(db: &Db) {
    let (mut client, source) = shop(db);
    for (make, named, unmake) in [
        ("CREATE TABLE tenant_acme.extra (a int)", "table extra", "DROP TABLE tenant_acme.extra"),
        (
            "ALTER TABLE tenant_acme.orders ADD COLUMN extra int",
            "column orders.extra",
            "ALTER TABLE tenant_acme.orders DROP COLUMN extra",
        ),
        ("CREATE SEQUENCE tenant_acme.extra", "sequence extra", "DROP SEQUENCE tenant_acme.extra"),
    ] {
        run(&mut client, make);
        let refused = client.query("SELECT tenant_clone($1, 'beta', with_data => true)", &[&source]);
        expect_refusal(refused, "conflict").message_has(named).hint_has("migration");
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM pg_namespace WHERE nspname = 'tenant_beta'", &[]), 0);
        run(&mut client, unmake);
    }
    clone(&mut client, source, "beta");
}

fn the_new_owner_keeps_no_access_to_the_source(db: &Db) {
    let (mut client, source) = shop(db);
    let id = clone(&mut client, source, "beta");
    let member = "SELECT pg_has_role($1::text, $2::text, 'MEMBER')";
    assert!(!one::<bool>(&mut client, member, &[&Db::owner_role(id), &Db::owner_role(source)]));
    assert!(!one::<bool>(&mut client, member, &[&Db::owner_role(source), &Db::owner_role(id)]));
    db.add_migration("2", "SELECT count(*) FROM tenant_acme.customers");
    expect_error(client.query("SELECT tenant_migrate($1)", &[&id]), "42501");
}

fn code_of_the_schema_runs_as_the_new_owner(db: &Db) {
    // A function that a CHECK constraint calls runs while rows are copied.
    db.add_migration(
        "1",
        "CREATE TABLE seen (who text);
         CREATE FUNCTION note() RETURNS boolean LANGUAGE plpgsql AS
             $$BEGIN
                 IF current_user NOT LIKE 'fluxbase\\_tenant\\_%' THEN
                     RAISE 'runs as %', current_user;
                 END IF;
                 RETURN true;
             END$$;
         CREATE TABLE items (id int CHECK (note()));",
    );
    let source = db.new_tenant("acme", new_user());
    let mut client = db.superuser();
    run(
        &mut client,
        "ALTER TABLE tenant_acme.items DROP CONSTRAINT items_check; INSERT INTO tenant_acme.items VALUES (1), (2)",
    );
    clone(&mut client, source, "beta");
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_beta.items", &[]), 2);
}

fn clone_is_for_instance_admins(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    for mut client in [db.as_user(user), db.as_service(id)] {
        expect_refusal(client.query("SELECT tenant_clone($1)", &[&id]), "forbidden");
    }
    expect_refusal(db.as_user(new_user()).query("SELECT tenant_clone($1)", &[&id]), "not_found");
    expect_refusal(db.server().query("SELECT tenant_clone($1)", &[&id]), "unauthenticated");
    assert_eq!(one::<String>(&mut db.admin(), "SELECT slug FROM tenant_clone($1, 'beta')", &[&id]), "beta");
}

fn bad_arguments_leave_nothing(db: &Db) {
    let (mut client, source) = shop(db);
    expect_refusal(client.query("SELECT tenant_clone($1, 'Not A Slug')", &[&source]), "invalid_argument");
    expect_refusal(client.query("SELECT tenant_clone($1, 'beta', '')", &[&source]), "invalid_argument");
    expect_error(client.query("SELECT tenant_clone($1, 'acme')", &[&source]), "23505");
    expect_refusal(client.query("SELECT tenant_clone(NULL)", &[]), "invalid_argument");
    run(&mut client, &format!("SELECT tenant_soft_delete('{source}')"));
    expect_refusal(client.query("SELECT tenant_clone($1, 'beta')", &[&source]), "conflict");
    assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM fluxbase_tenant.tenants", &[]), 1);
}
