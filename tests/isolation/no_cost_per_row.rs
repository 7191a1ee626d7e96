//! Isolation has no cost per row: plans are the same as without a policy, and access is checked when the executor
//! starts.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::tables::{act_as, plan};
use crate::support::{Db, expect_error};

cases![
    plans_equal_those_without_a_policy,
    every_command_works_for_members,
    every_command_is_refused_to_others,
    explaining_is_refused_to_others,
    copying_in_goes_through_a_temporary_table,
    ten_tables_of_a_tenant_join_without_a_filter,
    ten_tables_of_two_tenants_need_both,
    partitions_by_their_own_names,
    children_of_a_parent_in_another_schema,
    parallel_plans,
    foreign_keys_within_a_tenant,
    foreign_keys_under_finer_policies,
    no_context_means_no_rows,
    row_security_off_is_an_error,
];

struct World {
    acme: Uuid,
    member: Uuid,
    other: Uuid,
    /// Member of only the other tenant.
    neighbour: Uuid,
}

const TABLES: &str = "
    CREATE TABLE notes (id int PRIMARY KEY, body text);
    INSERT INTO notes SELECT n, 'note ' || n FROM generate_series(1, 3) n;
    CREATE VIEW seen AS TABLE notes;
    CREATE TABLE split (id int PRIMARY KEY, body text) PARTITION BY RANGE (id);
    CREATE TABLE split_low PARTITION OF split FOR VALUES FROM (0) TO (2);
    CREATE TABLE split_high PARTITION OF split FOR VALUES FROM (2) TO (100);
    INSERT INTO split SELECT * FROM notes;
    CREATE TABLE parent (id int, body text); INSERT INTO parent VALUES (1, 'one');
    CREATE TABLE child () INHERITS (parent); INSERT INTO child VALUES (2, 'two'), (3, 'three')";

fn world(db: &Db) -> World {
    db.add_migration("1", TABLES);
    let (member, neighbour) = (new_user(), new_user());
    World { acme: db.new_tenant("acme", member), member, other: db.new_tenant("other", neighbour), neighbour }
}

/// Sessions of every kind of caller without access to tenant acme.
fn others(db: &Db, world: &World) -> Vec<Client> {
    let mut elsewhere = db.as_user(world.member);
    run(&mut elsewhere, &format!("SET fluxbase_tenant.tenant_id = '{}'", world.other));
    let mut revoked = db.user_role();
    run(&mut revoked, "SELECT tenant_has_access(gen_random_uuid())");
    vec![
        elsewhere,
        revoked,
        db.as_user(world.neighbour),
        db.as_user(new_user()),
        db.as_service(world.other),
        db.server(),
        db.user_role(),
    ]
}

