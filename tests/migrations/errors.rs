//! The error of a failed migration keeps everything that the failing statement reported, and names the statement.

use postgres::error::DbError;

use crate::cases;
use crate::support::people::{new_user, one, run};
use crate::support::{Db, expect_error};

cases![
    sqlstate_is_that_of_the_statement,
    context_names_version_and_statement,
    raised_fields_are_kept,
    constraint_and_table_are_kept,
    context_of_functions_and_do_blocks_is_kept,
    position_is_kept,
    failure_in_tenant_create_is_reported_alike,
    warnings_and_notices_are_passed_on,
];

#[track_caller]
fn failure(db: &Db, script: &str) -> DbError {
    let id: uuid::Uuid = match db.admin().query_opt("SELECT id FROM tenant_list() WHERE slug = 'acme'", &[]).unwrap() {
        Some(row) => row.get(0),
        None => db.new_tenant("acme", new_user()),
    };
    let mut admin = db.admin();
    run(&mut admin, "BEGIN");
    one::<String>(&mut admin, "SELECT version FROM tenant_migration_add('7', 'the change', $1)", &[&script]);
    let error = admin.query("SELECT * FROM tenant_migrate($1)", &[&id]).expect_err("the migration fails");
    run(&mut admin, "ROLLBACK");
    error.as_db_error().expect("an error of the server").clone()
}

fn sqlstate_is_that_of_the_statement(db: &Db) {
    for (script, sqlstate) in [
        ("SELECT 1 / 0", "22012"),
        ("SELECT * FROM nowhere", "42P01"),
        ("CREATE TABLE t (); CREATE TABLE t ()", "42P07"),
        ("SELECT 'x'::int", "22P02"),
        ("SELECT nothing()", "42883"),
        ("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (1)", "23505"),
        ("CREATE TABLE t (id int NOT NULL); INSERT INTO t VALUES (NULL)", "23502"),
        ("DO $$ BEGIN RAISE 'no code'; END $$", "P0001"),
        ("DO $$ BEGIN RAISE SQLSTATE 'XY123'; END $$", "XY123"),
        ("DO $$ BEGIN RAISE SQLSTATE '00001'; END $$", "00001"),
        ("DO $$ BEGIN ASSERT false; END $$", "P0004"),
        ("CREATE INDEX CONCURRENTLY ON pg_class (oid)", "25001"),
        ("VACUUM", "25001"),
        ("DO $$ BEGIN EXECUTE 'COPY pg_class TO STDOUT'; END $$", "0A000"),
        ("DO $$ BEGIN COMMIT; END $$", "2D000"),
    ] {
        let error = failure(db, script);
        assert_eq!(error.code().code(), sqlstate, "{script}: {error:?}");
        let place = error.where_().unwrap_or_default();
        assert!(place.contains("migration version \"7\" (the change), statement "), "{script}: {place}");
    }
}

fn context_names_version_and_statement(db: &Db) {
    for (script, place) in [
        ("SELECT 1 / 0", "statement 1 of 1"),
        ("SELECT 1; SELECT 2; SELECT 1 / 0; SELECT 3", "statement 3 of 4"),
        ("BEGIN; SELECT 1; SELECT 1 / 0; COMMIT", "statement 2 of 2"),
        ("-- first; not a statement\nSELECT ';'; /* ; */ SELECT 1 / 0;;", "statement 2 of 2"),
    ] {
        let error = failure(db, script);
        let context = error.where_().unwrap_or_default();
        assert!(context.contains(&format!("migration version \"7\" (the change), {place}")), "{script}: {context}");
        assert_eq!(context.matches("migration version").count(), 1, "{context}");
    }
}

