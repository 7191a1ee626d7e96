//! The identity can come from other settings and from JSON claims, as a superuser configures, so that existing clients
//! need not change. A value that is not a uuid is an error that names the setting, and never means "no user".

use uuid::Uuid;

use crate::cases;
use crate::support::people::{new_user, one, reached, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    user_from_another_setting,
    user_from_a_claim,
    tenant_from_another_setting,
    tenant_from_a_claim,
    the_extensions_tenant_setting_overrides_the_claim,
    empty_source_is_no_user,
    malformed_user_is_an_error,
    malformed_before_the_library_is_loaded_is_an_error,
    malformed_tenant_is_an_error,
    malformed_claims_are_an_error,
    malformed_identity_gives_no_access_to_tables,
    uuids_are_accepted_in_every_usual_format,
];

const WHO: &str = "SELECT tenant_current_user_id()";
const WHERE: &str = "SELECT tenant_current_id()";

fn user_from_another_setting(db: &Db) {
    db.configure("fluxbase_tenant.user_id_setting", "nile.user_id");
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let mut client = db.user_role();
    expect_refusal(client.query("SELECT * FROM tenant_get($1)", &[&id]), "unauthenticated");
    run(&mut client, &format!("BEGIN; SET LOCAL nile.user_id = '{user}'"));
    assert_eq!(one::<Uuid>(&mut client, WHO, &[]), user);
    assert_eq!(one::<Uuid>(&mut client, "SELECT id FROM tenant_get()", &[]), id);
    run(&mut client, "COMMIT");
    assert_eq!(one::<Option<Uuid>>(&mut client, WHO, &[]), None);
    // The extension's own setting is ignored then.
    let mut server = db.as_user(user);
    assert_eq!(one::<Option<Uuid>>(&mut server, WHO, &[]), None);
}

fn user_from_a_claim(db: &Db) {
    db.configure("fluxbase_tenant.user_id_setting", "request.jwt.claims:sub");
    let user = new_user();
    db.new_tenant("acme", user);
    let mut client = db.user_role();
    let set = "SELECT set_config('request.jwt.claims', $1, false)";
    for (claims, expected) in [
        (format!("{{\"sub\": \"{user}\", \"role\": \"authenticated\", \"nested\": {{\"sub\": 1}}}}"), Some(user)),
        ("{\"role\": \"anon\"}".into(), None),
        ("{\"sub\": null}".into(), None),
        ("{\"sub\": \"\"}".into(), None),
        ("{}".into(), None),
        (String::new(), None),
    ] {
        one::<String>(&mut client, set, &[&claims]);
        assert_eq!(one::<Option<Uuid>>(&mut client, WHO, &[]), expected, "{claims}");
        let mine = client.query("SELECT slug FROM tenant_list_mine()", &[]);
        if expected.is_some() {
            assert_eq!(mine.unwrap()[0].get::<_, &str>(0), "acme");
        } else {
            expect_refusal(mine, "unauthenticated").hint_has("user_id_setting");
        }
    }
}

fn tenant_from_another_setting(db: &Db) {
    db.configure("fluxbase_tenant.user_id_setting", "nile.user_id");
    db.configure("fluxbase_tenant.tenant_id_setting", "nile.tenant_id");
    let user = new_user();
    let (a, b) = (db.new_tenant("a", user), db.new_tenant("b", user));
    let mut client = db.user_role();
    run(&mut client, &format!("SET nile.user_id = '{user}'"));
    assert_eq!(one::<Uuid>(&mut client, WHERE, &[]), a);
    run(&mut client, &format!("SET nile.tenant_id = '{b}'"));
    assert_eq!(one::<Uuid>(&mut client, WHERE, &[]), b);
    run(&mut client, "RESET ALL");
    assert_eq!(one::<Option<Uuid>>(&mut client, WHERE, &[]), None);
}

fn tenant_from_a_claim(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('x')");
    db.configure("fluxbase_tenant.user_id_setting", "request.jwt.claims:sub");
    db.configure("fluxbase_tenant.tenant_id_setting", "request.jwt.claims:tenant_id");
    let user = new_user();
    let (a, b) = (db.new_tenant("a", user), db.new_tenant("b", user));
    let theirs = db.new_tenant("theirs", new_user());
    let mut client = db.user_role();
    run(&mut client, &format!("SET request.jwt.claims = '{{\"sub\": \"{user}\", \"tenant_id\": \"{b}\"}}'"));
    assert_eq!(one::<Uuid>(&mut client, WHERE, &[]), b);
    assert_eq!((reached(&mut client, "tenant_a.notes"), reached(&mut client, "tenant_b.notes")), (0, 1));
    run(&mut client, &format!("SET request.jwt.claims = '{{\"sub\": \"{user}\"}}'"));
    assert_eq!(one::<Uuid>(&mut client, WHERE, &[]), a, "without the claim, the oldest membership applies");
    // A claim does not make the user a member.
    run(&mut client, &format!("SET request.jwt.claims = '{{\"sub\": \"{user}\", \"tenant_id\": \"{theirs}\"}}'"));
    expect_refusal(client.query("SELECT * FROM tenant_get()", &[]), "not_found");
    assert_eq!(reached(&mut client, "tenant_theirs.notes"), 0);
}

fn the_extensions_tenant_setting_overrides_the_claim(db: &Db) {
    db.configure("fluxbase_tenant.user_id_setting", "request.jwt.claims:sub");
    db.configure("fluxbase_tenant.tenant_id_setting", "request.jwt.claims:tenant_id");
    let user = new_user();
    let (a, b) = (db.new_tenant("a", user), db.new_tenant("b", user));
    let mut client = db.user_role();
    run(&mut client, &format!("SET request.jwt.claims = '{{\"sub\": \"{user}\", \"tenant_id\": \"{a}\"}}'"));
    run(&mut client, "SELECT tenant_set_current('b')");
    assert_eq!(one::<Uuid>(&mut client, WHERE, &[]), b);
    run(&mut client, "SELECT tenant_reset_current()");
    assert_eq!(one::<Uuid>(&mut client, WHERE, &[]), a);
}