/// Commands on the tables of `TABLES`, where `{s}` is their schema. Each command processes three rows.
const COMMANDS: &[&str] = &[
    "SELECT * FROM {s}.notes",
    "SELECT body FROM {s}.notes WHERE id = ANY ('{1,2,3}')",
    "SELECT * FROM {s}.seen ORDER BY id FOR UPDATE",
    "SELECT * FROM {s}.split",
    "SELECT * FROM {s}.parent",
    "WITH n AS MATERIALIZED (SELECT * FROM {s}.notes) SELECT * FROM n",
    "WITH n AS (SELECT * FROM {s}.notes) SELECT * FROM n a, n b WHERE a.id = b.id",
    "SELECT (SELECT body FROM {s}.notes WHERE id = g) FROM generate_series(1, 3) g",
    "SELECT g FROM generate_series(1, 3) g WHERE EXISTS (SELECT FROM {s}.notes WHERE id = g)",
    "SELECT b.* FROM {s}.notes a LEFT JOIN LATERAL (SELECT * FROM {s}.split s WHERE s.id = a.id) b ON true",
    "TABLE {s}.notes UNION ALL SELECT * FROM {s}.notes WHERE false",
    "SELECT count(*) OVER () FROM {s}.notes GROUP BY id",
    "WITH RECURSIVE r AS (SELECT 1 AS id UNION ALL SELECT n.id + 1 FROM r JOIN {s}.notes n USING (id)) SELECT * FROM r WHERE id < 4",
    "INSERT INTO {s}.notes SELECT id + 10, body FROM {s}.notes",
    "INSERT INTO {s}.notes VALUES (21, 'x'), (22, 'y'), (23, 'z') RETURNING *",
    "INSERT INTO {s}.notes SELECT id, 'again' FROM {s}.split ON CONFLICT (id) DO UPDATE SET body = excluded.body",
    "INSERT INTO {s}.split SELECT id + 10, body FROM {s}.split",
    "UPDATE {s}.notes SET body = 'changed'",
    "UPDATE {s}.split SET id = id + 50 RETURNING *",
    "UPDATE {s}.parent SET body = 'changed'",
    "UPDATE {s}.seen s SET body = n.body FROM {s}.notes n WHERE n.id = s.id",
    "DELETE FROM {s}.notes",
    "DELETE FROM {s}.parent RETURNING *",
    "MERGE INTO {s}.notes n USING {s}.split s ON n.id = s.id WHEN MATCHED THEN UPDATE SET body = s.body",
    "MERGE INTO {s}.notes n USING generate_series(7, 9) g ON n.id = g WHEN NOT MATCHED THEN INSERT VALUES (g, 'new')",
    "MERGE INTO {s}.split n USING generate_series(1, 3) g ON n.id = g WHEN MATCHED THEN DELETE",
    "WITH gone AS (DELETE FROM {s}.notes RETURNING *) INSERT INTO {s}.split SELECT id + 10, body FROM gone",
    "CREATE TEMP TABLE taken AS SELECT * FROM {s}.notes",
];

fn in_acme(command: &str) -> String {
    command.replace("{s}", "tenant_acme")
}

/// The plans have the same text as those of a superuser, to whom policies do not apply.
fn plans_equal_those_without_a_policy(db: &Db) {
    let world = world(db);
    run(&mut db.superuser(), "ANALYZE tenant_acme.notes; ANALYZE tenant_acme.split; ANALYZE tenant_acme.parent");
    let mut superuser = db.superuser();
    let mut admin_user = db.as_user(new_user());
    act_as(
        &mut admin_user,
        one(&mut db.admin(), "SELECT user_id FROM tenant_grant_instance_admin($1)", &[&new_user()]),
    );
    for mut client in [db.as_user(world.member), db.as_service(world.acme), db.admin(), admin_user] {
        for command in COMMANDS {
            let command = in_acme(command);
            let shown = plan(&mut client, &command);
            assert_eq!(shown, plan(&mut superuser, &command), "{command}");
            assert!(!shown.contains("accessible"), "{command}: {shown}");
        }
        let point = plan(&mut client, "SELECT * FROM tenant_acme.notes WHERE id = 1");
        for word in ["Filter: true", "InitPlan", "SubPlan", "One-Time"] {
            assert!(!point.contains(word), "{point}");
        }
    }
}

fn every_command_works_for_members(db: &Db) {
    let world = world(db);
    for mut client in [db.as_user(world.member), db.as_service(world.acme), db.admin()] {
        for command in COMMANDS {
            run(&mut client, "BEGIN");
            let done = client.execute(&in_acme(command), &[]).unwrap_or_else(|e| panic!("{command}: {e:?}"));
            assert_eq!(done, 3, "{command}");
            run(&mut client, "ROLLBACK");
        }
    }
}

fn every_command_is_refused_to_others(db: &Db) {
    let world = world(db);
    for mut client in others(db, &world) {
        for command in COMMANDS {
            expect_error(client.execute(&in_acme(command), &[]), "42501").hint_has("accessible");
        }
        expect_error(client.copy_out("COPY tenant_acme.notes TO STDOUT").map(|_| ()), "42501");
        expect_error(client.copy_out("COPY (TABLE tenant_acme.seen) TO STDOUT").map(|_| ()), "42501");
        expect_error(client.batch_execute("LOCK TABLE tenant_acme.notes IN ACCESS SHARE MODE"), "42501");
    }
    let sound: String = one(&mut db.as_user(world.member), "SELECT string_agg(body, ' ') FROM tenant_acme.notes", &[]);
    assert_eq!(sound, "note 1 note 2 note 3");
}

