//! Only members of a row's tenant can access the row in a shared table, with any command. Queries use the index on the
//! tenant column.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::tables::{act_as, plan};
use crate::support::{Db, expect_error};

cases![
    callers_read_rows_of_their_tenants,
    other_tenants_rows_cannot_be_written,
    rows_cannot_be_moved_to_another_tenant,
    default_is_the_current_tenant,
    user_of_several_tenants_names_the_tenant,
    membership_changes_take_effect,
    plans_follow_the_identity,
    views_functions_and_copies_are_filtered,
    partitions_are_filtered,
    foreign_keys_between_shared_tables,
    deleting_a_tenant_deletes_its_rows,
    suspended_tenants_rows_are_hidden,
    three_tenants_among_ten_thousand_are_found_by_index,
];

struct World {
    acme: Uuid,
    other: Uuid,
    ann: Uuid,
    bob: Uuid,
    both: Uuid,
}

/// Jobs 1 and 2 belong to acme, job 3 to the other tenant.
fn world(db: &Db) -> World {
    let (ann, bob, both) = (new_user(), new_user(), new_user());
    let (acme, other) = (db.new_tenant("acme", ann), db.new_tenant("other", bob));
    run(
        &mut db.admin(),
        &format!("SELECT tenant_add_member('{acme}', '{both}'), tenant_add_member('{other}', '{both}')"),
    );
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE jobs (id int PRIMARY KEY, body text DEFAULT 'x');
             GRANT SELECT, INSERT, UPDATE, DELETE ON jobs TO fluxbase_tenant_user; SELECT tenant_protect('jobs');
             INSERT INTO jobs VALUES (1, 'a', '{acme}'), (2, 'b', '{acme}'), (3, 'c', '{other}')"
        ),
    );
    World { acme, other, ann, bob, both }
}

fn ids(client: &mut Client) -> Vec<i32> {
    column(client, "SELECT id FROM jobs ORDER BY id", &[])
}

fn with_tenant(mut client: Client, tenant: Uuid) -> Client {
    run(&mut client, &format!("SET fluxbase_tenant.tenant_id = '{tenant}'"));
    client
}

fn callers_read_rows_of_their_tenants(db: &Db) {
    let World { acme, other, ann, bob, both } = world(db);
    let boss = new_user();
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{boss}')"));
    let empty: &[i32] = &[];
    let expected: Vec<(&str, Client, &[i32])> = vec![
        ("a member", db.as_user(ann), &[1, 2]),
        ("a member of the other", db.as_user(bob), &[3]),
        ("a member of both", db.as_user(both), &[1, 2, 3]),
        ("narrowed", with_tenant(db.as_user(both), acme), &[1, 2]),
        ("narrowed to the other", with_tenant(db.as_user(both), other), &[3]),
        ("narrowed to an inaccessible tenant", with_tenant(db.as_user(ann), other), empty),
        ("service context", db.as_service(acme), &[1, 2]),
        ("service context of no tenant", db.as_service(new_user()), empty),
        ("an instance admin", db.as_user(boss), &[1, 2, 3]),
        ("an instance admin, narrowed", with_tenant(db.as_user(boss), other), &[3]),
        ("the admin role", db.admin(), &[1, 2, 3]),
        ("a superuser", db.superuser(), &[1, 2, 3]),
        ("an outsider", db.as_user(new_user()), empty),
        ("an anonymous caller", db.server(), empty),
        ("an untrusted role", db.user_role(), empty),
    ];
    for (who, mut client, rows) in expected {
        assert_eq!(ids(&mut client), rows, "{who}");
        let count: i64 = one(&mut client, "SELECT count(*) FROM jobs", &[]);
        assert_eq!(count as usize, rows.len(), "{who}");
    }
    expect_error(db.outsider().query("SELECT * FROM jobs", &[]), "42501");
}