fn empty_source_is_no_user(db: &Db) {
    for source in ["", "no.such.setting", "no.such.setting:sub"] {
        db.configure("fluxbase_tenant.user_id_setting", source);
        let mut client = db.user_role();
        assert_eq!(one::<Option<Uuid>>(&mut client, WHO, &[]), None, "{source:?}");
        expect_refusal(client.query("SELECT * FROM tenant_list_mine()", &[]), "unauthenticated");
    }
}

fn malformed_user_is_an_error(db: &Db) {
    let mut client = db.server();
    one::<Option<Uuid>>(&mut client, WHO, &[]);
    for value in
        ["x", "0", " ", "00000000-0000-0000-0000-00000000000", "null", "' OR true --", "é", &"a".repeat(10_000)]
    {
        let quoted = value.replace('\'', "''");
        for sql in [
            format!("SET fluxbase_tenant.user_id = '{quoted}'"),
            format!("SELECT set_config('fluxbase_tenant.user_id', '{quoted}', true)"),
        ] {
            let refusal = expect_error(client.batch_execute(&sql), "22P02");
            refusal.message_has("fluxbase_tenant.user_id").hint_has("uuid");
        }
    }
    db.configure("fluxbase_tenant.user_id_setting", "nile.user_id");
    let mut client = db.user_role();
    run(&mut client, "SET nile.user_id = 'x'");
    for call in ["tenant_current_user_id()", "tenant_is_instance_admin()", "tenant_list_mine()", "tenant_get()"] {
        expect_error(client.query(&format!("SELECT {call}"), &[]), "22P02")
            .message_has("nile.user_id")
            .hint_has("hexadecimal");
    }
}

/// If loading the library discarded the malformed value, a superuser's session would continue as an instance admin.
fn malformed_before_the_library_is_loaded_is_an_error(db: &Db) {
    for role in ["postgres", "app_server"] {
        let mut client = db.connect_as(role, "");
        run(&mut client, "SET fluxbase_tenant.user_id = 'x'");
        for _ in 0..2 {
            expect_error(client.query("SELECT tenant_is_instance_admin()", &[]), "22P02")
                .message_has("fluxbase_tenant.user_id");
        }
        let mut client = db.connect_as(role, "-c fluxbase_tenant.user_id=x");
        expect_error(client.query("SELECT tenant_is_instance_admin()", &[]), "22P02");
        run(&mut client, "SET fluxbase_tenant.user_id = ''");
        assert_eq!(one::<bool>(&mut client, "SELECT tenant_is_instance_admin()", &[]), role == "postgres");
    }
}

fn malformed_tenant_is_an_error(db: &Db) {
    let mut client = db.as_user(new_user());
    run(&mut client, "SELECT tenant_current_user_id()");
    expect_error(client.batch_execute("SET fluxbase_tenant.tenant_id = 'acme'"), "22P02")
        .message_has("fluxbase_tenant.tenant_id");
    db.configure("fluxbase_tenant.tenant_id_setting", "nile.tenant_id");
    let mut client = db.as_user(new_user());
    run(&mut client, "SET nile.tenant_id = 'acme'");
    for call in ["tenant_current_id()", "tenant_current()", "tenant_get()", "tenant_list_members()"] {
        expect_error(client.query(&format!("SELECT {call}"), &[]), "22P02").message_has("nile.tenant_id");
    }
}

fn malformed_claims_are_an_error(db: &Db) {
    db.configure("fluxbase_tenant.user_id_setting", "request.jwt.claims:sub");
    let mut client = db.user_role();
    for claims in ["not json", "{", "[]", "\"text\"", "null", "42", "{\"sub\": 1}", "{\"sub\": \"x\"}", "{\"sub\": {}}"]
    {
        one::<String>(&mut client, "SELECT set_config('request.jwt.claims', $1, false)", &[&claims]);
        for call in ["tenant_current_user_id()", "tenant_is_instance_admin()", "tenant_list_mine()"] {
            let refusal = expect_error(client.query(&format!("SELECT {call}"), &[]), "22P02");
            refusal.message_has("request.jwt.claims");
        }
    }
    let deep = format!("{{\"sub\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    one::<String>(&mut client, "SELECT set_config('request.jwt.claims', $1, false)", &[&deep]);
    expect_error(client.query(WHO, &[]), "22P02");
}

fn malformed_identity_gives_no_access_to_tables(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text); INSERT INTO notes VALUES ('x')");
    db.new_tenant("acme", new_user());
    db.configure("fluxbase_tenant.user_id_setting", "nile.user_id");
    for mut client in [db.user_role(), db.admin()] {
        run(&mut client, "SET nile.user_id = 'x'");
        for table in ["tenant_acme.notes", "fluxbase_tenant.tenants", "fluxbase_tenant.members"] {
            let result = client.query(&format!("SELECT * FROM {table}"), &[]);
            expect_error(result, "22P02").message_has("nile.user_id");
        }
    }
}

fn uuids_are_accepted_in_every_usual_format(db: &Db) {
    let user = new_user();
    let mut client = db.server();
    for written in [user.to_string(), user.to_string().to_uppercase(), user.simple().to_string(), format!("{{{user}}}")]
    {
        run(&mut client, &format!("SET fluxbase_tenant.user_id = '{written}'"));
        assert_eq!(one::<Uuid>(&mut client, WHO, &[]), user, "{written}");
    }
}