fn explaining_is_refused_to_others(db: &Db) {
    let world = world(db);
    let mut member = db.as_user(world.member);
    for options in ["COSTS OFF", "ANALYZE", "ANALYZE, BUFFERS, VERBOSE"] {
        for command in COMMANDS {
            let explain = format!("EXPLAIN ({options}) {}", in_acme(command));
            if options.contains("ANALYZE") && command.starts_with("CREATE") {
                // No event trigger would fire.
                expect_error(member.batch_execute(&explain), "42501");
                continue;
            }
            run(&mut member, &format!("BEGIN; {explain}; ROLLBACK"));
            expect_error(db.as_user(world.neighbour).batch_execute(&explain), "42501");
        }
    }
}

fn copying_in_goes_through_a_temporary_table(db: &Db) {
    use std::io::Write;
    let world = world(db);
    let refused = db.as_user(world.member).copy_in("COPY tenant_acme.notes FROM STDIN").map(|_| ());
    expect_error(refused, "0A000").hint_has("INSERT");
    let mut member = db.as_user(world.member);
    run(&mut member, "CREATE TEMP TABLE arriving (LIKE tenant_acme.notes)");
    let mut copy = member.copy_in("COPY arriving FROM STDIN").unwrap();
    copy.write_all(b"10\tten\n11\televen\n").unwrap();
    assert_eq!(copy.finish().unwrap(), 2);
    assert_eq!(member.execute("INSERT INTO tenant_acme.notes TABLE arriving", &[]).unwrap(), 2);
    let mut rows = String::new();
    std::io::Read::read_to_string(&mut member.copy_out("COPY tenant_acme.notes TO STDOUT").unwrap(), &mut rows)
        .unwrap();
    assert_eq!(rows.lines().count(), 5);
}

fn ten(schemas: &[&str]) -> String {
    let tables: Vec<String> = (0..10).map(|n| format!("{}.t{n}", schemas[n % schemas.len()])).collect();
    let mut sql = format!("SELECT count(*) FROM {} a0", tables[0]);
    for (n, table) in tables.iter().enumerate().skip(1) {
        sql += &format!(" JOIN {table} a{n} ON a{n}.id = a{}.id", n - 1);
    }
    sql
}

fn ten_tables(db: &Db) -> World {
    let script: Vec<String> = (0..10)
        .map(|n| format!("CREATE TABLE t{n} (id int PRIMARY KEY); INSERT INTO t{n} SELECT generate_series(1, 100)"))
        .collect();
    db.add_migration("0", &script.join(";"));
    world(db)
}

fn ten_tables_of_a_tenant_join_without_a_filter(db: &Db) {
    let world = ten_tables(db);
    let mut member = db.as_user(world.member);
    let join = ten(&["tenant_acme"]);
    assert_eq!(one::<i64>(&mut member, &join, &[]), 100);
    let shown = plan(&mut member, &join);
    assert!(!shown.contains("Filter") && !shown.contains("InitPlan"), "{shown}");
    assert_eq!(shown, plan(&mut db.superuser(), &join));
}

fn ten_tables_of_two_tenants_need_both(db: &Db) {
    let world = ten_tables(db);
    let join = ten(&["tenant_acme", "tenant_acme", "tenant_other", "tenant_acme"]);
    for user in [world.member, world.neighbour] {
        expect_error(db.as_user(user).query(&join, &[]), "42501");
    }
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{}', '{}')", world.acme, world.neighbour));
    let mut both = db.as_user(world.neighbour);
    assert_eq!(one::<i64>(&mut both, &join, &[]), 100);
    assert!(!plan(&mut both, &join).contains("Filter"));
    run(&mut both, &format!("SET fluxbase_tenant.tenant_id = '{}'", world.acme));
    expect_error(both.query(&join, &[]), "42501").message_has("permission denied for schema tenant_other");
}

