//! Properties of the code that parses migrations: versions and their order, markers, and statements.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::cases;
use crate::support::people::new_user;
use crate::support::properties::of_all;
use crate::support::{Db, expect_error, expect_refusal};

cases![
    versions_sort_by_their_numbers,
    versions_that_are_the_same_number_conflict,
    markers_split_a_text,
    a_script_is_split_into_its_statements,
];

const ADD: &str = "SELECT up, down, transactional FROM tenant_migration_add($1, 'n', $2)";

/// Splits a version such as 1.02 into the digits of its parts without leading zeros. A longer run of digits is the
/// greater number.
fn parts(version: &str) -> Vec<(usize, String)> {
    let part = |text: &str| text.trim_start_matches('0').to_string();
    version.split('.').map(part).map(|digits| (digits.len(), digits)).collect()
}

fn versions() -> impl Strategy<Value = Vec<String>> {
    let number = prop_oneof!["0{0,3}[0-9]{1,3}", "[0-9]{1,40}"];
    vec(vec(number, 1..4).prop_map(|parts| parts.join(".")), 2..12)
}

fn versions_sort_by_their_numbers(db: &Db) {
    let mut admin = db.admin();
    of_all(versions(), 60, |mut versions| {
        versions.retain(|version| version.len() <= 100);
        versions.sort_by_key(|version| parts(version));
        versions.dedup_by_key(|version| parts(version));
        let mut transaction = admin.transaction().expect("a transaction");
        for version in versions.iter().rev() {
            transaction.query_one(ADD, &[version, &"SELECT 1"]).expect("a version");
        }
        let rows = transaction.query("SELECT version FROM tenant_migration_list()", &[]).expect("the list");
        assert_eq!(rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>(), versions);
    });
}

fn versions_that_are_the_same_number_conflict(db: &Db) {
    let mut admin = db.admin();
    of_all(("[1-9][0-9]{0,20}", "0{1,5}"), 40, |(number, zeros)| {
        let mut transaction = admin.transaction().expect("a transaction");
        transaction.query_one(ADD, &[&number, &"SELECT 1"]).expect("a version");
        expect_refusal(transaction.query_one(ADD, &[&format!("{zeros}{number}"), &"SELECT 1"]), "conflict");
    });
}

/// Generates lines with whole statements or comments, none of which contains a marker.
fn bodies() -> impl Strategy<Value = Vec<String>> {
    vec(prop_oneof!["SELECT '[a-z;]{0,8}';", "-- [a-z; ]{0,8}", "SELECT [0-9]{1,4} AS \"[a-z;-]{1,6}\";", ""], 0..5)
}

fn markers_split_a_text(db: &Db) {
    let mut admin = db.admin();
    let texts = (bodies(), bodies(), any::<bool>(), any::<bool>(), prop_oneof![Just("\n"), Just("\r\n")]);
    of_all(texts, 150, |(up, down, is_goose, is_plain, newline)| {
        let mut lines = Vec::new();
        match (is_goose, is_plain) {
            (true, true) => lines.extend(["-- +goose NO TRANSACTION", "-- +goose Up"]),
            (true, false) => lines.push("-- +goose Up"),
            (false, true) => lines.push("-- migrate:up transaction:false"),
            (false, false) => lines.push("-- migrate:up"),
        }
        lines.extend(up.iter().map(String::as_str));
        lines.push(if is_goose { "-- +goose Down" } else { "-- migrate:down" });
        lines.extend(down.iter().map(String::as_str));
        let mut transaction = admin.transaction().expect("a transaction");
        let row = transaction.query_one(ADD, &[&"1", &lines.join(newline)]).expect("a migration");
        assert_eq!(row.get::<_, String>(0), up.join(newline).trim());
        // A down section without a statement, as in the tools' templates, is no down script.
        let has_statements = down.iter().any(|line| line.starts_with("SELECT"));
        assert_eq!(row.get::<_, Option<String>>(1), has_statements.then(|| down.join(newline).trim().to_string()));
        assert_eq!(row.get::<_, bool>(2), !is_plain);
    });
}

/// Generates statements that contain semicolons which do not end a statement.
fn statements() -> impl Strategy<Value = String> {
    prop_oneof![
        "SELECT '[a-z;$-]{0,8}'",
        "SELECT \\$[a-z]{1,3}\\$[a-z;' -]{0,8}\\$".prop_map(|text| {
            let tag = text.split('$').nth(1).unwrap_or_default().to_string();
            format!("{text}{tag}$")
        }),
        "SELECT \\$\\$[a-z;' -]{0,8}\\$\\$",
        "/\\* [a-z;' ]{0,8} \\*/ SELECT 1",
        "SELECT 1 -- [a-z;' ]{0,8}\n",
        "SELECT 1 AS \"[a-z;']{1,8}\"",
        "SELECT E'[a-z;]{0,4}\\\\\\\\'[a-z]{0,4}'".prop_map(|_| r"SELECT E'a\';b'".to_string()),
        Just("CREATE TABLE IF NOT EXISTS t (a int DEFAULT (1), b text)".to_string()),
        Just(
            "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END".to_string()
        ),
    ]
}

/// The context of the failing statement shows how the script was split.
fn a_script_is_split_into_its_statements(db: &Db) {
    let tenant = db.new_tenant("acme", new_user());
    let mut admin = db.admin();
    let scripts = (vec(statements(), 0..6), vec(statements(), 0..6), any::<bool>());
    of_all(scripts, 120, |(before, after, has_last)| {
        let place = before.len() + 1;
        let all = place + after.len();
        let mut script = [before, vec!["SELECT 1/0".into()], after].concat().join(";\n");
        if has_last {
            script.push(';');
        }
        let mut transaction = admin.transaction().expect("a transaction");
        transaction.query_one(ADD, &[&"1", &script]).expect("a script that parses");
        let failed = transaction.query("SELECT * FROM tenant_migrate($1)", &[&tenant]);
        expect_error(failed, "22012").context_has(&format!("statement {place} of {all}"));
    });
}
