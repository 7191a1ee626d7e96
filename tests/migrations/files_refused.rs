//! An error in a directory of migration files names the file, and none of the files is registered.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::cases;
use crate::support::files::{Folder, LOAD};
use crate::support::people::{new_user, one, run};
use crate::support::{Db, Refusal, expect_error, expect_refusal};

cases![
    invalid_directories,
    unreadable_files,
    invalid_file_names,
    mixed_formats,
    two_files_of_one_version,
    down_without_up,
    changed_files,
    missing_numbers,
    registered_without_a_file,
    late_versions,
    scripts_that_do_not_parse,
    one_bad_file_prevents_all_registrations,
];

const ONE: &str = "SELECT 1";

#[track_caller]
fn refused(db: &Db, files: &[(&str, &str)], code: &str) -> Refusal {
    let folder = Folder::of(files);
    let registered = "SELECT count(*) FROM tenant_migration_list()";
    let before: i64 = one(&mut db.admin(), registered, &[]);
    let refusal = expect_refusal(folder.load(&mut db.superuser()), code);
    assert_eq!(one::<i64>(&mut db.admin(), registered, &[]), before);
    refusal
}

fn invalid_directories(db: &Db) {
    let mut superuser = db.superuser();
    for (directory, reason) in [
        ("/no/such/directory", "No such file or directory"),
        ("", "No such file or directory"),
        ("PG_VERSION", "Not a directory"),
    ] {
        expect_refusal(superuser.query(LOAD, &[&directory]), "invalid_argument")
            .message(&format!("cannot read directory \"{directory}\": {reason}"))
            .hint_has("data directory");
    }
    let null = superuser.query("SELECT * FROM tenant_migrations_load(NULL)", &[]);
    expect_refusal(null, "invalid_argument").message("directory must not be null");
    let empty = Folder::of(&[("README.md", "")]);
    expect_refusal(empty.load(&mut superuser), "invalid_argument")
        .message(&format!("no .sql file in directory \"{}\"", empty.name()))
        .hint_has("Subdirectories");
    fs::set_permissions(empty.path(), fs::Permissions::from_mode(0o000)).unwrap();
    expect_refusal(empty.load(&mut superuser), "invalid_argument").message_has("Permission denied");
    fs::set_permissions(empty.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

fn unreadable_files(db: &Db) {
    let mut superuser = db.superuser();
    let mut refuse = |folder: &Folder, words: &str| {
        expect_refusal(folder.load(&mut superuser), "invalid_argument").message(words);
    };
    let folder = Folder::of(&[("1_a.sql", ONE)]);
    folder.write("2_b.sql", b"SELECT '\xe9'");
    refuse(&folder, "file \"2_b.sql\" is not UTF-8");
    folder.write("2_b.sql", b"SELECT 1;\0");
    refuse(&folder, "file \"2_b.sql\" contains a zero byte");
    folder.write("2_b.sql", "\u{feff}SELECT 1".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    refuse(&folder, "file \"2_b.sql\" is not UTF-8");
    fs::File::create(folder.path().join("2_b.sql")).unwrap().set_len(100 * 1024 * 1024 + 1).unwrap();
    refuse(&folder, "file \"2_b.sql\" is larger than 100 MB");
    folder.remove("2_b.sql");
    folder.write("2_b.sql", ONE);
    fs::set_permissions(folder.path().join("2_b.sql"), fs::Permissions::from_mode(0o000)).unwrap();
    refuse(&folder, "file \"2_b.sql\" cannot be read: Permission denied");
    folder.remove("2_b.sql");
    std::os::unix::fs::symlink("nowhere", folder.path().join("2_b.sql")).unwrap();
    refuse(&folder, "file \"2_b.sql\" cannot be read: No such file or directory");
    folder.remove("2_b.sql");
    // A FIFO without a writer must not block the load.
    assert!(Command::new("mkfifo").arg(folder.path().join("2_b.sql")).status().unwrap().success());
    refuse(&folder, "file \"2_b.sql\" is not a regular file");
}

fn invalid_file_names(db: &Db) {
    for name in [
        "schema.sql",
        "a_1.sql",
        "1a.sql",
        "1._a.sql",
        ".1_a.sql",
        "1..2_a.sql",
        "_1.sql",
        "a.up.sql",
        "V1.sql",
        "V__a.sql",
        "V1a__a.sql",
        "V1_a.sql",
        "v1__a.sql",
        "B1__a.sql",
        "R__.sql",
        "R_a.sql",
        "R1__a.sql",
        "afterMigrate.sql",
        "2026_01_31_a.sql",
        "2026-01-31.sql",
        "é.sql",
    ] {
        refused(db, &[("1_a.sql", ONE), (name, ONE)], "invalid_argument")
            .message(&format!("file \"{name}\" is not named like a migration"));
    }
    let long = format!("{}_a.sql", "1".repeat(101));
    refused(db, &[(&long, ONE)], "invalid_argument").message(&format!("file \"{long}\": invalid migration version"));
}

fn mixed_formats(db: &Db) {
    let goose = "-- +goose Up\nSELECT 1";
    let dbmate = "-- migrate:up\nSELECT 1";
    for (first, second, words) in [
        (("1_a.sql", goose), ("2_b.sql", ONE), "of goose (\"1_a.sql\") and of plain SQL (\"2_b.sql\")"),
        (("1_a.sql", goose), ("2_b.sql", dbmate), "of goose (\"1_a.sql\") and of dbmate (\"2_b.sql\")"),
        (("1_a.sql", ONE), ("2_b.up.sql", ONE), "of plain SQL (\"1_a.sql\") and of golang-migrate (\"2_b.up.sql\")"),
        (("1_a.sql", ONE), ("V2__b.sql", ONE), "of plain SQL (\"1_a.sql\") and of Flyway (\"V2__b.sql\")"),
        (("1_a.up.sql", ONE), ("R__b.sql", ONE), "of golang-migrate (\"1_a.up.sql\") and of Flyway (\"R__b.sql\")"),
    ] {
        refused(db, &[first, second], "invalid_argument")
            .message(&format!("files {words} in one directory"))
            .hint_has("one tool");
    }
    for name in ["1_a.up.sql", "V1__a.sql", "R__a.sql"] {
        refused(db, &[(name, goose)], "invalid_argument")
            .message_has(&format!("file \"{name}\": has markers of goose"));
    }
}

fn two_files_of_one_version(db: &Db) {
    for (first, second) in [
        ("1_a.sql", "1_b.sql"),
        ("001_a.sql", "1_b.sql"),
        ("1.02_a.sql", "1.2_b.sql"),
        ("1_a.up.sql", "1_b.up.sql"),
        ("V1.2__b.sql", "V1_2__a.sql"),
    ] {
        refused(db, &[(first, ONE), (second, ONE)], "invalid_argument")
            .message(&format!("files \"{first}\" and \"{second}\" have the same version"))
            .hint_has("another version");
    }
    refused(db, &[("1_a.down.sql", ONE), ("1_a.up.sql", ONE), ("1_b.down.sql", ONE)], "invalid_argument")
        .message("files \"1_a.down.sql\" and \"1_b.down.sql\" have the same version");
    // The same version, registered in another notation.
    db.add_migration("007", ONE);
    refused(db, &[("7_a.sql", ONE)], "conflict")
        .message("file \"7_a.sql\": migration version \"7\" is the same number as \"007\"");
}

fn down_without_up(db: &Db) {
    refused(db, &[("1_a.up.sql", ONE), ("2_b.down.sql", ONE)], "invalid_argument")
        .message("file \"2_b.down.sql\" reverts version \"2\", which has no up script")
        .hint_has(".up.sql");
    refused(db, &[("V1__a.sql", ONE), ("U1.1__b.sql", ONE)], "invalid_argument")
        .message("file \"U1.1__b.sql\" reverts version \"1.1\", which has no up script")
        .hint_has("with V");
}

fn changed_files(db: &Db) {
    let folder = Folder::of(&[("1_a.up.sql", ONE), ("2_b.up.sql", ONE), ("2_b.down.sql", ONE)]);
    let mut superuser = db.superuser();
    folder.loaded(&mut superuser);
    for file in ["2_b.up.sql", "2_b.down.sql"] {
        folder.write(file, "SELECT 2");
        expect_refusal(folder.load(&mut superuser), "conflict")
            .message("file \"2_b.up.sql\": migration version \"2\" is registered with another text")
            .hint_has("new version");
        folder.write(file, ONE);
    }
    folder.remove("2_b.down.sql");
    expect_refusal(folder.load(&mut superuser), "conflict").message_has("registered with another text");
}

fn missing_numbers(db: &Db) {
    for (numbers, missing) in [
        (&[1, 3][..], "2"),
        (&[1, 2, 6, 8], "3 to 5, 7"),
        (&[0, 2, 4, 6, 8, 10, 12, 999_999], "1, 3, 5, 7, 9 and more"),
    ] {
        let names: Vec<String> = numbers.iter().map(|number| format!("{number:04}_a.sql")).collect();
        let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), ONE)).collect();
        refused(db, &files, "invalid_argument")
            .message(&format!("there is no migration with version {missing}"))
            .hint_has("an empty file");
    }
    // Registered versions count too.
    db.add_migration("7", ONE);
    refused(db, &[("4_a.sql", ONE)], "invalid_argument").message("there is no migration with version 5 to 6");
    refused(db, &[("9_a.sql", ONE)], "invalid_argument").message("there is no migration with version 8");
    Folder::of(&[("4.sql", ONE), ("5.sql", ONE), ("6.sql", ONE)]).loaded(&mut db.superuser());
}