fn partitions_by_their_own_names(db: &Db) {
    let world = world(db);
    let queries = [
        "split",
        "split_low",
        "split_high",
        "split WHERE id = 1",
        "split_high WHERE id > 2",
        "split WHERE id = 1 + length(body) * 0",
    ];
    for query in queries {
        let sql = format!("SELECT count(*) FROM tenant_acme.{query}");
        assert!(one::<i64>(&mut db.as_user(world.member), &sql, &[]) > 0, "{query}");
        expect_error(db.as_user(world.neighbour).query(&sql, &[]), "42501");
        expect_error(db.user_role().query(&sql, &[]), "42501");
    }
}

/// A superuser creates them. The parent has no policies, and its policies would not apply to its children.
fn children_of_a_parent_in_another_schema(db: &Db) {
    db.configure("session_preload_libraries", "fluxbase_tenant");
    let world = world(db);
    run(
        &mut db.superuser(),
        "CREATE TABLE public.all_rows (n int) PARTITION BY LIST (n); GRANT ALL ON public.all_rows TO PUBLIC;
         CREATE TABLE public.free PARTITION OF all_rows FOR VALUES IN (0);
         CREATE TABLE tenant_acme.mine PARTITION OF all_rows FOR VALUES IN (1);
         CREATE TABLE tenant_other.mine PARTITION OF all_rows FOR VALUES IN (2);
         INSERT INTO all_rows VALUES (0), (1), (2);
         CREATE TABLE public.base (n int); GRANT ALL ON public.base TO PUBLIC; INSERT INTO base VALUES (0);
         CREATE TABLE tenant_acme.heir () INHERITS (public.base); INSERT INTO tenant_acme.heir VALUES (1)",
    );
    db.assert_tables_are_protected(world.acme);
    for mut client in [db.user_role(), db.outsider(), db.as_user(world.neighbour), db.as_service(world.other)] {
        for sql in [
            "SELECT * FROM all_rows",
            "SELECT * FROM base",
            "UPDATE base SET n = 5",
            "DELETE FROM all_rows",
            "COPY (TABLE base) TO STDOUT",
        ] {
            expect_error(client.query(sql, &[]), "42501");
        }
        assert_eq!(column::<i32>(&mut client, "SELECT n FROM ONLY base", &[]), [0]);
        assert_eq!(
            column::<i32>(&mut client, "SELECT n FROM all_rows WHERE n = 0", &[]),
            [0],
            "pruned to the accessible partition"
        );
    }
    let mut member = db.as_user(world.member);
    assert_eq!(column::<i32>(&mut member, "SELECT n FROM base ORDER BY n", &[]), [0, 1]);
    assert_eq!(column::<i32>(&mut member, "SELECT n FROM all_rows WHERE n = 1", &[]), [1]);
    expect_error(member.query("SELECT n FROM all_rows", &[]), "42501").message_has("mine");
}

fn parallel_plans(db: &Db) {
    let world = world(db);
    db.migrate(
        world.acme,
        "CREATE TABLE many AS SELECT n FROM generate_series(1, 20000) n; CREATE VIEW v AS TABLE many",
    );
    let forced = if db.major() < 16 { "force_parallel_mode = regress" } else { "debug_parallel_query = regress" };
    let settings = format!(
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
         SET max_parallel_workers_per_gather = 3; SET {forced}"
    );
    let queries = [
        "SELECT count(*) FROM tenant_acme.many",
        "SELECT count(*) FROM tenant_acme.v a JOIN tenant_acme.many b USING (n)",
        "SELECT count(*) FROM tenant_acme.many WHERE public.tenant_has_access((SELECT public.tenant_current_id()))",
    ];
    let mut member = db.as_user(world.member);
    run(&mut member, &settings);
    for mut other in others(db, &world) {
        run(&mut other, &settings);
        for query in queries {
            expect_error(other.query(query, &[]), "42501");
        }
    }
    for query in queries {
        let shown = plan(&mut member, &query.replace("count(*)", "n"));
        assert!(query.contains("current_id") || shown.contains("Parallel"), "{shown}");
        assert_eq!(one::<i64>(&mut member, query, &[]), 20000, "{query}");
    }
}

