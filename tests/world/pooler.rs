//! Callers who share a server connection through a transaction pooler cannot access each other's tenants.

use postgres::{Client, SimpleQueryMessage};
use uuid::Uuid;

use crate::cases;
use crate::support::database::APP_SERVER;
use crate::support::people::{new_user, run};
use crate::support::pooler::Pooler;
use crate::support::{Db, expect_error};

cases![
    set_local_ends_with_the_transaction,
    callers_alternate_on_one_connection,
    a_choice_left_behind_gives_no_access,
    the_next_user_overrides_a_user_left_behind,
    an_aborted_transaction_leaves_no_identity,
];

/// Two tenants with a note each, a user of each, and two clients of one pool.
struct Shared {
    acme_user: Uuid,
    beta_user: Uuid,
    first: Client,
    second: Client,
    // Declared last, so that the clients disconnect before the pooler stops.
    _pooler: Pooler,
}

fn shared(db: &Db) -> Shared {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES (current_schema())");
    let (acme_user, beta_user) = (new_user(), new_user());
    db.new_tenant("acme", acme_user);
    db.new_tenant("beta", beta_user);
    let pooler = Pooler::start(db, APP_SERVER);
    let (first, second) = (pooler.connect_as(APP_SERVER), pooler.connect_as(APP_SERVER));
    Shared { acme_user, beta_user, first, second, _pooler: pooler }
}

/// Returns the last value that the statements return.
fn last_value(client: &mut Client, sql: &str) -> Result<Option<String>, postgres::Error> {
    let messages = client.simple_query(sql)?;
    Ok(messages.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}

fn as_user(user: Uuid, sql: &str) -> String {
    format!("BEGIN; SET LOCAL fluxbase_tenant.user_id = '{user}'; {sql}; COMMIT")
}

fn set_local_ends_with_the_transaction(db: &Db) {
    let mut pool = shared(db);
    let sql = as_user(pool.acme_user, "SELECT tenant_set_current('acme', true); SELECT body FROM notes");
    assert_eq!(last_value(&mut pool.first, &sql).unwrap().as_deref(), Some("tenant_acme"));
    expect_error(last_value(&mut pool.second, "SELECT body FROM tenant_acme.notes"), "42501");
    expect_error(last_value(&mut pool.second, "SELECT body FROM notes"), "42P01");
    let no_identity = "SELECT tenant_current_user_id() IS NULL AND tenant_current_id() IS NULL";
    assert_eq!(last_value(&mut pool.second, no_identity).unwrap().as_deref(), Some("t"));
}

fn callers_alternate_on_one_connection(db: &Db) {
    let mut pool = shared(db);
    let pid = "SELECT pg_backend_pid()";
    assert_eq!(last_value(&mut pool.first, pid).unwrap(), last_value(&mut pool.second, pid).unwrap());
    for _ in 0..20 {
        let sql = as_user(pool.acme_user, "SELECT body FROM tenant_acme.notes");
        assert_eq!(last_value(&mut pool.first, &sql).unwrap().as_deref(), Some("tenant_acme"));
        let sql = as_user(pool.beta_user, "SELECT body FROM tenant_beta.notes");
        assert_eq!(last_value(&mut pool.second, &sql).unwrap().as_deref(), Some("tenant_beta"));
        expect_error(
            last_value(&mut pool.second, &as_user(pool.beta_user, "SELECT body FROM tenant_acme.notes")),
            "42501",
        );
        run(&mut pool.second, "ROLLBACK");
    }
}

/// The tenant is chosen for the session and the user is set for the transaction. The choice that remains must not give
/// the next caller the service context of that tenant.
fn a_choice_left_behind_gives_no_access(db: &Db) {
    let mut pool = shared(db);
    let sql = as_user(pool.acme_user, "SELECT tenant_set_current('acme'); SELECT body FROM notes");
    assert_eq!(last_value(&mut pool.first, &sql).unwrap().as_deref(), Some("tenant_acme"));
    expect_error(last_value(&mut pool.second, "SELECT body FROM notes"), "42501");
    expect_error(last_value(&mut pool.second, "SELECT name FROM tenant_get()"), "28000");
    // A user of beta gets no access to acme either. Until the choice is reset, that user has no access to beta, which
    // is the safe side.
    expect_error(last_value(&mut pool.second, &as_user(pool.beta_user, "SELECT body FROM tenant_acme.notes")), "42501");
    run(&mut pool.second, "ROLLBACK");
    run(&mut pool.second, "SELECT tenant_reset_current()");
    let sql = as_user(pool.beta_user, "SELECT body FROM tenant_beta.notes");
    assert_eq!(last_value(&mut pool.second, &sql).unwrap().as_deref(), Some("tenant_beta"));
}

fn the_next_user_overrides_a_user_left_behind(db: &Db) {
    let mut pool = shared(db);
    run(&mut pool.first, &format!("SET fluxbase_tenant.user_id = '{}'", pool.acme_user));
    let sql = as_user(pool.beta_user, "SELECT body FROM tenant_beta.notes");
    assert_eq!(last_value(&mut pool.second, &sql).unwrap().as_deref(), Some("tenant_beta"));
    expect_error(last_value(&mut pool.second, &as_user(pool.beta_user, "SELECT body FROM tenant_acme.notes")), "42501");
    run(&mut pool.second, "ROLLBACK");
    run(&mut pool.second, "DISCARD ALL");
    expect_error(last_value(&mut pool.first, "SELECT body FROM tenant_acme.notes"), "42501");
}

fn an_aborted_transaction_leaves_no_identity(db: &Db) {
    let mut pool = shared(db);
    expect_error(
        last_value(&mut pool.first, &as_user(pool.acme_user, "SELECT tenant_set_current('acme'); SELECT 1 / 0")),
        "22012",
    );
    run(&mut pool.first, "ROLLBACK");
    expect_error(last_value(&mut pool.second, "SELECT body FROM tenant_acme.notes"), "42501");
    let no_tenant = "SELECT current_setting('fluxbase_tenant.tenant_id') = ''";
    assert_eq!(last_value(&mut pool.second, no_tenant).unwrap().as_deref(), Some("t"));
}
