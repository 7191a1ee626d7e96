//! Migrating a tenant never runs the down section of a text with the markers of goose or dbmate.

use crate::cases;
use crate::support::people::{new_user, one, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    goose_text_is_split,
    dbmate_text_is_split,
    an_argument_overrides_the_marker,
    down_argument_with_markers_is_refused,
    misplaced_markers_are_refused,
    unknown_markers_are_refused,
    indented_markers_are_refused,
    markers_in_strings_and_comments_register_nothing,
    text_that_resembles_a_marker,
    repeatable_migrations_have_no_down_script,
];

const ADD: &str = "SELECT up, down, transactional FROM tenant_migration_add($1, 'n', $2, $3, $4)";

#[track_caller]
fn added(db: &Db, version: &str, text: &str, transactional: Option<bool>) -> (String, Option<String>, bool) {
    let row = db.admin().query_one(ADD, &[&version, &text, &None::<&str>, &transactional]).unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[track_caller]
fn refused(db: &Db, text: &str) -> crate::support::Refusal {
    let result = db.admin().query(ADD, &[&"1", &text, &None::<&str>, &None::<bool>]);
    let refusal = expect_refusal(result, "invalid_argument");
    assert_eq!(one::<i64>(&mut db.admin(), "SELECT count(*) FROM tenant_migration_list()", &[]), 0);
    refusal
}

fn goose_text_is_split(db: &Db) {
    let text = "-- a head;\n-- +goose Up\nCREATE TABLE notes ();\n\n-- +goose Down\nDROP TABLE notes;\n";
    let both = ("CREATE TABLE notes ();".to_string(), Some("DROP TABLE notes;".to_string()), true);
    assert_eq!(added(db, "1", text, None), both);
    assert_eq!(added(db, "1", &text.replace('\n', "\r\n"), None), both, "the same migration again");
    let again = db.admin().query_one(ADD, &[&"1", &both.0, &both.1, &None::<bool>]).unwrap();
    assert_eq!(again.get::<_, String>(0), both.0, "the same migration without markers");
    let id = db.new_tenant("acme", new_user());
    run(&mut db.superuser(), "SELECT * FROM tenant_acme.notes");
    run(&mut db.admin(), &format!("SELECT tenant_rollback('{id}', '0')"));
    expect_error(db.superuser().query("SELECT * FROM tenant_acme.notes", &[]), "42P01");
}

fn dbmate_text_is_split(db: &Db) {
    let text = "-- migrate:up\nCREATE TABLE notes ()\n-- migrate:down\nDROP TABLE notes";
    assert_eq!(added(db, "1", text, None), ("CREATE TABLE notes ()".into(), Some("DROP TABLE notes".into()), true));
    assert_eq!(added(db, "2", "--  migrate:up  transaction:false \nVACUUM\n", None), ("VACUUM".into(), None, false));
    assert_eq!(added(db, "3", "-- migrate:up\n-- migrate:down\n", None), (String::new(), None, true));
}

fn an_argument_overrides_the_marker(db: &Db) {
    let text = "-- +goose NO TRANSACTION\n-- +goose Up\nSELECT 1";
    assert!(!added(db, "1", text, None).2);
    assert!(added(db, "2", text, Some(true)).2);
    assert!(!added(db, "3", "-- +goose Up\nSELECT 1", Some(false)).2);
    assert!(added(db, "4", "SELECT 1", None).2);
}

fn down_argument_with_markers_is_refused(db: &Db) {
    let marked = "-- +goose Up\nSELECT 1\n-- +goose Down\nSELECT 2";
    for (up, down, words) in [
        (marked, "SELECT 2", "up has markers of goose, but down is passed too"),
        ("-- migrate:up\nSELECT 1", "", "up has markers of dbmate, but down is passed too"),
        ("SELECT 1", marked, "down has markers of goose"),
    ] {
        let result = db.admin().query(ADD, &[&"1", &up, &down, &None::<bool>]);
        expect_refusal(result, "invalid_argument").message(words);
    }
}

fn misplaced_markers_are_refused(db: &Db) {
    for text in [
        "-- +goose Down\nSELECT 1",
        "-- +goose Down\nSELECT 1\n-- +goose Up\nSELECT 1",
        "-- +goose Up\n-- +goose Up",
        "-- +goose Up\n-- +goose Down\n-- +goose Down",
        "-- +goose Up\n-- +goose Down\n-- +goose Up",
        "-- +goose StatementBegin\nSELECT 1;\n-- +goose StatementEnd",
        "-- +goose NO TRANSACTION\nSELECT 1",
    ] {
        refused(db, text).message_has("one up marker of goose").hint_has("-- +goose Up");
        if !text.contains("Statement") && !text.contains("NO") {
            let text = text.replace("+goose Up", "migrate:up").replace("+goose Down", "migrate:down");
            refused(db, &text).message_has("one up marker of dbmate").hint_has("-- migrate:up");
        }
    }
    refused(db, "-- +goose Up\n-- migrate:down").message("markers of goose and of dbmate in one migration");
    refused(db, "CREATE TABLE a ();\n-- +goose Up\nSELECT 1").message("statements before \"-- +goose Up\"");
    refused(db, "/* a */ SELECT 1;\n-- migrate:up\nSELECT 1").message("statements before \"-- migrate:up\"");
    // Comments before the marker are not statements.
    added(db, "1", "/* License;\n   and so on */\n\n-- migrate:up\nSELECT 1", None);
}

fn unknown_markers_are_refused(db: &Db) {
    for marker in ["-- +goose", "-- +goose Sideways", "-- +goose Up SQL", "-- +goose NOTRANSACTION", "--+goose Down;"] {
        refused(db, &format!("-- +goose Up\nSELECT 1;\n{marker}\nSELECT 2"))
            .message(&format!("unknown annotation of goose: \"{marker}\""))
            .hint_has("StatementBegin");
    }
    for marker in ["-- migrate:down transaction: false", "-- migrate:down really", "-- migrate:down transaction:no"] {
        refused(db, &format!("-- migrate:up\nSELECT 1;\n{marker}\nSELECT 2"))
            .message(&format!("unknown option in \"{marker}\""))
            .hint_has("transaction:false");
    }
    refused(db, "-- +goose ENVSUB ON\n-- +goose Up\nSELECT 1").message_has("ENVSUB ON").hint_has("values");
    added(db, "1", "-- +goose ENVSUB OFF\n-- +goose Up\nSELECT 1", None);
}

fn indented_markers_are_refused(db: &Db) {
    for text in ["-- +goose Up\nSELECT 1;\n  -- +goose Down\nSELECT 2", "\t-- migrate:up\nSELECT 1", " -- +goose Up"] {
        refused(db, text).message_has("is not at the start of its line").hint_has("white space");
    }
}

fn markers_in_strings_and_comments_register_nothing(db: &Db) {
    for text in [
        "-- +goose Up\nINSERT INTO notes VALUES ('\n-- +goose Down\n');",
        "DO $$ BEGIN\n-- +goose Up\nEND $$",
        "/*\n-- migrate:up\n*/ SELECT 1",
        "-- migrate:up\nSELECT $a$\n-- migrate:down\n$a$",
    ] {
        expect_error(db.admin().query(ADD, &[&"1", &text, &None::<&str>, &None::<bool>]), "42601");
    }
}

fn text_that_resembles_a_marker(db: &Db) {
    for (number, text) in [
        "-- migrate: moves the users\nSELECT 1",
        "-- migrate:update\nSELECT 1",
        "SELECT 1 -- +goose Down\n",
        "SELECT '-- migrate:down'",
        "-- the goose flies +goose Down\nSELECT 1",
        "/* -- +goose Up */ SELECT 1",
    ]
    .iter()
    .enumerate()
    {
        assert_eq!(added(db, &number.to_string(), text, None), (text.to_string(), None, true));
    }
}

fn repeatable_migrations_have_no_down_script(db: &Db) {
    let result = db
        .admin()
        .query(ADD, &[&"R__x", &"-- +goose Up\nSELECT 1\n-- +goose Down\nSELECT 2", &None::<&str>, &None::<bool>]);
    expect_refusal(result, "invalid_argument").message("a repeatable migration cannot have a down script");
    added(db, "R__x", "-- migrate:up\nSELECT 1\n-- migrate:down\n", None);
}
