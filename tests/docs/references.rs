//! Every function, setting and role is documented, and the documentation names only existing functions.

use std::collections::BTreeSet;

use crate::cases;
use crate::support::{Db, paths};

cases![
    every_function_has_a_comment,
    the_reference_shows_every_function_with_its_arguments,
    the_docs_name_only_existing_functions,
    the_reference_names_every_setting,
    the_reference_names_every_role,
];

const FUNCTIONS: &str = "
    SELECT p.proname::text AS name, p.oid::regprocedure::text AS signature, n.nspname = 'fluxbase_tenant' AS internal,
           coalesce(obj_description(p.oid, 'pg_proc'), '') AS comment,
           coalesce((SELECT string_agg(a.name, ', ' ORDER BY a.position)
                     FROM unnest(p.proargnames, p.proargmodes) WITH ORDINALITY AS a (name, mode, position)
                     WHERE coalesce(a.mode, 'i') = 'i'), '') AS arguments
    FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
    WHERE e.extname = 'fluxbase_tenant'
    ORDER BY p.proname";

fn every_function_has_a_comment(db: &Db) {
    let rows = db.superuser().query(FUNCTIONS, &[]).expect("the catalog is readable");
    assert!(!rows.is_empty());
    // A comment that says what the function does, for whom, and which errors it raises is longer than this.
    let bare = rows.iter().filter(|row| row.get::<_, &str>("comment").len() < 40);
    let bare: Vec<&str> = bare.map(|row| row.get("signature")).collect();
    assert!(bare.is_empty(), "without a comment in sql/functions: {bare:?}");
}

fn the_reference_shows_every_function_with_its_arguments(db: &Db) {
    let reference = reference();
    let rows = db.superuser().query(FUNCTIONS, &[]).expect("the catalog is readable");
    let surface = rows.iter().filter(|row| !row.get::<_, bool>("internal"));
    let shown = surface.map(|row| format!("`{}({})`", row.get::<_, &str>("name"), row.get::<_, &str>("arguments")));
    let missing: BTreeSet<String> = shown.filter(|call| !reference.contains(call)).collect();
    assert!(missing.is_empty(), "docs/reference.md lacks {missing:?}");
}

fn the_docs_name_only_existing_functions(db: &Db) {
    let rows = db.superuser().query(FUNCTIONS, &[]).expect("the catalog is readable");
    let existing: BTreeSet<&str> = rows.iter().map(|row| row.get("name")).collect();
    let pages = pages();
    let words = pages.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '('));
    let called = words.filter_map(|word| word.split_once('(')).map(|(name, _)| name);
    let unknown: BTreeSet<&str> =
        called.filter(|name| name.starts_with("tenant_") && !existing.contains(name)).collect();
    assert!(unknown.is_empty(), "the docs name {unknown:?}");
}

fn the_reference_names_every_setting(db: &Db) {
    // pg_settings lists the extension's settings only after the library is loaded.
    let mut client = db.superuser();
    client.batch_execute("SELECT tenant_current_user_id()").expect("any role can call it");
    assert_reference_names_all(&mut client, "SELECT name FROM pg_settings WHERE name LIKE 'fluxbase\\_tenant.%'");
}

fn the_reference_names_every_role(db: &Db) {
    let owner_roles = "^fluxbase_tenant_[0-9a-f]{32}$";
    let roles = format!(
        "SELECT rolname::text FROM pg_roles WHERE rolname LIKE 'fluxbase\\_tenant\\_%' AND rolname !~ '{owner_roles}'"
    );
    assert_reference_names_all(&mut db.superuser(), &roles);
}

#[track_caller]
fn assert_reference_names_all(client: &mut postgres::Client, query: &str) {
    let rows = client.query(query, &[]).expect("the catalog is readable");
    assert!(!rows.is_empty());
    let reference = reference();
    let missing = rows.iter().map(|row| row.get::<_, &str>(0)).filter(|name| !reference.contains(&format!("`{name}`")));
    let missing: Vec<&str> = missing.collect();
    assert!(missing.is_empty(), "docs/reference.md lacks {missing:?}");
}

/// Returns all pages that users read, one after the other.
fn pages() -> String {
    let docs = std::fs::read_dir(paths::root().join("docs")).expect("a folder");
    let mut files: Vec<_> = docs.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.push(paths::root().join("README.md"));
    files.iter().map(|path| std::fs::read_to_string(path).expect("a page")).collect()
}

fn reference() -> String {
    std::fs::read_to_string(paths::root().join("docs/reference.md")).expect("docs/reference.md exists")
}