fn registered_without_a_file(db: &Db) {
    for version in ["1", "2", "20260101", "R__x", "text"] {
        db.add_migration(version, ONE);
    }
    refused(db, &[("1_a.sql", ONE), ("3_a.sql", ONE)], "conflict")
        .message("migration version \"2\" (change 2) is registered and has no file")
        .hint_has("tenant_migration_remove()");
    Folder::of(&[("1_a.sql", ONE), ("2_a.sql", ONE), ("3_a.sql", ONE)]).loaded(&mut db.superuser());
    refused(db, &[("1_a.sql", ONE), ("2_a.sql", ONE), ("3_a.sql", ONE), ("20260201_b.sql", ONE)], "conflict")
        .message_has("\"20260101\" (change 20260101) is registered and has no file");
}

fn late_versions(db: &Db) {
    let old = [("20260101_a.sql", ONE), ("20260301_c.sql", ONE)];
    let late = [old[0], ("20260201_b.sql", "CREATE TABLE late ()"), old[1], ("20260401_d.sql", ONE)];
    Folder::of(&old).loaded(&mut db.superuser());
    // No tenant has applied the later version, so the late one is accepted.
    let folder = Folder::of(&late);
    let mut superuser = db.superuser();
    let mut transaction = superuser.transaction().unwrap();
    assert_eq!(transaction.query(LOAD, &[&folder.name()]).unwrap().len(), 4);
    transaction.rollback().unwrap();

    let tenants = [db.new_tenant("a", new_user()), db.new_tenant("b", new_user())];
    let words = "file \"20260201_b.sql\": version \"20260201\" is new and comes before \"20260301\", which";
    refused(db, &late, "conflict")
        .message(&format!("{words} 2 tenants have applied"))
        .hint_has("tenant_migration_add()");
    run(&mut db.admin(), &format!("SELECT tenant_delete('{}')", tenants[1]));
    refused(db, &late, "conflict").message(&format!("{words} 1 tenant has applied"));

    db.add_migration("20260201", "CREATE TABLE late ()");
    let statuses: Vec<String> = folder.loaded(&mut superuser);
    assert!(statuses[1].ends_with("unchanged") && statuses[3].ends_with("added"), "{statuses:?}");
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", tenants[0]));
    run(&mut superuser, "SELECT * FROM tenant_a.late");
}

