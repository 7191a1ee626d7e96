//! Every input is either stored unchanged or refused with a helpful message. None of it gets into DDL unquoted.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::cases;
use crate::support::people::{new_user, one, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    null_for_required_arguments,
    invalid_slugs_are_refused,
    unusual_valid_slugs_are_accepted,
    slugs_that_parse_as_uuids_are_refused,
    invalid_names_are_refused,
    names_are_stored_unchanged,
    metadata_must_be_an_object,
    metadata_is_stored_unchanged,
    large_and_deep_metadata,
    invalid_uuids_are_refused,
    hostile_schema_prefixes,
    slugs_derived_from_hostile_names_are_valid,
    wrong_argument_types_find_no_function,
];

const CREATE: &str = "SELECT slug FROM tenant_create($1, $2)";

fn null_for_required_arguments(db: &Db) {
    let mut admin = db.admin();
    let id = Uuid::new_v4();
    for (call, argument) in [
        ("tenant_create()", "name"),
        ("tenant_create('acme')", "name"),
        ("tenant_create('acme', NULL)", "name"),
        ("tenant_get_by_slug(NULL)", "slug"),
        ("tenant_delete(NULL)", "tenant_id"),
        ("tenant_restore(NULL)", "tenant_id"),
        ("tenant_suspend(NULL)", "tenant_id"),
        ("tenant_resume(NULL)", "tenant_id"),
        ("tenant_set_default(NULL)", "tenant_id"),
        ("tenant_repair(NULL)", "tenant_id"),
        ("tenant_purge(NULL)", "older_than"),
        ("tenant_migrate(NULL)", "tenant_id"),
        ("tenant_assign_admin(NULL, '{id}')", "tenant_id"),
        ("tenant_assign_admin('{id}', NULL)", "user_id"),
        ("tenant_remove_admin(NULL, '{id}')", "tenant_id"),
        ("tenant_remove_admin('{id}', NULL)", "user_id"),
        ("tenant_add_member(NULL, '{id}')", "tenant_id"),
        ("tenant_add_member('{id}', NULL)", "user_id"),
        ("tenant_add_member('{id}', '{id}', NULL)", "role"),
        ("tenant_remove_member(NULL, '{id}')", "tenant_id"),
        ("tenant_remove_member('{id}', NULL)", "user_id"),
        ("tenant_migration_add(NULL, 'n', 'SELECT 1')", "version"),
        ("tenant_migration_add('1', NULL, 'SELECT 1')", "name"),
        ("tenant_migration_add('1', 'n', NULL)", "up"),
    ] {
        let result = admin.query(&format!("SELECT * FROM {}", call.replace("{id}", &id.to_string())), &[]);
        expect_refusal(result, "invalid_argument").message(&format!("{argument} must not be null")).hint_has(argument);
    }
    // NULL selects the default where there is one.
    expect_refusal(admin.query("SELECT * FROM tenant_get(NULL)", &[]), "not_found").message("current tenant not found");
    let row = admin.query_one("SELECT * FROM tenant_create(NULL, 'Acme', NULL, NULL, NULL)", &[]).unwrap();
    assert_eq!((row.get("slug"), row.get::<_, Value>("metadata")), ("acme", json!({})));
}

fn invalid_slugs_are_refused(db: &Db) {
    let mut admin = db.admin();
    for slug in [
        "",
        " ",
        "-",
        "a-",
        "-a",
        "1a",
        "A",
        "Acme",
        "a b",
        "a_b",
        "a.b",
        "a/b",
        "a\nb",
        "a\n",
        "\na",
        "ä",
        "naïve",
        "日本",
        "a'b",
        "a\"b",
        "a;drop schema public",
        "a--\u{200b}",
        "ａ",
        &"a".repeat(64),
        &"a".repeat(10_240),
    ] {
        let refusal = expect_refusal(admin.query(CREATE, &[&slug, &"Acme"]), "invalid_argument");
        refusal.message("invalid slug").hint_has("63");
    }
    assert_eq!(one::<i64>(&mut admin, "SELECT count(*) FROM tenant_list()", &[]), 0);
}

