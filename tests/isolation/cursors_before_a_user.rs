//! A cursor that is opened before a user is set does not return that user's rows.

use super::cursors::{local, world};
use crate::cases;
use crate::support::people::{one, run};
use crate::support::{Db, expect_error};

cases![opened_before_the_user_is_set, opened_before_the_user_over_the_users_cursor];

/// Policies are evaluated when rows are fetched, for the user that is set then.
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
        // The cursor is not filled at the end of the user's transaction either.
        let mut client = db.server();
        run(&mut client, &format!("BEGIN; DECLARE early CURSOR WITH HOLD FOR {query}; {member}"));
        expect_error(client.batch_execute("COMMIT"), "42501");
        // A cursor that the user opens works, and so does a cursor that reads no tenant's data.
        run(&mut client, &format!("BEGIN; {member}; DECLARE late CURSOR FOR {query}; FETCH late; COMMIT"));
    }
    run(&mut db.server(), &format!("BEGIN; DECLARE plain CURSOR FOR SELECT 1; {member}; FETCH plain; COMMIT"));
}

/// When it is fetched from, the cursor reads another cursor, which the user has opened by then. The functions fail if
/// PostgreSQL was built without libxml.
fn opened_before_the_user_over_the_users_cursor(db: &Db) {
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