const KEYS: &str = "
    CREATE TABLE authors (id int PRIMARY KEY);
    CREATE TABLE books (id int PRIMARY KEY, author int REFERENCES authors ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE TABLE pages (book int DEFAULT 1 REFERENCES books ON DELETE SET NULL,
                        author int REFERENCES authors DEFERRABLE INITIALLY DEFERRED);
    INSERT INTO authors VALUES (1), (2); INSERT INTO books VALUES (1, 1), (2, 2); INSERT INTO pages VALUES (1, 2), (2, NULL)";

fn foreign_keys_within_a_tenant(db: &Db) {
    let world = world(db);
    db.migrate(world.acme, KEYS);
    for mut client in [db.as_user(world.member), db.as_service(world.acme), db.admin()] {
        run(&mut client, "SET search_path = tenant_acme");
        run(&mut client, "BEGIN");
        run(
            &mut client,
            "INSERT INTO books VALUES (3, 2); INSERT INTO pages VALUES (3, 1); UPDATE authors SET id = 9 WHERE id = 1",
        );
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM books WHERE author = 9", &[]), 1, "cascaded");
        run(&mut client, "UPDATE pages SET author = 9 WHERE author = 1; DELETE FROM books WHERE id = 3");
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM pages WHERE book IS NULL", &[]), 1, "set to null");
        run(&mut client, "UPDATE pages SET author = NULL; DELETE FROM authors; SET CONSTRAINTS ALL IMMEDIATE");
        assert_eq!(reached(&mut client, "books"), 0, "cascaded");
        run(&mut client, "ROLLBACK");
        expect_error(client.batch_execute("INSERT INTO books VALUES (4, 77)"), "23503");
        expect_error(client.batch_execute("BEGIN; INSERT INTO pages VALUES (1, 77); COMMIT"), "23503");
        run(&mut client, "ROLLBACK");
    }
    for mut other in others(db, &world) {
        expect_error(other.batch_execute("DELETE FROM tenant_acme.authors"), "42501");
        expect_error(other.batch_execute("INSERT INTO tenant_acme.books VALUES (5, 1)"), "42501");
    }
    db.migrate(
        world.acme,
        "ALTER TABLE pages ADD FOREIGN KEY (author) REFERENCES authors; DELETE FROM authors WHERE id = 1",
    );
}

/// PostgreSQL's foreign-key checks see rows that the policies hide from the user, but do not show them.
fn foreign_keys_under_finer_policies(db: &Db) {
    let world = world(db);
    db.migrate(world.acme, KEYS);
    db.migrate(
        world.acme,
        "DROP POLICY tenant_access ON authors; CREATE POLICY first ON authors USING (id = 1);
         CREATE POLICY none ON books AS RESTRICTIVE FOR DELETE USING (false)",
    );
    let mut member = db.as_user(world.member);
    run(&mut member, "INSERT INTO tenant_acme.books VALUES (3, 2)");
    assert_eq!(member.execute("DELETE FROM tenant_acme.books", &[]).unwrap(), 0);
    assert_eq!(member.execute("DELETE FROM tenant_acme.authors", &[]).unwrap(), 1);
    assert_eq!(
        reached(&mut member, "tenant_acme.books WHERE author = 1"),
        0,
        "cascades ignore policies, as on any table"
    );
}

fn no_context_means_no_rows(db: &Db) {
    let world = world(db);
    for user in [world.member, world.neighbour] {
        let mut client = db.server();
        act_as(&mut client, user);
        let own = if user == world.member { "tenant_acme" } else { "tenant_other" };
        assert_eq!(reached(&mut client, &format!("{own}.notes")), 3);
        run(&mut client, "RESET fluxbase_tenant.user_id");
        assert_eq!(reached(&mut client, &format!("{own}.notes")), 0);
    }
}

fn row_security_off_is_an_error(db: &Db) {
    let world = world(db);
    for mut client in [db.as_user(world.member), db.as_user(world.neighbour), db.admin()] {
        run(&mut client, "SET row_security = off");
        expect_error(client.query("SELECT * FROM tenant_acme.notes", &[]), "42501");
    }
}
