//! Directories of migration files, in the layouts of several tools, become migrations with their down scripts.

use std::fs;

use crate::cases;
use crate::support::files::{Folder, LOAD};
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    golang_migrate,
    flyway,
    dbmate,
    goose,
    plain,
    loading_again_changes_nothing,
    repeatable_files_can_change,
    empty_down_scripts_are_ignored,
    nontransactional_files,
    registered_numbers_can_exceed_those_of_the_directory,
    dates_can_have_gaps,
    windows_files,
    other_files_are_ignored,
    relative_paths_begin_at_the_data_directory,
    many_files,
    a_rollback_undoes_the_load,
    instance_admins_need_pg_read_server_files,
];

/// Loads the folder, creates a tenant, rolls it back to nothing and migrates it again. The tenant must have `tables`
/// after migrating and `left` after the rollback.
#[track_caller]
fn loads_and_rolls_back(db: &Db, folder: &Folder, loaded: &[&str], tables: &[&str], left: &[&str]) {
    let mut superuser = db.superuser();
    assert_eq!(folder.loaded(&mut superuser), loaded);
    let id = db.new_tenant("acme", new_user());
    let relations = "SELECT relname::text FROM pg_class WHERE relnamespace = 'tenant_acme'::regnamespace
                 AND relkind IN ('r', 'v') ORDER BY 1";
    assert_eq!(column::<String>(&mut superuser, relations, &[]), tables);
    run(&mut superuser, &format!("SELECT tenant_rollback('{id}', '0')"));
    assert_eq!(column::<String>(&mut superuser, relations, &[]), left);
    run(&mut superuser, &format!("SELECT tenant_migrate('{id}')"));
    assert_eq!(column::<String>(&mut superuser, relations, &[]), tables);
}

fn golang_migrate(db: &Db) {
    let folder = Folder::of(&[
        ("1_notes.up.sql", "BEGIN; CREATE TABLE notes (id int); COMMIT;"),
        ("1_notes.down.sql", "DROP TABLE notes;"),
        ("2_add_v1.2_tags.up.sql", "CREATE TABLE tags (id int);\n-- +not a marker\n"),
        ("2_add_v1.2_tags.down.sql", "DROP TABLE tags"),
        ("10_nothing.up.sql", ""),
        ("10_nothing.down.sql", "SELECT 1"),
    ]);
    for number in 3..10 {
        folder.write(&format!("{number}_x.up.sql"), "SELECT 1");
        folder.write(&format!("{number}_x.down.sql"), "SELECT 1");
    }
    let mut loaded = vec!["1, notes, 1_notes.up.sql, added", "2, add v1.2 tags, 2_add_v1.2_tags.up.sql, added"];
    let between: Vec<String> = (3..10).map(|number| format!("{number}, x, {number}_x.up.sql, added")).collect();
    loaded.extend(between.iter().map(String::as_str));
    loaded.push("10, nothing, 10_nothing.up.sql, added");
    loads_and_rolls_back(db, &folder, &loaded, &["notes", "tags"], &[]);
}

fn flyway(db: &Db) {
    let folder = Folder::of(&[
        ("V1__notes.sql", "CREATE TABLE notes (id int)"),
        ("U1__notes.sql", "DROP TABLE notes CASCADE"),
        ("V1_2__first_tags.sql", "CREATE TABLE tags (id int)"),
        ("U1.2__first_tags.sql", "DROP TABLE tags"),
        ("V1.10__More__tags.sql", "ALTER TABLE tags ADD more int"),
        ("U1_10__x.sql", "ALTER TABLE tags DROP more"),
        ("R__all_notes.sql", "CREATE OR REPLACE VIEW all_notes AS SELECT * FROM notes"),
    ]);
    let loaded = [
        "1, notes, V1__notes.sql, added",
        "1.2, first tags, V1_2__first_tags.sql, added",
        "1.10, More tags, V1.10__More__tags.sql, added",
        "R__all_notes, all notes, R__all_notes.sql, added",
    ];
    assert_eq!(folder.loaded(&mut db.superuser()), loaded);
    let id = db.new_tenant("acme", new_user());
    let mut superuser = db.superuser();
    run(&mut superuser, "SELECT * FROM tenant_acme.all_notes, tenant_acme.tags");
    run(&mut superuser, &format!("SELECT tenant_rollback('{id}', '1')"));
    expect_error(superuser.query("SELECT * FROM tenant_acme.tags", &[]), "42P01");
    run(&mut superuser, "SELECT * FROM tenant_acme.all_notes");
}

const DBMATE: &str = "-- Notes, at last.

