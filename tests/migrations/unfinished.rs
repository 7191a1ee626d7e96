//! A nontransactional migration can stop before it is finished: completed statements stay completed, are reported, and
//! do not run again.

use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, one, run};
use crate::support::unfinished::{HALF, fleet_with_log, steps};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    resumes_after_the_completed_statements,
    each_statement_can_fail,
    removed_while_unfinished,
    deleted_while_unfinished,
    rollback_of_an_unfinished_migration_is_refused,
    failure_restores_the_workers_role,
];

fn resumes_after_the_completed_statements(db: &Db) {
    let mut client = fleet_with_log(db, 3);
    run(&mut client, "INSERT INTO tenant_t2.items VALUES (1, 'x'), (2, 'x')");
    db.add_nontransactional("3", HALF);
    db.add_migration("4", "INSERT INTO log (step) VALUES (4)");
    assert_eq!(db.migrate_all(""), ["t1 migrated 2", "t2 failed 0 23505", "t3 migrated 2"]);
    assert_eq!(db.migration_status(), ["t1 4 0", "t2 2 2 3, 1 of 3 statements done", "t3 4 0"]);
    let error: String = one(&mut client, "SELECT last_error FROM tenant_migration_status() WHERE slug = 't2'", &[]);
    assert!(error.contains("could not create unique index") && error.contains("statement 2 of 3"), "{error}");
    let sql = "SELECT concat_ws('|', version, statements, statements_done, sqlstate, error)
               FROM fluxbase_tenant.unfinished_migrations";
    let recorded: Vec<String> = column(&mut client, sql, &[]);
    assert_eq!(recorded, ["3|3|1|23505|could not create unique index \"body_idx\""]);
    db.assert_no_workers();

    // Without a repair, the next run fails the same way and leaves nothing more behind.
    assert_eq!(db.migrate_all("parallel => 1, retries => 2"), ["t2 failed 0 23505"]);
    assert_eq!(steps(&mut client, "t2"), "1");
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(one::<i64>(&mut client, invalid, &[]), 1, "repeated attempts leave a single invalid index");

    run(&mut client, "DELETE FROM tenant_t2.items WHERE id = 2");
    assert_eq!(db.migrate_all(""), ["t2 migrated 2"]);
    db.assert_all_is_done();
    for slug in ["t1", "t2", "t3"] {
        assert_eq!(steps(&mut client, slug), "1 3 4");
    }
}

/// Each statement fails once: first, last, in between, concurrent and ordinary builds.
fn each_statement_can_fail(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    let concurrent = "CREATE UNIQUE INDEX CONCURRENTLY {}_idx ON items ((body || '{}'))";
    for place in 0..4 {
        let mut script: Vec<String> = Vec::new();
        for index in 0..4 {
            script.push(match (index == place, index % 2 == 0) {
                (true, true) => concurrent.replace("{}", &format!("s{place}")),
                (true, false) => format!("CREATE UNIQUE INDEX s{place}_idx ON items ((body || 's{place}'))"),
                (false, _) => format!("INSERT INTO log (step) VALUES ({index})"),
            });
        }
        run(&mut client, "TRUNCATE tenant_t1.log; INSERT INTO tenant_t1.items VALUES (1, 'x'), (2, 'x')");
        let version = (place + 3).to_string();
        db.add_nontransactional(&version, &script.join("; "));
        assert_eq!(db.migrate_all(""), ["t1 failed 0 23505"]);
        let left = format!("t1 {} 1 {version}, {place} of 4 statements done", place + 2);
        assert_eq!(db.migration_status(), [left]);
        run(&mut client, "DELETE FROM tenant_t1.items");
        assert_eq!(db.migrate_all(""), ["t1 migrated 1"]);
        let wanted: Vec<String> = (0..4).filter(|index| *index != place).map(|index| index.to_string()).collect();
        assert_eq!(steps(&mut client, "t1"), wanted.join(" "));
        db.assert_all_is_done();
        run(&mut client, &format!("DROP INDEX tenant_t1.s{place}_idx"));
    }
}

