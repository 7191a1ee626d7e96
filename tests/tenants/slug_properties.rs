//! Properties of slugs: every text is accepted unchanged or refused, and every name yields a slug.

use proptest::prelude::*;
use uuid::Uuid;

use crate::cases;
use crate::support::properties::of_all;
use crate::support::{Db, expect_refusal};

cases![a_slug_is_accepted_unchanged_or_refused, every_name_yields_a_slug];

fn is_slug(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(inner)
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && Uuid::try_parse(text).is_err()
}

/// Generates near-slugs, slugs that look like ids, and arbitrary texts.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[a-z][a-z0-9-]{0,66}",
        2 => "[a-zA-Z0-9_. -]{0,12}",
        1 => "[a-f][0-9a-f]{7}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        1 => "[a-f][0-9a-f]{31}",
        1 => "\\PC{0,70}",
    ]
}

fn a_slug_is_accepted_unchanged_or_refused(db: &Db) {
    let mut admin = db.admin();
    of_all(texts(), 150, |text| {
        let mut transaction = admin.transaction().expect("a transaction");
        let created = transaction.query_one("SELECT slug FROM tenant_create(slug => $1, name => 'n')", &[&text]);
        if is_slug(&text) {
            assert_eq!(created.expect("a slug").get::<_, String>(0), text);
        } else {
            expect_refusal(created, "invalid_argument");
        }
    });
}

fn every_name_yields_a_slug(db: &Db) {
    let mut admin = db.admin();
    of_all("[\\PC&&[^\\s]]{1,80}", 150, |name: String| {
        let mut transaction = admin.transaction().expect("a transaction");
        let sql = "SELECT slug, name FROM tenant_create(name => $1)";
        let first = transaction.query_one(sql, &[&name]).expect("a tenant");
        let second = transaction.query_one(sql, &[&name]).expect("another tenant of that name");
        let (slug, other) = (first.get::<_, String>(0), second.get::<_, String>(0));
        assert!(is_slug(&slug), "{slug}");
        assert!(is_slug(&other), "{other}");
        assert_ne!(slug, other);
        assert_eq!(first.get::<_, String>(1), name);
    });
}
