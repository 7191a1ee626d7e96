//! Another library may take the hook where queries are checked and not call ours. Then the policies answer row by row, and
//! plans from before are checked where they start.

use std::path::PathBuf;

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, reached, run};
use crate::support::tables::{act_as, plan};
use crate::support::{Cluster, Db, expect_error};

cases![
    loaded_after_us_it_opens_nothing,
    loaded_before_us_it_changes_nothing,
    loaded_in_mid_session_it_opens_no_cached_plan,
    library_that_takes_every_hook_opens_no_new_plan,
    library_that_chains_costs_nothing,
    audit_tells_of_it,
];

/// Takes the hook and forgets whoever had it.
const RUDE: &str = r#"
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

/// As it should be done.
const POLITE: &str = r#"
#include "postgres.h"
#include "executor/executor.h"
#include "fmgr.h"
PG_MODULE_MAGIC;
static ExecutorCheckPerms_hook_type before = NULL;
#if PG_VERSION_NUM >= 160000
static bool ask(List *entries, List *permissions, bool raise) { return !before || before(entries, permissions, raise); }
#else
static bool ask(List *entries, bool raise) { return !before || before(entries, raise); }
#endif
void _PG_init(void);
void _PG_init(void) { before = ExecutorCheckPerms_hook; ExecutorCheckPerms_hook = ask; }
"#;

fn rude(db: &Db) -> PathBuf {
    db.compile_library("rude", &RUDE.replace("TAKE_MORE", ""))
}

/// Member of acme, and member of another tenant alone.
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

/// Nothing is read or written, whether the command is refused or finds no rows.
#[track_caller]
fn reaches_nothing(client: &mut Client) {
    for command in COMMANDS {
        match client.execute(*command, &[]) {
            Ok(rows) => assert_eq!(rows, 0, "{command}"),
            Err(error) => drop(expect_error(Err::<(), _>(error), "42501")),
        }
    }
}

fn loaded_after_us_it_opens_nothing(db: &Db) {
    let (member, neighbour) = world(db);
    preload(db, &["fluxbase_tenant", &format!("'{}'", rude(db).display())]);
    for mut client in [db.as_user(neighbour), db.user_role(), db.server()] {
        reaches_nothing(&mut client);
    }
    let mut client = db.as_user(member);
    assert_eq!(column::<String>(&mut client, "SELECT body FROM tenant_acme.notes ORDER BY id", &[]), ["one", "two"]);
    assert!(plan(&mut client, "SELECT * FROM tenant_acme.notes").contains("accessible"), "the policy answers");
    assert_eq!(client.execute("UPDATE tenant_acme.notes SET body = 'x'", &[]).unwrap(), 2);
    act_as(&mut client, neighbour);
    reaches_nothing(&mut client);
}

fn loaded_before_us_it_changes_nothing(db: &Db) {
    let (member, neighbour) = world(db);
    preload(db, &[&format!("'{}'", rude(db).display()), "fluxbase_tenant"]);
    expect_error(db.as_user(neighbour).query(COMMANDS[0], &[]), "42501");
    let mut client = db.as_user(member);
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 2);
    assert!(!plan(&mut client, COMMANDS[0]).contains("accessible"));
}

/// A superuser can do this to the own session alone.
fn loaded_in_mid_session_it_opens_no_cached_plan(db: &Db) {
    let (member, neighbour) = world(db);
    let library = rude(db);
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
    assert_eq!(column::<i32>(&mut client, "EXECUTE q", &[]), [1, 2], "who may still may");
    act_as(&mut client, neighbour);
    expect_error(client.query("EXECUTE q", &[]), "42501");
    expect_error(client.execute("EXECUTE w", &[]), "42501");
    reaches_nothing(&mut client);
}

fn library_that_takes_every_hook_opens_no_new_plan(db: &Db) {
    let (member, neighbour) = world(db);
    let more = "ExecutorStart_hook = NULL; ExecutorRun_hook = NULL;";
    let ruder = db.compile_library("ruder", &RUDE.replace("TAKE_MORE", more));
    preload(db, &["fluxbase_tenant", &format!("'{}'", ruder.display())]);
    let mut client = db.as_user(member);
    let mut foreign = db.as_user(neighbour);
    run(&mut client, "SET plan_cache_mode = force_generic_plan; PREPARE q AS SELECT * FROM tenant_acme.notes");
    assert_eq!(column::<i32>(&mut client, "EXECUTE q", &[]), [1, 2]);
    act_as(&mut client, neighbour);
    assert!(client.query("EXECUTE q", &[]).unwrap().is_empty(), "the policy is asked at every execution");
    reaches_nothing(&mut client);
    // A name of another tenant's is refused, and what reads its table is not planned.
    expect_error(foreign.execute(COMMANDS[2], &[]), "42501").message_has("tenant_acme");
    run(
        &mut db.superuser(),
        "CREATE VIEW public.notes WITH (security_invoker) AS TABLE tenant_acme.notes; GRANT ALL ON notes TO PUBLIC",
    );
    for statement in ["SELECT count(*) FROM public.notes", "INSERT INTO public.notes VALUES (7, 'seven')"] {
        expect_error(foreign.query(statement, &[]), "42501").message_has("table notes");
    }
}

fn library_that_chains_costs_nothing(db: &Db) {
    let (member, neighbour) = world(db);
    let polite = db.compile_library("polite", POLITE);
    preload(db, &["fluxbase_tenant", &format!("'{}'", polite.display())]);
    let mut client = db.as_user(member);
    assert_eq!(reached(&mut client, "tenant_acme.notes"), 2);
    assert!(!plan(&mut client, COMMANDS[0]).contains("accessible"));
    act_as(&mut client, neighbour);
    expect_error(client.query(COMMANDS[0], &[]), "42501");
}

fn audit_tells_of_it(db: &Db) {
    let cluster = Cluster::start(db.install(), &["session_preload_libraries = 'fluxbase_tenant'"]);
    let db = &Db::new(&cluster);
    let findings = "SELECT severity || ': ' || problem FROM tenant_check()";
    assert_eq!(column::<String>(&mut db.admin(), findings, &[]), [""; 0]);
    preload(db, &["fluxbase_tenant", &format!("'{}'", rude(db).display())]);
    let problem = "warning: another library took ExecutorCheckPerms_hook and does not call the one before it";
    assert_eq!(column::<String>(&mut db.admin(), findings, &[]), [problem]);
}
