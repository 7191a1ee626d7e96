//! Another library may replace the hook where queries are checked and not call ours. Then the policies are evaluated
//! for each row, and cached plans are checked when the executor starts.

use std::path::PathBuf;

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, reached, run};
use crate::support::tables::{act_as, plan};
use crate::support::{Cluster, Db, expect_error};

cases![
    library_loaded_later_exposes_nothing,
    library_loaded_earlier_changes_nothing,
    library_loaded_mid_session_exposes_no_cached_plan,
    library_that_takes_every_hook_exposes_no_new_plan,
    library_that_chains_costs_nothing,
    tenant_check_reports_the_library,
];

/// Replaces the hook and does not call the previous one.
const UNCHAINED: &str = r#"
#include "postgres.h"
#include "executor/executor.h"
#include "fmgr.h"
PG_MODULE_MAGIC;
#if PG_VERSION_NUM >= 160000
static bool allow(List *entries, List *permissions, bool raise) { return true; }
#else
static bool allow(List *entries, bool raise) { return true; }
#endif
void _PG_init(void);
void _PG_init(void) { ExecutorCheckPerms_hook = allow; TAKE_MORE }
"#;

/// Chains the hook as recommended.
const CHAINED: &str = r#"
#include "postgres.h"
#include "executor/executor.h"
#include "fmgr.h"
PG_MODULE_MAGIC;
static ExecutorCheckPerms_hook_type before = NULL;
#if PG_VERSION_NUM >= 160000
static bool check(List *entries, List *permissions, bool raise) { return !before || before(entries, permissions, raise); }
#else
static bool check(List *entries, bool raise) { return !before || before(entries, raise); }
#endif
void _PG_init(void);
void _PG_init(void) { before = ExecutorCheckPerms_hook; ExecutorCheckPerms_hook = check; }
"#;

fn unchained(db: &Db) -> PathBuf {
    db.compile_library("unchained", &UNCHAINED.replace("TAKE_MORE", ""))
}

/// Returns a member of acme, and a user who is a member only of another tenant.
fn world(db: &Db) -> (Uuid, Uuid) {
    db.add_migration(
        "1",
        "CREATE TABLE notes (id int PRIMARY KEY, body text); INSERT INTO notes VALUES (1, 'one'), (2, 'two')",
    );
    let (member, neighbour) = (new_user(), new_user());
    db.new_tenant("acme", member);
    db.new_tenant("other", neighbour);
    (member, neighbour)
}

fn preload(db: &Db, libraries: &[&str]) {
    run(
        &mut db.superuser(),
        &format!("ALTER DATABASE {} SET session_preload_libraries = {}", db.name(), libraries.join(", ")),
    );
}

const COMMANDS: &[&str] = &[
    "SELECT * FROM tenant_acme.notes",
    "SELECT * FROM tenant_acme.notes WHERE id = 1",
    "INSERT INTO tenant_acme.notes VALUES (7, 'seven')",
    "UPDATE tenant_acme.notes SET body = 'changed'",
    "DELETE FROM tenant_acme.notes",
    "MERGE INTO tenant_acme.notes n USING generate_series(1, 2) g ON n.id = g WHEN MATCHED THEN DELETE",
    "SELECT count(*) FROM tenant_acme.notes HAVING count(*) > 0",
];

/// Asserts that nothing is read or written, whether the command is refused or finds no rows.
#[track_caller]
fn accesses_nothing(client: &mut Client) {
    for command in COMMANDS {
        match client.execute(*command, &[]) {
            Ok(rows) => assert_eq!(rows, 0, "{command}"),
            Err(error) => drop(expect_error(Err::<(), _>(error), "42501")),
        }
    }
}

fn library_loaded_later_exposes_nothing(db: &Db) {
    let (member, neighbour) = world(db);
    preload(db, &["fluxbase_tenant", &format!("'{}'", unchained(db).display())]);
    for mut client in [db.as_user(neighbour), db.user_role(), db.server()] {
        accesses_nothing(&mut client);
    }
    let mut client = db.as_user(member);
    assert_eq!(column::<String>(&mut client, "SELECT body FROM tenant_acme.notes ORDER BY id", &[]), ["one", "two"]);
    assert!(plan(&mut client, "SELECT * FROM tenant_acme.notes").contains("accessible"), "the policy is evaluated");
    assert_eq!(client.execute("UPDATE tenant_acme.notes SET body = 'x'", &[]).unwrap(), 2);
    act_as(&mut client, neighbour);
    accesses_nothing(&mut client);
}