fn unusual_valid_slugs_are_accepted(db: &Db) {
    let mut admin = db.admin();
    for slug in ["a", "z9", "a-b", "a--b", "a-1-b", "select", "public", "pg-catalog", &"a".repeat(63)] {
        assert_eq!(one::<String>(&mut admin, CREATE, &[&slug, &"Acme"]), slug);
        let schema: String = one(&mut admin, "SELECT schema_name FROM tenant_get_by_slug($1)", &[&slug]);
        assert!(schema.starts_with("tenant_") && schema.len() <= 63, "{schema}");
    }
}

fn slugs_that_parse_as_uuids_are_refused(db: &Db) {
    let mut admin = db.admin();
    for slug in ["a0000000-0000-4000-8000-000000000000", "deadbeefdeadbeefdeadbeefdeadbeef"] {
        expect_refusal(admin.query(CREATE, &[&slug, &"Acme"]), "invalid_argument").hint_has("uuid");
    }
    // A slug derived from such a name does not parse as a uuid.
    let name = "a0000000-0000-4000-8000-000000000000";
    let slug: String = one(&mut admin, "SELECT slug FROM tenant_create(name => $1)", &[&name]);
    assert!(Uuid::try_parse(&slug).is_err(), "{slug}");
    let second: String = one(&mut admin, "SELECT slug FROM tenant_create(name => $1)", &[&name]);
    assert!(Uuid::try_parse(&second).is_err() && second != slug, "{second}");
}

fn invalid_names_are_refused(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    let mut admin = db.admin();
    for name in ["", " ", "\t\n ", "\u{a0}", "\u{3000}"] {
        expect_refusal(admin.query(CREATE, &[&"new", &name]), "invalid_argument").message_has("empty");
        let update = admin.query("SELECT * FROM tenant_update($1, $2)", &[&id, &name]);
        expect_refusal(update, "invalid_argument").message_has("empty");
    }
    for name in ["x".repeat(256), "日".repeat(256), "x".repeat(10_240)] {
        expect_refusal(admin.query(CREATE, &[&"new", &name]), "invalid_argument").message_has("255");
        let update = admin.query("SELECT * FROM tenant_update($1, $2)", &[&id, &name]);
        expect_refusal(update, "invalid_argument").hint_has("metadata");
    }
}

fn names_are_stored_unchanged(db: &Db) {
    let mut admin = db.admin();
    for (number, name) in [
        "O'Brien & \"Sons\"",
        "'; DROP SCHEMA fluxbase_tenant CASCADE; --",
        "line\nbreak\tand\r\nreturn",
        "$$ dollar $q$ quotes $$",
        "back\\slash %s %I {} \u{1}",
        "日本株式会社 🏢",
        "e\u{301} and \u{202e}right-to-left",
        "  spaces around  ",
        &"日".repeat(255),
    ]
    .iter()
    .enumerate()
    {
        let slug = format!("s{number}");
        let row = admin.query_one("SELECT id, name FROM tenant_create($1, $2)", &[&slug, name]).unwrap();
        assert_eq!(row.get::<_, &str>(1), *name);
        let id: Uuid = row.get(0);
        assert_eq!(one::<String>(&mut admin, "SELECT name FROM tenant_update($1, $2)", &[&id, name]), *name);
    }
    // Without a slug, one is derived from any name.
    for name in ["日本株式会社", "🏢", "'; DROP --", "\u{1}", "Ünïcödé"] {
        let slug: String = one(&mut admin, "SELECT slug FROM tenant_create(name => $1)", &[&name]);
        assert!(!slug.is_empty() && slug.is_ascii(), "{name}: {slug}");
    }
}

