//! Concurrency: what holds for one session holds for many sessions at once.

use std::sync::Barrier;
use std::time::Duration;

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    one_slug_has_one_winner,
    one_id_has_one_winner,
    one_name_gives_each_tenant_its_own_slug,
    max_tenants_holds_in_read_committed,
    max_tenants_holds_in_repeatable_read,
    last_admins_cannot_remove_each_other,
    last_admins_cannot_both_leave,
    same_member_added_by_many_is_one_row,
    one_migration_version_is_one_row,
    two_texts_of_a_version_have_one_winner,
    concurrent_migrations_apply_once,
    delete_waits_for_migrate,
    migrate_waits_for_delete,
    restore_against_create_of_its_slug,
    purge_against_restore,
    two_defaults_end_as_one,
    suspend_does_not_wait_for_readers,
];

/// Runs `act` once per client, in parallel sessions that start at the same moment, and returns the results.
fn together<T: Send>(clients: Vec<Client>, act: impl Fn(usize, &mut Client) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(clients.len());
    std::thread::scope(|scope| {
        let (act, barrier) = (&act, &barrier);
        let running: Vec<_> = clients
            .into_iter()
            .enumerate()
            .map(|(number, mut client)| {
                scope.spawn(move || {
                    // An endless wait becomes a failure instead of a hang.
                    run(&mut client, "SET statement_timeout = '60s'");
                    barrier.wait();
                    act(number, &mut client)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn admins(db: &Db, count: usize) -> Vec<Client> {
    (0..count).map(|_| db.admin()).collect()
}

/// Waits until a session of this database is waiting for a lock.
fn until_one_waits(db: &Db) {
    let mut superuser = db.superuser();
    let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock')";
    for _ in 0..400 {
        if one(&mut superuser, waiting, &[]) {
            return;
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("no session waited for a lock");
}

fn one_slug_has_one_winner(db: &Db) {
    let results = together(admins(db, 20), |number, client| {
        client.query("SELECT id FROM tenant_create('acme', $1)", &[&format!("Number {number}")])
    });
    let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((winners.len(), losers.len()), (1, 19));
    for loser in losers {
        let words = expect_refusal(loser, "conflict").message("slug \"acme\" is taken").words();
        assert_eq!(words.sqlstate, "23505");
    }
    let traces: i64 = one(
        &mut db.superuser(),
        "SELECT (SELECT count(*) FROM fluxbase_tenant.tenants)
              + (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tenant\\_%')",
        &[],
    );
    assert_eq!(traces, 2, "one row and one schema");
}

fn one_id_has_one_winner(db: &Db) {
    let id = Uuid::new_v4();
    let results = together(admins(db, 8), |number, client| {
        client.query("SELECT id FROM tenant_create($1, 'Acme', id => $2)", &[&format!("s{number}"), &id])
    });
    let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((winners.len(), losers.len()), (1, 7));
    for loser in losers {
        expect_refusal(loser, "conflict").message_has("already exists");
    }
}

fn one_name_gives_each_tenant_its_own_slug(db: &Db) {
    let mut slugs = together(admins(db, 12), |_, client| {
        one::<String>(client, "SELECT slug FROM tenant_create(name => 'Acme Corp')", &[])
    });
    slugs.sort();
    slugs.dedup();
    assert_eq!(slugs.len(), 12, "{slugs:?}");
}

fn max_tenants_holds(db: &Db, isolation: &str) {
    db.configure("fluxbase_tenant.max_tenants", "3");
    db.new_tenant("first", new_user());
    let results = together(admins(db, 8), |number, client| {
        run(client, &format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM tenant_list()"));
        std::thread::sleep(Duration::from_millis(50));
        let created = client.query("SELECT id FROM tenant_create($1, 'Name')", &[&format!("s{number}")]);
        run(client, if created.is_ok() { "COMMIT" } else { "ROLLBACK" });
        created
    });
    let mut created = 0;
    for result in results {
        match result {
            Ok(_) => created += 1,
            Err(error) if error.code().unwrap().code() == "40001" => assert_eq!(isolation, "REPEATABLE READ"),
            Err(error) => drop(expect_refusal(Err::<(), _>(error), "conflict").message("tenant limit of 3 reached")),
        }
    }
    assert!((1..=2).contains(&created), "{created} created beside the first");
    // A client that retries after a serialization failure reaches the limit and cannot exceed it.
    let mut admin = db.admin();
    while let Ok(_created) = admin.query("SELECT id FROM tenant_create(name => 'More')", &[]) {}
    assert_eq!(one::<i64>(&mut admin, "SELECT count(*) FROM tenant_list()", &[]), 3);
}

fn max_tenants_holds_in_read_committed(db: &Db) {
    max_tenants_holds(db, "READ COMMITTED");
}

fn max_tenants_holds_in_repeatable_read(db: &Db) {
    max_tenants_holds(db, "REPEATABLE READ");
}

/// Runs `call` as two admins at once, several times in both isolation levels: exactly one call succeeds, and the other
/// one fails with a well-defined error.
fn of_two_admins_one_stays(db: &Db, call: &str) {
    for round in 0..6 {
        let isolation = if round % 2 == 0 { "READ COMMITTED" } else { "REPEATABLE READ" };
        let users = [new_user(), new_user()];
        let id = db.new_tenant(&format!("round-{round}"), users[0]);
        run(&mut db.admin(), &format!("SELECT tenant_assign_admin('{id}', '{}')", users[1]));
        let clients = users.iter().map(|user| db.as_user(*user)).collect();
        let results = together(clients, |number, client| {
            run(client, &format!("BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM tenant_list_admins('{id}')"));
            std::thread::sleep(Duration::from_millis(20));
            let removed = client.query(&call.replace("{other}", &users[1 - number].to_string()), &[&id]);
            run(client, if removed.is_ok() { "COMMIT" } else { "ROLLBACK" });
            removed
        });
        let removed = results.iter().filter(|result| result.is_ok()).count();
        assert_eq!(removed, 1, "{isolation}");
        for error in results.into_iter().filter_map(Result::err) {
            let code = error.code().unwrap().code().to_owned();
            assert!(["40001", "55000", "P0002"].contains(&code.as_str()), "{isolation}: {error:?}");
        }
        let admins: i64 = one(&mut db.admin(), "SELECT count(*) FROM tenant_list_admins($1)", &[&id]);
        assert_eq!(admins, 1, "{isolation}");
    }
}

fn last_admins_cannot_remove_each_other(db: &Db) {
    of_two_admins_one_stays(db, "SELECT * FROM tenant_remove_admin($1, '{other}')");
}

fn last_admins_cannot_both_leave(db: &Db) {
    of_two_admins_one_stays(db, "SELECT * FROM tenant_leave($1)");
}

fn same_member_added_by_many_is_one_row(db: &Db) {
    let (id, user) = (db.new_tenant("acme", new_user()), new_user());
    let mut rows = together(admins(db, 8), |_, client| {
        one::<Uuid>(client, "SELECT id FROM tenant_assign_admin($1, $2)", &[&id, &user])
    });
    rows.dedup();
    assert_eq!(rows.len(), 1);
    let mut granted = together(admins(db, 8), |_, client| {
        one::<String>(client, "SELECT created_at::text FROM tenant_grant_instance_admin($1)", &[&user])
    });
    granted.dedup();
    assert_eq!(granted.len(), 1);
}

fn one_migration_version_is_one_row(db: &Db) {
    together(admins(db, 10), |_, client| {
        run(client, "SELECT tenant_migration_add('1', 'one', 'CREATE TABLE notes (body text)')");
    });
    assert_eq!(one::<i64>(&mut db.admin(), "SELECT count(*) FROM tenant_migration_list()", &[]), 1);
}

fn two_texts_of_a_version_have_one_winner(db: &Db) {
    let results = together(admins(db, 10), |number, client| {
        client.query("SELECT tenant_migration_add('1', 'one', $1)", &[&format!("SELECT {number}")])
    });
    let (winners, losers): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((winners.len(), losers.len()), (1, 9));
    for loser in losers {
        expect_refusal(loser, "conflict").message_has("registered with another text");
    }
}

fn concurrent_migrations_apply_once(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    db.add_migration("1", "CREATE TABLE notes (body text); SELECT pg_sleep(0.2)");
    let mut applied =
        together(admins(db, 6), |_, client| one::<i32>(client, "SELECT applied FROM tenant_migrate($1)", &[&id]));
    applied.sort();
    assert_eq!(applied, [0, 0, 0, 0, 0, 1]);
}

fn delete_waits_for_migrate(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    db.add_migration("1", "CREATE TABLE notes (body text)");
    let mut migrating = db.admin();
    run(&mut migrating, &format!("BEGIN; SELECT tenant_migrate('{id}')"));
    let mut deleting = db.admin();
    std::thread::scope(|scope| {
        let deleted = scope.spawn(|| deleting.query_one("SELECT id FROM tenant_delete($1)", &[&id]).map(|_| ()));
        until_one_waits(db);
        run(&mut migrating, "COMMIT");
        deleted.join().unwrap().unwrap();
    });
    assert_eq!(db.traces(id, "tenant_acme"), 0);
}

fn migrate_waits_for_delete(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text)");
    for end in ["ROLLBACK", "COMMIT"] {
        let id = one(&mut db.admin(), "SELECT id FROM tenant_create(slug => $1, name => 'A')", &[&end.to_lowercase()]);
        db.add_migration(&format!("2.{}", end.len()), "CREATE TABLE IF NOT EXISTS more (body text)");
        let mut deleting = db.admin();
        run(&mut deleting, &format!("BEGIN; SELECT tenant_delete('{id}')"));
        let mut migrating = db.admin();
        std::thread::scope(|scope| {
            let migrated = scope.spawn(|| migrating.query("SELECT * FROM tenant_migrate($1)", &[&id]).map(|_| ()));
            until_one_waits(db);
            run(&mut deleting, end);
            let migrated = migrated.join().unwrap();
            if end == "COMMIT" {
                expect_refusal(migrated, "not_found").message("tenant not found");
            } else {
                migrated.unwrap();
            }
        });
        let expected = if end == "COMMIT" { 0 } else { 3 };
        assert_eq!(db.traces(id, &format!("tenant_{}", end.to_lowercase())), expected);
    }
}

fn restore_against_create_of_its_slug(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{id}')"));
    let mut creating = db.admin();
    run(&mut creating, "BEGIN; SELECT tenant_create('acme', 'New')");
    // The error comes at once, before the other transaction ends.
    let restored = db.admin().query("SELECT * FROM tenant_restore($1)", &[&id]).map(|_| ());
    expect_refusal(restored, "conflict").message("slug \"acme\" is taken");
    run(&mut creating, "COMMIT");
    assert_eq!(column::<String>(&mut db.admin(), "SELECT name FROM tenant_list()", &[]), ["New"]);
}

fn purge_against_restore(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{id}')"));
    let mut restoring = db.admin();
    run(&mut restoring, &format!("BEGIN; SELECT tenant_restore('{id}')"));
    let mut purging = db.admin();
    std::thread::scope(|scope| {
        let purged = scope.spawn(|| column::<Uuid>(&mut purging, "SELECT id FROM tenant_purge('0')", &[]));
        until_one_waits(db);
        run(&mut restoring, "COMMIT");
        assert!(purged.join().unwrap().is_empty(), "it has been restored");
    });
    assert_eq!(db.traces(id, "tenant_acme"), 3);
}

fn two_defaults_end_as_one(db: &Db) {
    let ids: Vec<Uuid> = (0..4).map(|n| db.new_tenant(&format!("t{n}"), new_user())).collect();
    for round in 0..5 {
        let results = together(admins(db, 4), |number, client| {
            client.query("SELECT * FROM tenant_set_default($1)", &[&ids[(number + round) % 4]]).map(|_| ())
        });
        for result in results {
            result.unwrap();
        }
        let defaults: i64 = one(&mut db.admin(), "SELECT count(*) FROM tenant_list() WHERE is_default", &[]);
        assert_eq!(defaults, 1);
    }
}

fn suspend_does_not_wait_for_readers(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('x')");
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let mut reading = db.as_user(user);
    run(&mut reading, "BEGIN; SELECT tenant_set_current('acme'); SELECT * FROM notes; SELECT tenant_current()");
    let mut admin = db.admin();
    run(&mut admin, "SET lock_timeout = '2s'");
    run(&mut admin, &format!("SELECT tenant_suspend('{id}')"));
    assert_eq!(
        crate::support::people::reached(&mut reading, "notes"),
        0,
        "a READ COMMITTED transaction sees the suspension at once"
    );
    let _ = reading.batch_execute("ROLLBACK");
    expect_error(reading.query("SELECT tenant_set_current('acme')", &[]), "55000");
}