fn library_loaded_earlier_changes_nothing(db: &Db) {
    let (member, neighbour) = world(db);
    preload(db, &[&format!("'{}'", unchained(db).display()), "fluxbase_tenant"]);
    expect_error(db.as_user(neighbour).query(COMMANDS[0], &[]), "42501");
    let mut client = db.as_user(member);
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 2);
    assert!(!plan(&mut client, COMMANDS[0]).contains("accessible"));
}

/// Only a superuser can load such a library, and only into their own session.
fn library_loaded_mid_session_exposes_no_cached_plan(db: &Db) {
    let (member, neighbour) = world(db);
    let library = unchained(db);
    let mut client = db.superuser();
    run(&mut client, "SET plan_cache_mode = force_generic_plan; SET SESSION AUTHORIZATION app_server");
    act_as(&mut client, member);
    run(
        &mut client,
        "PREPARE q AS SELECT * FROM tenant_acme.notes; PREPARE w AS DELETE FROM tenant_acme.notes WHERE id > 5",
    );
    assert_eq!(column::<i32>(&mut client, "EXECUTE q", &[]), [1, 2]);
    assert_eq!(client.execute("EXECUTE w", &[]).unwrap(), 0);
    run(
        &mut client,
        &format!("RESET SESSION AUTHORIZATION; LOAD '{}'; SET SESSION AUTHORIZATION app_server", library.display()),
    );
    assert_eq!(column::<i32>(&mut client, "EXECUTE q", &[]), [1, 2], "a member still has access");
    act_as(&mut client, neighbour);
    expect_error(client.query("EXECUTE q", &[]), "42501");
    expect_error(client.execute("EXECUTE w", &[]), "42501");
    accesses_nothing(&mut client);
}

fn library_that_takes_every_hook_exposes_no_new_plan(db: &Db) {
    let (member, neighbour) = world(db);
    let more = "ExecutorStart_hook = NULL; ExecutorRun_hook = NULL;";
    let unchained_all = db.compile_library("unchained_all", &UNCHAINED.replace("TAKE_MORE", more));
    preload(db, &["fluxbase_tenant", &format!("'{}'", unchained_all.display())]);
    let mut client = db.as_user(member);
    let mut outsider = db.as_user(neighbour);
    run(&mut client, "SET plan_cache_mode = force_generic_plan; PREPARE q AS SELECT * FROM tenant_acme.notes");
    assert_eq!(column::<i32>(&mut client, "EXECUTE q", &[]), [1, 2]);
    act_as(&mut client, neighbour);
    assert!(client.query("EXECUTE q", &[]).unwrap().is_empty(), "the policy is evaluated at every execution");
    accesses_nothing(&mut client);
    // A name in another tenant's schema is refused, and a query that reads its table is not planned.
    expect_error(outsider.execute(COMMANDS[2], &[]), "42501").message_has("tenant_acme");
    run(
        &mut db.superuser(),
        "CREATE VIEW public.notes WITH (security_invoker) AS TABLE tenant_acme.notes; GRANT ALL ON notes TO PUBLIC",
    );
    for statement in ["SELECT count(*) FROM public.notes", "INSERT INTO public.notes VALUES (7, 'seven')"] {
        expect_error(outsider.query(statement, &[]), "42501").message_has("table notes");
    }
}

fn library_that_chains_costs_nothing(db: &Db) {
    let (member, neighbour) = world(db);
    let chained = db.compile_library("chained", CHAINED);
    preload(db, &["fluxbase_tenant", &format!("'{}'", chained.display())]);
    let mut client = db.as_user(member);
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 2);
    assert!(!plan(&mut client, COMMANDS[0]).contains("accessible"));
    act_as(&mut client, neighbour);
    expect_error(client.query(COMMANDS[0], &[]), "42501");
}

fn tenant_check_reports_the_library(db: &Db) {
    let cluster = Cluster::start(db.install(), &["session_preload_libraries = 'fluxbase_tenant'"]);
    let db = &Db::new(&cluster);
    let findings = "SELECT severity || ': ' || problem FROM tenant_check()";
    assert_eq!(column::<String>(&mut db.admin(), findings, &[]), [""; 0]);
    preload(db, &["fluxbase_tenant", &format!("'{}'", unchained(db).display())]);
    let problem = "warning: another library replaced ExecutorCheckPerms_hook and does not call the previous hook";
    assert_eq!(column::<String>(&mut db.admin(), findings, &[]), [problem]);
}
