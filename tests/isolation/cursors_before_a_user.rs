//! A cursor that is opened before a user is set gives that user's rows to nobody.

use super::cursors::{local, world};
use crate::cases;
use crate::support::people::{one, run};
use crate::support::{Db, expect_error};

cases![opened_before_the_user_is_set, opened_before_on_a_cursor_of_the_user];

/// Policies are asked as rows are fetched: for whoever is set by then.
fn opened_before_the_user_is_set(db: &Db) {
    let member = local(world(db).member);
    for query in [
        "SELECT item FROM orders",
        "SELECT slug FROM fluxbase_tenant.tenants",
        "SELECT slug FROM tenant_list_mine()",
        "SELECT word FROM ts_stat('SELECT to_tsvector(item) FROM orders')",
        "SELECT querytree(ts_rewrite('a', 'SELECT ''a''::tsquery, plainto_tsquery(item) FROM orders'))",
    ] {
        for hold in ["", "WITH HOLD"] {
            let mut client = db.server();
            run(&mut client, &format!("BEGIN; DECLARE early CURSOR {hold} FOR {query}; {member}"));
            expect_error(client.query("FETCH early", &[]), "42501");
            run(&mut client, "ROLLBACK");
        }
        // Nor is it filled as the transaction of a user ends.
        let mut client = db.server();
        run(&mut client, &format!("BEGIN; DECLARE early CURSOR WITH HOLD FOR {query}; {member}"));
        expect_error(client.batch_execute("COMMIT"), "42501");
        // Opened by the user it is the user's, and one on what is no tenant's is anybody's.
        run(&mut client, &format!("BEGIN; {member}; DECLARE late CURSOR FOR {query}; FETCH late; COMMIT"));
    }
    run(&mut db.server(), &format!("BEGIN; DECLARE plain CURSOR FOR SELECT 1; {member}; FETCH plain; COMMIT"));
}

/// As it is fetched it reads a cursor that the user has opened by then. Servers without libxml fail.
fn opened_before_on_a_cursor_of_the_user(db: &Db) {
    let world = world(db);
    let has_xml = db.superuser().query("SELECT query_to_xml('SELECT 1', true, true, '')", &[]).is_ok();
    let inner = format!("{}; DECLARE inner_one CURSOR FOR SELECT item FROM orders", local(world.member));
    for function in
        ["cursor_to_xml('inner_one', 9, true, true, '')", "cursor_to_xmlschema('inner_one', true, true, '')"]
    {
        let mut client = db.server();
        run(&mut client, &format!("BEGIN; DECLARE early CURSOR FOR SELECT {function}::text; {inner}"));
        expect_error(client.query("FETCH early", &[]), "42501");
        run(&mut client, &format!("ROLLBACK; BEGIN; {inner}; DECLARE late CURSOR FOR SELECT {function}::text"));
        if has_xml {
            assert!(one::<String>(&mut client, "FETCH late", &[]).contains("item"), "{function}");
        }
    }
}