fn metadata_must_be_an_object(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    let mut admin = db.admin();
    for metadata in [json!([]), json!([{"a": 1}]), json!("text"), json!(1), json!(true), json!(null)] {
        for call in ["tenant_create('b', 'B', $1)", "tenant_update('{id}', NULL, $1)"] {
            let call = call.replace("{id}", &id.to_string());
            expect_refusal(admin.query(&format!("SELECT * FROM {call}"), &[&metadata]), "invalid_argument")
                .message("metadata must be a JSON object")
                .hint_has("{\"key\": value}");
        }
    }
    expect_error(admin.query("SELECT * FROM tenant_create('b', 'B', '{')", &[]), "22P02");
}

fn metadata_is_stored_unchanged(db: &Db) {
    let mut admin = db.admin();
    let digits = "1".repeat(400);
    for (number, text) in [
        "{}".to_owned(),
        r#"{"": "", "a": null, "b": [1, [2, {}]], "ü": "\u0001\"\\"}"#.to_owned(),
        format!(r#"{{"n": 12345678901234567890.12345678901234567890, "m": {digits}, "z": 1.10}}"#),
        r#"{"x": 1E-100, "y": -0.0}"#.to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let create = format!(
            "SELECT metadata = $1::text::jsonb AND metadata::text = $1::text::jsonb::text
                              FROM tenant_create('s{number}', 'Name', $1::text::jsonb)"
        );
        assert!(one::<bool>(&mut admin, &create, &[text]), "{text}");
        let stored = "SELECT metadata::text = $2::text::jsonb::text FROM tenant_get_by_slug($1)";
        assert!(one::<bool>(&mut admin, stored, &[&format!("s{number}"), text]), "{text}");
    }
    let update = "SELECT metadata::text
                  FROM tenant_update((SELECT id FROM tenant_get_by_slug('s0')), NULL, $1::text::jsonb)";
    let kept = "{\"n\": 0.10000000000000000000000000000000000000001}";
    assert_eq!(one::<String>(&mut admin, update, &[&kept]), kept);
}