fn scripts_that_do_not_parse(db: &Db) {
    let mut superuser = db.superuser();
    for (files, line) in [
        ([("1_a.up.sql", "SELECT 1;\r\n\r\nCREATE TABEL x ()"), ("1_a.down.sql", ONE)], "line 3 of the script"),
        ([("1_a.up.sql", ONE), ("1_a.down.sql", "SELECT 'é';\nDORP")], "line 2 of the script"),
    ] {
        let error =
            expect_error(Folder::of(&files).load(&mut superuser), "42601").context_has(line).context_has("1_a.");
        assert!(error.error().position().is_none(), "the position is not in the client's statement");
    }
    refused(db, &[("1_a.sql", "SELECT 1; COMMIT")], "invalid_argument")
        .message("file \"1_a.sql\": a migration must not contain transaction control");
    refused(db, &[("1_a.sql", "-- +goose Up\n-- +goose ENVSUB ON\nSELECT '${HOME}'")], "invalid_argument")
        .message_has("file \"1_a.sql\": \"-- +goose ENVSUB ON\" is not supported");
    refused(db, &[("1_a.sql", "-- +goose Up\n-- +goose Up\n")], "invalid_argument").message_has("file \"1_a.sql\": ");
}

fn one_bad_file_prevents_all_registrations(db: &Db) {
    let mut superuser = db.superuser();
    let folder = Folder::of(&[("1_a.sql", ONE), ("2_b.sql", ONE), ("3_c.sql", "SELEC 1")]);
    expect_error(folder.load(&mut superuser), "42601").context_has("file \"3_c.sql\"");
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM tenant_migration_list()", &[]), 0);
    // What the transaction did before the savepoint is kept.
    run(&mut superuser, "BEGIN; SELECT tenant_migration_add('1', 'a', 'SELECT 1'); SAVEPOINT before");
    expect_error(folder.load(&mut superuser), "42601");
    run(&mut superuser, "ROLLBACK TO before; COMMIT");
    assert_eq!(one::<i64>(&mut superuser, "SELECT count(*) FROM tenant_migration_list()", &[]), 1);
}