-- migrate:up
CREATE TABLE notes (body text DEFAULT 'a;
b');

-- migrate:down
DROP TABLE notes;
";

fn dbmate(db: &Db) {
    let folder = Folder::of(&[
        ("20260101120000_notes.sql", DBMATE),
        (
            "20260102000000-more-notes.sql",
            "--migrate:up\nCREATE TABLE more ()\n--migrate:down transaction:true\nDROP TABLE more",
        ),
    ]);
    let loaded = [
        "20260101120000, notes, 20260101120000_notes.sql, added",
        "20260102000000, more notes, 20260102000000-more-notes.sql, added",
    ];
    loads_and_rolls_back(db, &folder, &loaded, &["more", "notes"], &[]);
    let scripts = "SELECT up || '|' || down FROM tenant_migration_list()";
    let first = "CREATE TABLE notes (body text DEFAULT 'a;\nb');|DROP TABLE notes;";
    assert_eq!(column::<String>(&mut db.admin(), scripts, &[])[0], first);
}

const GOOSE: &str = "-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION one() RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    -- two statements; for a goose without eyes
    RETURN 1;
END;
$$;
-- +goose StatementEnd
CREATE TABLE notes (id int DEFAULT one());

-- +goose Down
DROP TABLE notes;
DROP FUNCTION one;
";

fn goose(db: &Db) {
    let folder = Folder::of(&[
        ("00001_notes.sql", GOOSE),
        ("00002_tags.sql", "--+goose up\nCREATE TABLE tags ()\n-- +GOOSE  Down\nDROP TABLE tags"),
    ]);
    let loaded = ["00001, notes, 00001_notes.sql, added", "00002, tags, 00002_tags.sql, added"];
    loads_and_rolls_back(db, &folder, &loaded, &["notes", "tags"], &[]);
}

fn plain(db: &Db) {
    let folder = Folder::of(&[
        ("1.sql", "CREATE TABLE a ()"),
        ("2-second-table.SQL", "CREATE TABLE b ()"),
        ("003_2fa_and_more.sql", "CREATE TABLE c ()"),
    ]);
    let mut superuser = db.superuser();
    let loaded = [
        "1, 1, 1.sql, added",
        "2, second table, 2-second-table.SQL, added",
        "003, 2fa and more, 003_2fa_and_more.sql, added",
    ];
    assert_eq!(folder.loaded(&mut superuser), loaded);
    let id = db.new_tenant("acme", new_user());
    run(&mut superuser, "SELECT * FROM tenant_acme.a, tenant_acme.b, tenant_acme.c");
    let back = superuser.query("SELECT tenant_rollback($1, '0')", &[&id]);
    expect_refusal(back, "conflict").message("there is no down script for migration version 1, 2, 003");
}

fn loading_again_changes_nothing(db: &Db) {
    let folder = Folder::of(&[
        ("1_a.up.sql", "CREATE TABLE a ()"),
        ("1_a.down.sql", "DROP TABLE a"),
        ("2_b.up.sql", "CREATE TABLE b ()"),
    ]);
    let mut superuser = db.superuser();
    folder.loaded(&mut superuser);
    let id = db.new_tenant("acme", new_user());
    let all = "SELECT m::text FROM fluxbase_tenant.migrations m ORDER BY sort_key";
    let before: Vec<String> = column(&mut superuser, all, &[]);
    // Neither the file's name nor its line endings are part of the text.
    folder.remove("2_b.up.sql");
    folder.write("2_another_name.up.sql", "CREATE TABLE b ()");
    folder.write("3_c.up.sql", "CREATE TABLE c (\r\n)");
    let again = ["1, a, 1_a.up.sql, unchanged", "2, b, 2_another_name.up.sql, unchanged", "3, c, 3_c.up.sql, added"];
    assert_eq!(folder.loaded(&mut superuser), again);
    folder.write("3_c.up.sql", "CREATE TABLE c (\n)");
    assert_eq!(folder.loaded(&mut superuser)[2], "3, c, 3_c.up.sql, unchanged");
    assert_eq!(column::<String>(&mut superuser, all, &[])[..2], before);
    let applied: i32 = one(&mut superuser, "SELECT applied FROM tenant_migrate($1)", &[&id]);
    assert_eq!(applied, 1);
}

fn repeatable_files_can_change(db: &Db) {
    let folder = Folder::of(&[("R__answer.sql", "CREATE OR REPLACE FUNCTION answer() RETURNS int RETURN 1")]);
    let mut superuser = db.superuser();
    assert_eq!(folder.loaded(&mut superuser), ["R__answer, answer, R__answer.sql, added"]);
    let id = db.new_tenant("acme", new_user());
    folder.write("R__answer.sql", "CREATE OR REPLACE FUNCTION answer() RETURNS int RETURN 42");
    assert_eq!(folder.loaded(&mut superuser), ["R__answer, answer, R__answer.sql, changed"]);
    assert_eq!(folder.loaded(&mut superuser), ["R__answer, answer, R__answer.sql, unchanged"]);
    assert_eq!(one::<i32>(&mut superuser, "SELECT applied FROM tenant_migrate($1)", &[&id]), 1);
    assert_eq!(one::<i32>(&mut superuser, "SELECT tenant_acme.answer()", &[]), 42);
    // A repeatable migration sorts last, and does not make version 1 a late one.
    folder.write("V1__notes.sql", "CREATE TABLE notes ()");
    assert_eq!(folder.loaded(&mut superuser).len(), 2);
    folder.remove("R__answer.sql");
    assert_eq!(folder.loaded(&mut superuser), ["1, notes, V1__notes.sql, unchanged"]);
}

fn empty_down_scripts_are_ignored(db: &Db) {
    let downs = "SELECT count(down) FROM tenant_migration_list()";
    let folder = Folder::of(&[("1_a.up.sql", "SELECT 1"), ("1_a.down.sql", "-- to be written; later\n")]);
    folder.loaded(&mut db.superuser());
    assert_eq!(one::<i64>(&mut db.admin(), downs, &[]), 0);
    let folder = Folder::of(&[
        ("1_a.sql", "-- migrate:up\nSELECT 1\n-- migrate:down\n\n"),
        ("2_a.sql", "-- migrate:up\nSELECT 1"),
        ("3_a.sql", "-- migrate:up\n\n-- migrate:down\n"),
    ]);
    folder.loaded(&mut db.superuser());
    assert_eq!(one::<i64>(&mut db.admin(), downs, &[]), 0);
}

fn nontransactional_files(db: &Db) {
    let outside = "SELECT version FROM tenant_migration_list() WHERE NOT transactional";
    let goose = Folder::of(&[
        ("1_a.sql", "-- +goose NO TRANSACTION\n-- +goose Up\nVACUUM\n-- +goose Down\nSELECT 1"),
        ("2_b.sql", "-- +goose Up\nSELECT 1"),
        ("3_c.sql", "-- +goose Up\nVACUUM\n-- +goose NO TRANSACTION"),
    ]);
    goose.loaded(&mut db.superuser());
    assert_eq!(column::<String>(&mut db.admin(), outside, &[]), ["1", "3"]);
    run(&mut db.superuser(), "SELECT tenant_migration_remove(version) FROM tenant_migration_list()");

    let dbmate = Folder::of(&[
        ("1_a.sql", "-- migrate:up transaction:false\nVACUUM\n-- migrate:down transaction:true\nSELECT 1"),
        ("2_b.sql", "-- migrate:up transaction:true\nSELECT 1\n-- migrate:down transaction:false\nVACUUM"),
        ("3_c.sql", "-- migrate:up transaction:true\nSELECT 1"),
    ]);
    dbmate.loaded(&mut db.superuser());
    assert_eq!(column::<String>(&mut db.admin(), outside, &[]), ["1", "2"]);
    run(&mut db.superuser(), "SELECT tenant_migration_remove(version) FROM tenant_migration_list()");

    // Files of tools without such a marker keep the registered value.
    run(&mut db.admin(), "SELECT tenant_migration_add('1', 'a', 'VACUUM', NULL, false)");
    let flyway = Folder::of(&[("V1__a.sql", "VACUUM"), ("V2__b.sql", "SELECT 1")]);
    let loaded = ["1, a, V1__a.sql, unchanged", "2, b, V2__b.sql, added"];
    assert_eq!(flyway.loaded(&mut db.superuser()), loaded);
    assert_eq!(column::<String>(&mut db.admin(), outside, &[]), ["1"]);
}

fn registered_numbers_can_exceed_those_of_the_directory(db: &Db) {
    let folder = Folder::of(&[("5_a.sql", "SELECT 1"), ("6_b.sql", "SELECT 1"), ("7_c.sql", "SELECT 1")]);
    folder.loaded(&mut db.superuser());
    db.new_tenant("acme", new_user());
    folder.remove("7_c.sql");
    assert_eq!(folder.loaded(&mut db.superuser()), ["5, a, 5_a.sql, unchanged", "6, b, 6_b.sql, unchanged"]);
}

fn dates_can_have_gaps(db: &Db) {
    for files in [["20260101_a.sql", "20260301_b.sql"], ["1.1_a.sql", "1.5_b.sql"]] {
        Folder::of(&[(files[0], "SELECT 1"), (files[1], "SELECT 1")]).loaded(&mut db.superuser());
        run(&mut db.superuser(), "SELECT tenant_migration_remove(version) FROM tenant_migration_list()");
    }
}

fn windows_files(db: &Db) {
    let text = format!("\u{feff}{}", GOOSE.replace('\n', "\r\n"));
    let folder = Folder::of(&[
        ("1_notes.sql", &text),
        ("2_old_mac.sql", "-- c\r-- +goose Up\rCREATE TABLE mac ()\r-- +goose Down\rDROP TABLE mac"),
    ]);
    let loaded = ["1, notes, 1_notes.sql, added", "2, old mac, 2_old_mac.sql, added"];
    loads_and_rolls_back(db, &folder, &loaded, &["mac", "notes"], &[]);
}

fn other_files_are_ignored(db: &Db) {
    let folder =
        Folder::of(&[("1_a.sql", "SELECT 1"), ("README.md", "x"), ("2_b.go", "x"), ("sql", "x"), ("3_c.sql~", "x")]);
    for below in ["deeper", "4_d.sql"] {
        fs::create_dir(folder.path().join(below)).unwrap();
    }
    fs::write(folder.path().join("deeper/5_e.sql"), "SELECT 1").unwrap();
    assert_eq!(folder.loaded(&mut db.superuser()), ["1, a, 1_a.sql, added"]);
}

fn relative_paths_begin_at_the_data_directory(db: &Db) {
    let folder = Folder::of(&[("1_a.sql", "SELECT 1")]);
    let mut superuser = db.superuser();
    let depth = db.socket_dir().join("data").components().count() - 1;
    let relative = format!("{}{}", "../".repeat(depth), folder.name().trim_start_matches('/'));
    assert_eq!(superuser.query(LOAD, &[&relative]).unwrap().len(), 1);
    expect_refusal(superuser.query(LOAD, &[&"base"]), "invalid_argument").message("no .sql file in directory \"base\"");
}

fn many_files(db: &Db) {
    let folder = Folder::of(&[]);
    for number in 1..=500 {
        folder.write(&format!("{number:04}_t.sql"), format!("CREATE TABLE t{number} ()"));
    }
    assert_eq!(folder.loaded(&mut db.superuser()).len(), 500);
    assert!(folder.loaded(&mut db.superuser()).iter().all(|line| line.ends_with("unchanged")));
}

fn a_rollback_undoes_the_load(db: &Db) {
    let folder = Folder::of(&[("1_a.sql", "SELECT 1"), ("2_b.sql", "SELECT 1")]);
    let mut superuser = db.superuser();
    let mut transaction = superuser.transaction().unwrap();
    assert_eq!(transaction.query(LOAD, &[&folder.name()]).unwrap().len(), 2);
    transaction.rollback().unwrap();
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM tenant_migration_list()", &[]), 0);
}

fn instance_admins_need_pg_read_server_files(db: &Db) {
    let folder = Folder::of(&[("1_a.sql", "SELECT 1")]);
    let role = format!("loader_{}", new_user().simple());
    let mut superuser = db.superuser();
    run(&mut superuser, &format!("CREATE ROLE {role} LOGIN IN ROLE fluxbase_tenant_admin"));
    let mut loader = db.connect_as(&role, "");
    // The check of the role comes first, and says nothing about the directory.
    for directory in [folder.name(), "/no/such/directory".into()] {
        expect_refusal(loader.query(LOAD, &[&directory]), "forbidden")
            .message("permission denied to load migration files from the server")
            .hint_has("grant pg_read_server_files");
    }
    run(&mut superuser, &format!("GRANT pg_read_server_files TO {role}"));
    assert_eq!(folder.loaded(&mut loader), ["1, a, 1_a.sql, added"]);

    // pg_read_server_files does not make a role an instance admin.
    run(&mut superuser, &format!("REVOKE fluxbase_tenant_admin FROM {role}; GRANT fluxbase_tenant_server TO {role}"));
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let load = |client: &mut postgres::Client| folder.load(client);
    expect_refusal(load(&mut db.connect_as(&role, "")), "unauthenticated");
    let mut member = db.connect_as(&role, &format!("-c fluxbase_tenant.user_id={user}"));
    expect_refusal(load(&mut member), "forbidden").hint_has("instance admin");
    let mut service = db.connect_as(&role, &format!("-c fluxbase_tenant.tenant_id={id}"));
    expect_refusal(load(&mut service), "forbidden").hint_has("instance admin");
    run(&mut superuser, &format!("SELECT tenant_grant_instance_admin('{user}')"));
    assert_eq!(folder.loaded(&mut member), ["1, a, 1_a.sql, unchanged"]);
    expect_refusal(load(&mut db.as_user(user)), "forbidden").hint_has("pg_read_server_files");
    drop((loader, member, service));
    run(&mut superuser, &format!("DROP ROLE {role}"));
}