fn large_and_deep_metadata(db: &Db) {
    let mut admin = db.admin();
    let large = json!({"blob": "x".repeat(1 << 20), "many": (0..5000).collect::<Vec<_>>()});
    let stored: Value = one(&mut admin, "SELECT metadata FROM tenant_create('large', 'Large', $1)", &[&large]);
    assert_eq!(stored, large);
    let read: Value = one(&mut admin, "SELECT metadata FROM tenant_get_by_slug('large')", &[]);
    assert_eq!(read, large);
    let listed: Value = one(&mut admin, "SELECT metadata FROM tenant_list()", &[]);
    assert_eq!(listed, large);

    let deep = format!("{{\"a\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
    let create = "SELECT metadata::text FROM tenant_create('deep', 'Deep', $1::text::jsonb)";
    assert_eq!(one::<String>(&mut admin, create, &[&deep]), deep);

    // Functions of PostgreSQL can build such a value, but PostgreSQL cannot parse it again, so a dump with it could not
    // be restored.
    run(
        &mut admin,
        "CREATE TEMPORARY TABLE built AS SELECT jsonb_build_object('k', (repeat('[', 5000) || '1' || repeat(']', 5000))::jsonb) AS value",
    );
    for _ in 0..100 {
        run(
            &mut admin,
            &format!("UPDATE built SET value = {}value{}", "jsonb_build_object('k', ".repeat(90), ")".repeat(90)),
        );
    }
    for call in [
        "tenant_create('deeper', 'Deeper', value)",
        "tenant_update((SELECT id FROM tenant_get_by_slug('deep')), 'Deep', value)",
    ] {
        let refused = admin.query(&format!("SELECT {call} FROM built"), &[]);
        expect_refusal(refused, "invalid_argument").message("metadata is nested deeper than 6000 levels");
    }
    // Each element takes a few bytes in storage and has 131,072 digits as text.
    let digits = "SELECT tenant_create('digits', 'Digits', (SELECT jsonb_build_object('a', jsonb_agg(1e131071::numeric)) FROM generate_series(1, 200)))";
    expect_refusal(admin.query(digits, &[]), "invalid_argument").message("metadata is larger than 16 MB");
    let huge = "SELECT tenant_create('huge', 'Huge', jsonb_build_object('k', repeat('x', 17000000)))";
    expect_refusal(admin.query(huge, &[]), "invalid_argument").message("metadata is larger than 16 MB");
}

fn invalid_uuids_are_refused(db: &Db) {
    let mut admin = db.admin();
    for call in ["tenant_get('acme')", "tenant_delete('')", "tenant_add_member('x', 'y')"] {
        expect_error(admin.query(&format!("SELECT * FROM {call}"), &[]), "22P02");
    }
    // As a slug, the value simply does not exist.
    expect_refusal(admin.query("SELECT * FROM tenant_set_current('')", &[]), "not_found");
    expect_refusal(admin.query("SELECT * FROM tenant_set_current('zzz-')", &[]), "not_found");
    let long = "x".repeat(1 << 20);
    expect_refusal(admin.query("SELECT * FROM tenant_set_current($1)", &[&long]), "not_found");
    expect_refusal(admin.query("SELECT * FROM tenant_get_by_slug($1)", &[&long]), "not_found");
}

fn hostile_schema_prefixes(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('x')");
    for (number, prefix) in
        ["\"; DROP SCHEMA public; --", "o'brien ", "Ünï-", "SELECT", "a.b.", "\\", "日本_", &"p".repeat(100), ""]
            .iter()
            .enumerate()
    {
        db.configure("fluxbase_tenant.schema_prefix", prefix);
        let user = new_user();
        let id = db.new_tenant(&format!("s{number}"), user);
        let schema = db.schema_of(id);
        assert!(schema.len() <= 63, "{schema}");
        assert!(schema.len() == 63 || schema == format!("{prefix}s{number}"), "{schema}");
        let mut client = db.as_user(user);
        run(&mut client, &format!("SELECT tenant_set_current('s{number}')"));
        assert_eq!(one::<String>(&mut client, "SELECT body FROM notes", &[]), "x", "{prefix:?}");
        run(&mut client, "SELECT tenant_reset_current()");
        expect_error(client.query("SELECT body FROM notes", &[]), "42P01");
        run(&mut db.admin(), &format!("SELECT tenant_repair('{id}'); SELECT tenant_delete('{id}')"));
        assert_eq!(db.traces(id, &schema), 0);
    }
    // A schema named like a superuser would be on that superuser's search_path.
    let boss: String = one(&mut db.superuser(), "SELECT current_user::text", &[]);
    db.configure("fluxbase_tenant.schema_prefix", "");
    let schema = db.schema_of(db.new_tenant(&boss, new_user()));
    assert!(schema.starts_with(&format!("{boss}_")), "{schema}");
    // Without a prefix, the slug may equal the name of any role.
    let schema = db.schema_of(db.new_tenant("fluxbase-tenant-user", new_user()));
    assert!(schema.starts_with("fluxbase_tenant_user_"), "{schema}");
    for prefix in ["pg_", "pg_temp_"] {
        db.configure("fluxbase_tenant.schema_prefix", prefix);
        expect_refusal(db.admin().query("SELECT * FROM tenant_create('acme', 'Acme')", &[]), "invalid_argument")
            .hint_has("another prefix");
    }
}

fn slugs_derived_from_hostile_names_are_valid(db: &Db) {
    let mut admin = db.admin();
    for name in ["pg_catalog", "../../etc/passwd", "a\u{0301}\u{0301}\u{0301}", "---", "1-1", &"ß".repeat(200)] {
        let slug: String = one(&mut admin, "SELECT slug FROM tenant_create(name => $1)", &[&name]);
        let again = admin.query("SELECT * FROM tenant_create($1, 'again')", &[&slug]);
        expect_refusal(again, "conflict").message(&format!("slug \"{slug}\" is taken"));
    }
}

fn wrong_argument_types_find_no_function(db: &Db) {
    let mut admin = db.admin();
    for call in ["tenant_create(1, 2)", "tenant_get(1)", "tenant_get(nonsense => 1)", "tenant_list(1)"] {
        expect_error(admin.query(&format!("SELECT * FROM {call}"), &[]), "42883");
    }
}