fn other_tenants_rows_cannot_be_written(db: &Db) {
    let World { acme, other, ann, .. } = world(db);
    let mut client = db.as_user(ann);
    let give = format!("INSERT INTO jobs VALUES (9, 'mine', '{other}')");
    expect_error(client.batch_execute(&give), "42501").message_has("row-level security");
    expect_error(client.batch_execute(&format!("INSERT INTO jobs VALUES (9, 'x', '{}')", new_user())), "42501");
    expect_error(client.batch_execute("INSERT INTO jobs VALUES (9, 'x', NULL)"), "42501");
    for nothing in [
        "UPDATE jobs SET body = 'stolen' WHERE id = 3",
        "DELETE FROM jobs WHERE id = 3",
        "MERGE INTO jobs j USING (VALUES (3)) v (id) ON j.id = v.id WHEN MATCHED THEN DELETE",
        "WITH d AS (DELETE FROM jobs WHERE id = 3 RETURNING *) SELECT * FROM d",
    ] {
        assert_eq!(client.execute(nothing, &[]).unwrap(), 0, "{nothing}");
    }
    let upsert =
        format!("INSERT INTO jobs VALUES (3, 'x', '{acme}') ON CONFLICT (id) DO UPDATE SET body = excluded.body");
    expect_error(client.batch_execute(&upsert), "42501");
    assert_eq!(client.execute("UPDATE jobs SET body = 'mine'", &[]).unwrap(), 2);
    assert_eq!(client.execute("DELETE FROM jobs", &[]).unwrap(), 2);
    for mut none in [db.server(), db.user_role(), db.as_user(new_user())] {
        assert_eq!(none.execute("DELETE FROM jobs", &[]).unwrap(), 0);
        assert!(none.batch_execute("INSERT INTO jobs (id) VALUES (8)").is_err());
    }
    let left: Vec<String> = column(&mut db.superuser(), "SELECT body FROM jobs", &[]);
    assert_eq!(left, ["c"]);
}

fn rows_cannot_be_moved_to_another_tenant(db: &Db) {
    let World { other, ann, both, acme, .. } = world(db);
    let hand_over = format!("UPDATE jobs SET tenant_id = '{other}' WHERE id = 1");
    expect_error(db.as_user(ann).batch_execute(&hand_over), "42501");
    expect_error(with_tenant(db.as_user(both), acme).batch_execute(&hand_over), "42501");
    assert_eq!(db.as_user(both).execute(&hand_over, &[]).unwrap(), 1, "a member of both tenants can move the row");
}

fn default_is_the_current_tenant(db: &Db) {
    let World { acme, other, ann, both, .. } = world(db);
    let insert = "INSERT INTO jobs (id) SELECT coalesce(max(id), 0) + 10 FROM jobs RETURNING tenant_id";
    for (mut client, tenant) in
        [(db.as_user(ann), acme), (db.as_service(other), other), (with_tenant(db.as_user(both), other), other)]
    {
        assert_eq!(one::<Uuid>(&mut client, insert, &[]), tenant);
        assert_eq!(client.execute("DELETE FROM jobs WHERE id > 3", &[]).unwrap(), 1);
    }
    for mut chosen in [db.as_user(both), db.admin()] {
        run(&mut chosen, "SELECT tenant_set_current('other')");
        assert_eq!(one::<Uuid>(&mut chosen, insert, &[]), other);
        run(&mut chosen, "DELETE FROM jobs WHERE id > 3");
    }
    expect_error(db.server().batch_execute("INSERT INTO jobs (id) VALUES (77)"), "42501");
}

fn user_of_several_tenants_names_the_tenant(db: &Db) {
    let World { acme, other, both, .. } = world(db);
    let mut client = db.as_user(both);
    for (id, tenant) in [(10, acme), (11, other)] {
        assert_eq!(client.execute("INSERT INTO jobs (id, tenant_id) VALUES ($1, $2)", &[&id, &tenant]).unwrap(), 1);
    }
    let counted: Vec<i64> = column(&mut client, "SELECT count(*) FROM jobs GROUP BY tenant_id ORDER BY 1", &[]);
    assert_eq!(counted, [2, 3], "a report over both");
}

fn membership_changes_take_effect(db: &Db) {
    let World { acme, both, .. } = world(db);
    let mut client = db.as_user(both);
    run(&mut client, "SET plan_cache_mode = force_generic_plan; PREPARE q AS SELECT id FROM jobs ORDER BY id; BEGIN");
    for (change, rows) in [("remove_member", &[3][..]), ("add_member", &[1, 2, 3]), ("remove_member", &[3])] {
        run(&mut db.admin(), &format!("SELECT tenant_{change}('{acme}', '{both}')"));
        assert_eq!(ids(&mut client), rows);
        assert_eq!(column::<i32>(&mut client, "EXECUTE q", &[]), rows);
    }
}