fn removed_while_unfinished(db: &Db) {
    let mut client = fleet_with_log(db, 2);
    run(&mut client, "INSERT INTO tenant_t1.items VALUES (1, 'x'), (2, 'x')");
    run(&mut client, "INSERT INTO tenant_t2.items VALUES (1, 'x'), (2, 'x')");
    db.add_nontransactional("3", HALF);
    assert_eq!(db.migrate_all(""), ["t1 failed 0 23505", "t2 failed 0 23505"]);
    let mut admin = db.admin();
    assert_eq!(one::<String>(&mut admin, "SELECT version FROM tenant_migration_remove('3')", &[]), "3");
    assert_eq!(db.migration_status(), ["t1 2 0", "t2 2 0"]);
    assert_eq!(db.migrate_all(""), [""; 0]);
    // With a changed text under the same version, the migration starts from its first statement, and what the first
    // attempt left does not get in the way.
    run(&mut client, "DELETE FROM tenant_t1.items WHERE id = 2; DELETE FROM tenant_t2.items WHERE id = 2");
    db.add_nontransactional("3", &HALF.replace("INSERT INTO log (step) VALUES (1);", ""));
    assert_eq!(db.migrate_all(""), ["t1 migrated 1", "t2 migrated 1"]);
    assert_eq!(steps(&mut client, "t1"), "1 3");
    db.assert_no_workers();
    // Every tenant has applied it, so it cannot be removed.
    expect_refusal(admin.query("SELECT tenant_migration_remove('3')", &[]), "conflict");
}

fn deleted_while_unfinished(db: &Db) {
    let mut client = fleet_with_log(db, 3);
    for slug in ["t1", "t2"] {
        run(&mut client, &format!("INSERT INTO tenant_{slug}.items VALUES (1, 'x'), (2, 'x')"));
    }
    db.add_nontransactional("3", HALF);
    assert_eq!(db.migrate_all(""), ["t1 failed 0 23505", "t2 failed 0 23505", "t3 migrated 1"]);
    let (first, second): (Uuid, Uuid) = (
        one(&mut client, "SELECT id FROM tenant_get_by_slug('t1')", &[]),
        one(&mut client, "SELECT id FROM tenant_get_by_slug('t2')", &[]),
    );
    let mut admin = db.admin();
    run(&mut admin, &format!("SELECT tenant_delete('{first}'), tenant_soft_delete('{second}')"));
    assert_eq!(db.traces(first, "tenant_t1"), 0);
    assert_eq!(db.migrate_all(""), [""; 0]);
    run(&mut client, "DELETE FROM tenant_t2.items");
    run(&mut admin, &format!("SELECT tenant_restore('{second}')"));
    assert_eq!(db.migrate_all(""), ["t2 migrated 1"]);
    assert_eq!(steps(&mut client, "t2"), "1 3");
    db.assert_all_is_done();
}

fn rollback_of_an_unfinished_migration_is_refused(db: &Db) {
    let mut client = fleet_with_log(db, 1);
    run(&mut client, "INSERT INTO tenant_t1.items VALUES (1, 'x'), (2, 'x')");
    db.add_nontransactional("3", HALF);
    db.migrate_all("");
    let id: Uuid = one(&mut client, "SELECT id FROM tenant_get_by_slug('t1')", &[]);
    let refused = db.admin().query("SELECT * FROM tenant_rollback($1, '1')", &[&id]);
    expect_refusal(refused, "conflict").message("migration version \"3\" is unfinished");
    expect_error(db.admin().query("SELECT * FROM tenant_migrate($1)", &[&id]), "25001");
    assert_eq!(db.migration_status(), ["t1 2 1 3, 1 of 3 statements done"]);
}

/// A nontransactional command that fails does so as the tenant's owner role. The worker must get its own role back.
fn failure_restores_the_workers_role(db: &Db) {
    let mut client = fleet_with_log(db, 4);
    for slug in ["t1", "t3"] {
        run(&mut client, &format!("INSERT INTO tenant_{slug}.items VALUES (1, 'x'), (2, 'x')"));
    }
    db.add_nontransactional("3", HALF);
    db.add_migration("4", "CREATE TABLE who AS SELECT current_user::text AS name");
    let results = db.migrate_all("parallel => 1, retries => 0");
    assert_eq!(results, ["t1 failed 0 23505", "t2 migrated 2", "t3 failed 0 23505", "t4 migrated 2"]);
    run(&mut client, "DELETE FROM tenant_t1.items; DELETE FROM tenant_t3.items");
    assert_eq!(db.migrate_all("parallel => 1"), ["t1 migrated 2", "t3 migrated 2"]);
    let mut roles: Vec<String> = column(&mut client, "SELECT id::text FROM tenant_list()", &[]);
    roles.iter_mut().for_each(|id| *id = Db::owner_role(id.parse().unwrap()));
    for (slug, role) in ["t1", "t2", "t3", "t4"].iter().zip(&roles) {
        assert_eq!(&one::<String>(&mut client, &format!("SELECT name FROM tenant_{slug}.who"), &[]), role);
    }
    db.assert_all_is_done();
}
