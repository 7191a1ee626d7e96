//! A tenant that somebody chose with tenant_set_current() remains on a pooled connection. It never counts for another
//! caller, and never overrides the tenant that the next request names.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{one, reached, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error, expect_refusal};

cases![
    a_service_contexts_choice_ends_with_its_setting,
    the_tenant_in_a_claim_is_not_overridden,
    a_users_choice_does_not_apply_to_an_instance_admin,
    a_tenant_that_is_set_is_no_choice,
    parallel_workers_know_the_choice,
    a_token_without_a_user,
];

const TENANT: &str = "SELECT tenant_current_id()";

/// Leaves the choice of `user` on the connection, as a transaction of a pooler does.
fn leave_choice(client: &mut Client, user: Uuid, slug: &str) {
    run(
        client,
        &format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{user}'; SELECT tenant_set_current('{slug}'); COMMIT"),
    );
}

fn with_orders(scene: &Scene) {
    run(
        &mut scene.db.superuser(),
        "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text);
         GRANT SELECT, INSERT ON orders TO fluxbase_tenant_user; SELECT tenant_protect('orders')",
    );
}

fn a_service_contexts_choice_ends_with_its_setting(db: &Db) {
    let scene = Scene::set(db);
    let mut server = db.server();
    for is_local in ["", ", is_local => true"] {
        run(&mut server, &format!("BEGIN; SET LOCAL fluxbase_tenant.tenant_id = '{}'", scene.victim));
        run(&mut server, &format!("SELECT tenant_set_current('victim'{is_local})"));
        assert_eq!(one::<i64>(&mut server, "SELECT count(*) FROM notes", &[]), 3);
        run(&mut server, "COMMIT");
        assert_eq!(one::<Option<Uuid>>(&mut server, TENANT, &[]), None);
        assert_eq!(reached(&mut server, "tenant_victim.notes"), 0);
        let add = format!("SELECT tenant_add_member('{}', '{}')", scene.victim, scene.crook);
        expect_refusal(server.batch_execute(&add), "unauthenticated");
        run(&mut server, &format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{}'", scene.crook));
        assert_eq!(reached(&mut server, "tenant_thief.notes"), 3);
        run(&mut server, "COMMIT");
    }
}

fn the_tenant_in_a_claim_is_not_overridden(db: &Db) {
    let scene = Scene::set(db);
    with_orders(&scene);
    db.configure("fluxbase_tenant.tenant_id_setting", "nile.tenant_id");
    let second = db.new_tenant("second", scene.owner);
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{}', '{}')", scene.thief, scene.owner));
    for default in ["oldest_membership", "none"] {
        db.configure("fluxbase_tenant.default_tenant", default);
        let mut server = db.server();
        leave_choice(&mut server, scene.crook, "thief");
        run(&mut server, &format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{}'", scene.owner));
        run(&mut server, &format!("SET LOCAL nile.tenant_id = '{second}'"));
        assert_eq!(one::<Uuid>(&mut server, TENANT, &[]), second, "{default}");
        let insert = "INSERT INTO orders (item) VALUES ('secret') RETURNING tenant_id";
        assert_eq!(one::<Uuid>(&mut server, insert, &[]), second, "{default}");
        run(&mut server, "COMMIT");
        // The choice still counts for the user who made it.
        run(&mut server, &format!("SET fluxbase_tenant.user_id = '{}'", scene.crook));
        assert_eq!(one::<Uuid>(&mut server, TENANT, &[]), scene.thief);
        assert_eq!(reached(&mut server, "orders"), 0);
    }
}

fn a_users_choice_does_not_apply_to_an_instance_admin(db: &Db) {
    let scene = Scene::set(db);
    with_orders(&scene);
    let pool = format!("pool_of_{}", db.name());
    run(
        &mut db.superuser(),
        &format!("CREATE ROLE {pool} LOGIN IN ROLE fluxbase_tenant_server, fluxbase_tenant_admin"),
    );
    for mut client in [db.connect_as(&pool, ""), db.superuser()] {
        leave_choice(&mut client, scene.crook, "thief");
        assert_eq!(one::<Option<Uuid>>(&mut client, TENANT, &[]), None);
        assert_eq!(one::<i64>(&mut client, "SELECT count(*) FROM tenant_victim.notes", &[]), 3);
        expect_refusal(client.query("SELECT * FROM tenant_soft_delete()", &[]), "not_found");
        // The admin's own choice counts, for the admin only.
        run(&mut client, "SELECT tenant_set_current('victim')");
        assert_eq!(one::<Uuid>(&mut client, TENANT, &[]), scene.victim);
        run(&mut client, &format!("SET fluxbase_tenant.user_id = '{}'", scene.crook));
        assert_eq!(one::<Uuid>(&mut client, TENANT, &[]), scene.thief);
        run(&mut client, "RESET fluxbase_tenant.user_id");
    }
    run(&mut db.superuser(), &format!("DROP ROLE {pool}"));
}

/// The back end sets the same tenant that a user of the connection has chosen.
fn a_tenant_that_is_set_is_no_choice(db: &Db) {
    let scene = Scene::set(db);
    db.configure("fluxbase_tenant.default_tenant", "none");
    let member = db.new_member(scene.victim);
    let mut server = db.server();
    leave_choice(&mut server, member, "victim");
    let set = format!("SET LOCAL fluxbase_tenant.tenant_id = '{}'", scene.victim);
    run(&mut server, &format!("BEGIN; {set}"));
    assert_eq!(reached(&mut server, "tenant_victim.notes"), 3);
    run(&mut server, "COMMIT");
    run(&mut server, &format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{}'; {set}", scene.owner));
    assert_eq!(one::<Uuid>(&mut server, TENANT, &[]), scene.victim);
    run(&mut server, "COMMIT");
    // Afterwards the choice is the member's again.
    assert_eq!(reached(&mut server, "tenant_victim.notes"), 0);
    run(&mut server, &format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{member}'"));
    assert_eq!(one::<Uuid>(&mut server, TENANT, &[]), scene.victim);
    run(&mut server, "COMMIT");
    // Resetting the setting ends the choice, and so does setting it to nothing.
    for end in ["RESET fluxbase_tenant.tenant_id", "SET fluxbase_tenant.tenant_id = ''"] {
        leave_choice(&mut server, member, "victim");
        run(&mut server, end);
        run(&mut server, &format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{member}'"));
        assert_eq!(one::<Option<Uuid>>(&mut server, TENANT, &[]), None, "{end}");
        run(&mut server, "COMMIT");
    }
}

/// Parallel workers inherit the values of settings, but not what is stored with them.
fn parallel_workers_know_the_choice(db: &Db) {
    let scene = Scene::set(db);
    run(
        &mut db.superuser(),
        &format!(
            "CREATE TABLE orders (item int, tenant_id uuid); INSERT INTO orders SELECT n, '{}' FROM generate_series(1, 1000) n;
             GRANT SELECT ON orders TO fluxbase_tenant_user; SELECT tenant_protect('orders')",
            scene.victim
        ),
    );
    let mut server = db.server();
    run(
        &mut server,
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
         SET max_parallel_workers_per_gather = 2",
    );
    let count = "SELECT count(*) FROM orders";
    let plan = crate::support::people::column::<String>(&mut server, &format!("EXPLAIN {count}"), &[]).join("\n");
    assert!(plan.contains("Parallel"), "{plan}");
    leave_choice(&mut server, scene.owner, "victim");
    assert_eq!(one::<i64>(&mut server, count, &[]), 0);
    run(&mut server, &format!("BEGIN; SET LOCAL fluxbase_tenant.tenant_id = '{}'", scene.victim));
    assert_eq!(one::<i64>(&mut server, count, &[]), 1000, "the setting is no choice");
    run(&mut server, "COMMIT");
    assert_eq!(one::<i64>(&mut server, count, &[]), 0);
    run(&mut server, &format!("SET fluxbase_tenant.user_id = '{}'", scene.owner));
    assert_eq!(one::<i64>(&mut server, count, &[]), 1000);
}

fn a_token_without_a_user(db: &Db) {
    let scene = Scene::set(db);
    db.configure("fluxbase_tenant.user_id_setting", "request.jwt.claims:sub");
    db.configure("fluxbase_tenant.tenant_id_setting", "request.jwt.claims:tenant");
    let mut client = db.user_role();
    let token = |claims: &str| format!("SET request.jwt.claims = '{{{claims} \"tenant\": \"{}\"}}'", scene.victim);
    for claims in ["", "\"sub\": null,", "\"sub\": \"\","] {
        run(&mut client, &token(claims));
        assert_eq!(reached(&mut client, "tenant_victim.notes"), 0, "{claims}");
        expect_error(client.query("SELECT * FROM tenant_get()", &[]), "28000");
    }
    run(&mut client, &token(&format!("\"sub\": \"{}\",", scene.owner)));
    assert_eq!(reached(&mut client, "tenant_victim.notes"), 3);
}