fn plans_follow_the_identity(db: &Db) {
    let World { ann, bob, both, acme, .. } = world(db);
    let mut client = db.server();
    run(&mut client, "SET plan_cache_mode = force_generic_plan; PREPARE q AS SELECT id FROM jobs ORDER BY id");
    for _ in 0..3 {
        for (user, rows) in [(ann, &[1, 2][..]), (bob, &[3]), (both, &[1, 2, 3]), (new_user(), &[])] {
            act_as(&mut client, user);
            assert_eq!(column::<i32>(&mut client, "EXECUTE q", &[]), rows);
        }
        act_as(&mut client, both);
        run(&mut client, &format!("SET fluxbase_tenant.tenant_id = '{acme}'"));
        assert_eq!(column::<i32>(&mut client, "EXECUTE q", &[]), [1, 2]);
        run(&mut client, "RESET fluxbase_tenant.tenant_id; RESET fluxbase_tenant.user_id");
        assert_eq!(column::<i32>(&mut client, "EXECUTE q", &[]), [0; 0]);
    }
}

fn views_functions_and_copies_are_filtered(db: &Db) {
    use std::io::Read;
    let World { ann, bob, .. } = world(db);
    run(
        &mut db.superuser(),
        "CREATE VIEW open_jobs WITH (security_invoker) AS SELECT * FROM jobs; GRANT SELECT ON open_jobs TO PUBLIC;
         CREATE FUNCTION job_count() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM jobs'",
    );
    for (user, rows) in [(ann, 2), (bob, 1)] {
        let mut client = db.as_user(user);
        assert_eq!(reached(&mut client, "open_jobs"), rows);
        assert_eq!(one::<i64>(&mut client, "SELECT job_count()", &[]), rows);
        let mut text = String::new();
        client.copy_out("COPY jobs TO STDOUT").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count() as i64, rows);
        run(&mut client, "CREATE TEMP TABLE taken AS TABLE jobs");
        assert_eq!(reached(&mut client, "taken"), rows);
        run(
            &mut client,
            "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0",
        );
        assert_eq!(reached(&mut client, "jobs"), rows);
    }
}

fn partitions_are_filtered(db: &Db) {
    let World { acme, other, ann, bob, .. } = world(db);
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE split (n int) PARTITION BY RANGE (n); CREATE TABLE low PARTITION OF split FOR VALUES FROM (0) TO (10);
             SELECT tenant_protect('split'); CREATE TABLE high PARTITION OF split FOR VALUES FROM (10) TO (20);
             CREATE TABLE joined (n int, tenant_id uuid NOT NULL); INSERT INTO joined VALUES (20, '{acme}'), (21, '{other}');
             ALTER TABLE split ATTACH PARTITION joined FOR VALUES FROM (20) TO (30);
             GRANT SELECT, INSERT ON split, low, high, joined TO fluxbase_tenant_user;
             INSERT INTO split VALUES (1, '{acme}'), (11, '{acme}'), (2, '{other}'), (12, '{other}')"
        ),
    );
    for (user, rows) in [(ann, 3), (bob, 3), (new_user(), 0)] {
        let mut client = db.as_user(user);
        assert_eq!(reached(&mut client, "split"), rows);
        for part in ["low", "high", "joined"] {
            assert_eq!(reached(&mut client, part), rows / 3, "{part} by its own name");
        }
    }
    let foreign = format!("INSERT INTO low VALUES (3, '{other}')");
    expect_error(db.as_user(ann).batch_execute(&foreign), "42501");
    run(&mut db.as_user(ann), "INSERT INTO split VALUES (5), (15), (25); INSERT INTO low VALUES (6)");
    assert_eq!(reached(&mut db.as_user(ann), "split"), 7);
}