fn raised_fields_are_kept(db: &Db) {
    let error = failure(
        db,
        "SELECT 1;
         DO $$ BEGIN RAISE 'plain % words', 'in' USING ERRCODE = 'XY123', DETAIL = 'the detail', HINT = 'the hint',
         CONSTRAINT = 'a_constraint', TABLE = 'a_table', SCHEMA = 'a_schema', COLUMN = 'a_column',
         DATATYPE = 'a_type'; END $$",
    );
    assert_eq!((error.code().code(), error.message()), ("XY123", "plain in words"));
    assert_eq!((error.detail(), error.hint()), (Some("the detail"), Some("the hint")));
    assert_eq!((error.constraint(), error.table()), (Some("a_constraint"), Some("a_table")));
    assert_eq!(
        (error.schema(), error.column(), error.datatype()),
        (Some("a_schema"), Some("a_column"), Some("a_type"))
    );
    assert!(error.where_().unwrap_or_default().contains("statement 2 of 2"));
    assert_eq!(error.severity(), "ERROR");
}

fn constraint_and_table_are_kept(db: &Db) {
    let error = failure(
        db,
        "CREATE TABLE parents (id int PRIMARY KEY);
         CREATE TABLE children (parent int CONSTRAINT has_parent REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO children VALUES (1)",
    );
    assert_eq!(error.code().code(), "23503");
    assert_eq!((error.constraint(), error.table()), (Some("has_parent"), Some("children")));
    assert_eq!(error.schema(), Some("tenant_acme"));
    assert!(error.detail().unwrap_or_default().ends_with("is not present in table \"parents\"."), "{error:?}");

    let error = failure(db, "CREATE TABLE t (n int CONSTRAINT positive CHECK (n > 0)); INSERT INTO t VALUES (0)");
    assert_eq!((error.code().code(), error.constraint(), error.table()), ("23514", Some("positive"), Some("t")));
}

fn context_of_functions_and_do_blocks_is_kept(db: &Db) {
    let error = failure(
        db,
        "CREATE FUNCTION inner_one() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1 / 0; END $$;
         SELECT inner_one()",
    );
    let context = error.where_().unwrap_or_default();
    assert!(context.contains("PL/pgSQL function inner_one()"), "{context}");
    let inner = context.find("inner_one()").unwrap_or(usize::MAX);
    assert!(inner < context.find("migration version").unwrap_or(0), "the innermost context comes first: {context}");
}

fn position_is_kept(db: &Db) {
    let error = failure(db, "SELECT 1;\nSELECT missing_column FROM pg_class");
    assert_eq!(error.code().code(), "42703");
    let Some(postgres::error::ErrorPosition::Internal { position, query }) = error.position() else {
        panic!("{error:?}")
    };
    assert!(query[(*position as usize - 1)..].starts_with("missing_column"), "{position} of {query}");
    assert!(error.message().contains("missing_column"));
}

fn failure_in_tenant_create_is_reported_alike(db: &Db) {
    db.add_migration("1", "SELECT 1");
    db.add_migration("2", "SELECT 1; DO $$ BEGIN RAISE 'stop' USING ERRCODE = 'XY123', HINT = 'the hint'; END $$");
    expect_error(db.admin().query("SELECT * FROM tenant_create('acme', 'Acme')", &[]), "XY123")
        .message("stop")
        .hint_has("the hint")
        .context_has("migration version \"2\" (change 2), statement 2 of 2");
}

fn warnings_and_notices_are_passed_on(db: &Db) {
    db.add_migration(
        "1",
        "DROP TABLE IF EXISTS nothing; DO $$ BEGIN RAISE WARNING 'watch out'; RAISE NOTICE 'by the way'; END $$",
    );
    let out = db.psql("app_admin", &[], "SELECT slug FROM tenant_create('acme', 'Acme');");
    let stderr = String::from_utf8_lossy(&out.stderr);
    for text in ["watch out", "by the way", "table \"nothing\" does not exist, skipping"] {
        assert!(stderr.contains(text), "{stderr}");
    }
    assert!(!stderr.contains("ERROR"), "{stderr}");
}