fn foreign_keys_between_shared_tables(db: &Db) {
    let World { ann, bob, .. } = world(db);
    run(
        &mut db.superuser(),
        "CREATE TABLE parts (id int PRIMARY KEY, job int REFERENCES jobs ON DELETE CASCADE);
         GRANT SELECT, INSERT, UPDATE, DELETE ON parts TO fluxbase_tenant_user; SELECT tenant_protect('parts')",
    );
    run(&mut db.as_user(ann), "INSERT INTO parts VALUES (1, 1), (2, 2)");
    run(&mut db.as_user(bob), "INSERT INTO parts VALUES (3, 3)");
    expect_error(db.as_user(ann).batch_execute("INSERT INTO parts VALUES (4, 77)"), "23503");
    assert_eq!(db.as_user(ann).execute("DELETE FROM jobs", &[]).unwrap(), 2);
    assert_eq!(column::<i32>(&mut db.superuser(), "SELECT id FROM parts", &[]), [3], "cascaded");
}

fn deleting_a_tenant_deletes_its_rows(db: &Db) {
    let World { acme, other, both, .. } = world(db);
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{acme}')"));
    assert_eq!(ids(&mut db.as_user(both)), [3]);
    run(&mut db.admin(), &format!("SELECT tenant_restore('{acme}')"));
    assert_eq!(ids(&mut db.as_user(both)), [1, 2, 3]);
    run(&mut db.admin(), &format!("SELECT tenant_delete('{acme}')"));
    let left: Vec<Uuid> = column(&mut db.superuser(), "SELECT tenant_id FROM jobs", &[]);
    assert_eq!(left, [other]);
}

fn suspended_tenants_rows_are_hidden(db: &Db) {
    let World { acme, ann, both, .. } = world(db);
    run(&mut db.admin(), &format!("SELECT tenant_suspend('{acme}')"));
    assert_eq!(ids(&mut db.as_user(ann)), [0; 0]);
    assert_eq!(ids(&mut db.as_user(both)), [3]);
    assert_eq!(ids(&mut db.as_service(acme)), [0; 0]);
    assert_eq!(ids(&mut db.admin()), [1, 2, 3]);
}

/// The tenants are only catalog rows. Creating a schema for each would take long.
const TEN_THOUSAND: &str = "
    INSERT INTO fluxbase_tenant.tenants (id, slug, name, schema_name)
    SELECT ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, 't' || n, 'T', 't' || n FROM generate_series(1, 10000) n;
    INSERT INTO fluxbase_tenant.members (id, tenant_id, user_id, role)
    SELECT gen_random_uuid(), id, '11111111-1111-4111-8111-111111111111', 'tenant_member'
    FROM fluxbase_tenant.tenants WHERE slug IN ('t17', 't1717', 't9999');
    INSERT INTO jobs (id, tenant_id) SELECT row_number() OVER () + 10, id
    FROM fluxbase_tenant.tenants, generate_series(1, 10) WHERE slug ~ '^t[0-9]+$';
    ANALYZE jobs";

fn three_tenants_among_ten_thousand_are_found_by_index(db: &Db) {
    let World { acme, both, .. } = world(db);
    run(&mut db.superuser(), TEN_THOUSAND);
    let user = "11111111-1111-4111-8111-111111111111".parse().unwrap();
    let mut client = db.as_user(user);
    let shown = plan(&mut client, "SELECT * FROM jobs");
    assert!(shown.contains("jobs_tenant_id_idx") && !shown.contains("Seq Scan on jobs"), "{shown}");
    assert_eq!(reached(&mut client, "jobs"), 30);
    let shown = plan(&mut client, "SELECT * FROM jobs WHERE id = 500");
    assert!(shown.contains("jobs_pkey") || shown.contains("jobs_tenant_id_idx"), "{shown}");
    let shown = plan(&mut client, "UPDATE jobs SET body = 'changed'");
    assert!(shown.contains("jobs_tenant_id_idx"), "{shown}");
    assert_eq!(client.execute("UPDATE jobs SET body = 'changed'", &[]).unwrap(), 30);
    run(&mut client, "SET fluxbase_tenant.tenant_id = '00000000-0000-4000-8000-000000001717'");
    assert!(plan(&mut client, "SELECT * FROM jobs").contains("jobs_tenant_id_idx"));
    assert_eq!(reached(&mut client, "jobs"), 10);
    assert_eq!(ids(&mut with_tenant(db.as_user(both), acme)), [1, 2]);
    assert_eq!(reached(&mut db.admin(), "jobs"), 100_003);
}
