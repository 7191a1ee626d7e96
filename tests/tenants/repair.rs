//! tenant_repair() reports and repairs what a superuser damaged by hand.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, reached, run};
use crate::support::{Db, expect_error, expect_refusal};

cases![
    intact_tenant_needs_no_repair,
    revoked_grants,
    wrong_owners,
    dropped_policies,
    weakened_policies,
    owner_role_with_attributes,
    owner_role_with_members,
    missing_owner_role,
    missing_default_privileges,
    missing_schema_is_reported,
    excess_grants_on_the_schema,
    only_the_named_tenant_is_repaired,
    repair_is_for_instance_admins,
];

const SCHEMA: &str = "
    CREATE TABLE notes (id serial PRIMARY KEY, body text);
    INSERT INTO notes (body) VALUES ('kept');
    CREATE VIEW all_notes AS SELECT * FROM notes;
    CREATE SEQUENCE numbers;
    CREATE TYPE mood AS ENUM ('ok');
    CREATE DOMAIN word AS text;
    CREATE FUNCTION count_notes() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM notes';
    CREATE PROCEDURE nothing() LANGUAGE sql AS 'SELECT 1'";

struct Patient {
    id: Uuid,
    owner: String,
    member: Client,
}

fn patient(db: &Db) -> Patient {
    db.add_migration("1", SCHEMA);
    let user = new_user();
    let id = db.new_tenant("acme", user);
    Patient { id, owner: Db::owner_role(id), member: db.as_user(user) }
}

/// Runs the repair and returns its lines, as "object: problem". A second run must find nothing.
#[track_caller]
fn repaired(db: &Db, id: Uuid) -> Vec<String> {
    let repair = "SELECT object || ': ' || problem FROM tenant_repair($1)";
    let mut admin = db.admin();
    let repairs: Vec<String> = column(&mut admin, repair, &[&id]);
    let again: Vec<String> = column(&mut admin, repair, &[&id]);
    assert!(again.is_empty(), "found again: {again:?}");
    repairs
}

#[track_caller]
fn is_usable_and_isolated(db: &Db, patient: &mut Patient) {
    run(&mut patient.member, "INSERT INTO tenant_acme.notes (body) VALUES ('new')");
    assert!(reached(&mut patient.member, "tenant_acme.all_notes") >= 2);
    for mut other in [db.as_user(new_user()), db.server(), db.user_role()] {
        for table in ["notes", "all_notes"] {
            assert_eq!(reached(&mut other, &format!("tenant_acme.{table}")), 0);
        }
    }
}

fn intact_tenant_needs_no_repair(db: &Db) {
    let mut patient = patient(db);
    assert!(repaired(db, patient.id).is_empty());
    is_usable_and_isolated(db, &mut patient);
}

fn revoked_grants(db: &Db) {
    let mut patient = patient(db);
    run(
        &mut db.superuser(),
        "REVOKE ALL ON ALL TABLES IN SCHEMA tenant_acme FROM fluxbase_tenant_user;
         REVOKE ALL ON SCHEMA tenant_acme FROM fluxbase_tenant_user",
    );
    let repairs = repaired(db, patient.id).join("\n");
    for object in ["schema tenant_acme", "tenant_acme.notes", "tenant_acme.all_notes"] {
        assert!(repairs.contains(object), "{object} is not in:\n{repairs}");
    }
    is_usable_and_isolated(db, &mut patient);
}

fn wrong_owners(db: &Db) {
    let mut patient = patient(db);
    run(
        &mut db.superuser(),
        "ALTER SCHEMA tenant_acme OWNER TO postgres; ALTER TABLE tenant_acme.notes OWNER TO postgres;
         ALTER VIEW tenant_acme.all_notes OWNER TO app_user; ALTER SEQUENCE tenant_acme.numbers OWNER TO postgres;
         ALTER TYPE tenant_acme.mood OWNER TO postgres; ALTER DOMAIN tenant_acme.word OWNER TO postgres;
         ALTER FUNCTION tenant_acme.count_notes() OWNER TO postgres;
         ALTER PROCEDURE tenant_acme.nothing() OWNER TO postgres",
    );
    let repairs = repaired(db, patient.id);
    assert_eq!(repairs.iter().filter(|one| one.contains("is owned by")).count(), 8, "{repairs:#?}");
    let owners: Vec<String> = column(
        &mut db.superuser(),
        "SELECT DISTINCT owner::regrole::text FROM (
             SELECT relowner FROM pg_class WHERE relnamespace = 'tenant_acme'::regnamespace
             UNION SELECT nspowner FROM pg_namespace WHERE nspname = 'tenant_acme'
             UNION SELECT proowner FROM pg_proc WHERE pronamespace = 'tenant_acme'::regnamespace
             UNION SELECT typowner FROM pg_type WHERE typnamespace = 'tenant_acme'::regnamespace) AS o (owner)",
        &[],
    );
    assert_eq!(owners, [patient.owner.as_str()]);
    is_usable_and_isolated(db, &mut patient);
}

fn dropped_policies(db: &Db) {
    let mut patient = patient(db);
    for damage in [
        "DROP POLICY tenant_isolation ON tenant_acme.notes",
        "DROP POLICY tenant_isolation ON tenant_acme.notes; DROP POLICY tenant_access ON tenant_acme.notes",
        "ALTER TABLE tenant_acme.notes DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE tenant_acme.notes NO FORCE ROW LEVEL SECURITY",
    ] {
        run(&mut db.superuser(), damage);
        let repairs = repaired(db, patient.id);
        assert_eq!(repairs, ["table tenant_acme.notes: policies missing or changed"], "{damage}");
        is_usable_and_isolated(db, &mut patient);
    }
}

fn weakened_policies(db: &Db) {
    let mut patient = patient(db);
    let other = db.new_tenant("other", new_user());
    let drop = "DROP POLICY tenant_isolation ON tenant_acme.notes; CREATE POLICY tenant_isolation ON tenant_acme.notes";
    for damage in [
        "ALTER POLICY tenant_isolation ON tenant_acme.notes USING (true)".to_owned(),
        "ALTER POLICY tenant_isolation ON tenant_acme.notes WITH CHECK (true)".to_owned(),
        "ALTER POLICY tenant_isolation ON tenant_acme.notes TO app_admin".to_owned(),
        format!("ALTER POLICY tenant_isolation ON tenant_acme.notes USING (fluxbase_tenant.accessible('{other}'))"),
        format!("{drop} USING (fluxbase_tenant.accessible('{}'))", patient.id),
        format!("{drop} AS RESTRICTIVE FOR SELECT USING (fluxbase_tenant.accessible('{}'))", patient.id),
    ] {
        run(&mut db.superuser(), &damage);
        let repairs = repaired(db, patient.id);
        assert_eq!(repairs, ["table tenant_acme.notes: policies missing or changed"], "{damage}");
        is_usable_and_isolated(db, &mut patient);
    }
}

fn owner_role_with_attributes(db: &Db) {
    let patient = patient(db);
    for attribute in ["LOGIN", "SUPERUSER", "BYPASSRLS", "CREATEDB", "CREATEROLE", "REPLICATION"] {
        run(&mut db.superuser(), &format!("ALTER ROLE {} {attribute}", patient.owner));
        let repairs = repaired(db, patient.id);
        assert_eq!(repairs.len(), 1, "{attribute}: {repairs:?}");
        assert!(repairs[0].contains(&patient.owner), "{repairs:?}");
    }
}

fn owner_role_with_members(db: &Db) {
    let Patient { id, owner, .. } = patient(db);
    // A role of this case's own: app_user is used by other cases of the cluster.
    let member = format!("{}_member", db.name());
    run(
        &mut db.superuser(),
        &format!(
            "CREATE ROLE {member} LOGIN; GRANT {owner} TO {member}; GRANT fluxbase_tenant_admin TO {owner};
             REVOKE fluxbase_tenant_owner FROM {owner}"
        ),
    );
    let repairs = repaired(db, id);
    assert_eq!(repairs.len(), 3, "{repairs:?}");
    expect_error(db.connect_as(&member, "").batch_execute(&format!("SET ROLE {owner}")), "42501");
    run(&mut db.superuser(), &format!("DROP ROLE {member}"));
}

fn missing_owner_role(db: &Db) {
    let mut patient = patient(db);
    let owner = &patient.owner;
    run(
        &mut db.superuser(),
        &format!("REASSIGN OWNED BY {owner} TO postgres; DROP OWNED BY {owner}; DROP ROLE {owner}"),
    );
    expect_refusal(
        {
            db.add_migration("2", "CREATE TABLE more (body text)");
            db.admin().query("SELECT * FROM tenant_migrate($1)", &[&patient.id])
        },
        "conflict",
    )
    .hint_has("tenant_repair()");
    let repairs = repaired(db, patient.id);
    assert!(repairs.contains(&format!("role {}: missing", patient.owner)), "{repairs:?}");
    is_usable_and_isolated(db, &mut patient);
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", patient.id));
    assert_eq!(db.traces(patient.id, "tenant_acme"), 3);
}

fn missing_default_privileges(db: &Db) {
    let mut patient = patient(db);
    run(
        &mut db.superuser(),
        &format!(
            "ALTER DEFAULT PRIVILEGES FOR ROLE {} IN SCHEMA tenant_acme
             REVOKE ALL ON TABLES FROM fluxbase_tenant_user",
            patient.owner
        ),
    );
    let repairs = repaired(db, patient.id);
    assert!(repairs.iter().any(|one| one.contains("default privileges for tables")), "{repairs:?}");
    db.add_migration("2", "CREATE TABLE more (body text)");
    run(&mut db.admin(), &format!("SELECT tenant_migrate('{}')", patient.id));
    run(&mut patient.member, "INSERT INTO tenant_acme.more VALUES ('x')");
}

fn missing_schema_is_reported(db: &Db) {
    let patient = patient(db);
    run(&mut db.superuser(), "DROP SCHEMA tenant_acme CASCADE");
    expect_refusal(db.admin().query("SELECT * FROM tenant_repair($1)", &[&patient.id]), "conflict")
        .message("schema \"tenant_acme\" does not exist")
        .hint_has("backup");
    // The remains of the tenant can be deleted.
    run(&mut db.admin(), &format!("SELECT tenant_delete('{}')", patient.id));
    assert_eq!(db.traces(patient.id, "tenant_acme"), 0);
}

fn excess_grants_on_the_schema(db: &Db) {
    let patient = patient(db);
    run(
        &mut db.superuser(),
        "GRANT ALL ON SCHEMA tenant_acme TO PUBLIC; GRANT CREATE ON SCHEMA tenant_acme TO fluxbase_tenant_user",
    );
    let repairs = repaired(db, patient.id);
    assert_eq!(repairs.len(), 3, "{repairs:?}");
    let mut user = db.user_role();
    expect_error(user.batch_execute("CREATE TABLE tenant_acme.mine ()"), "42501");
}

fn only_the_named_tenant_is_repaired(db: &Db) {
    let patient = patient(db);
    let other = db.new_tenant("other", new_user());
    for schema in ["tenant_acme", "tenant_other"] {
        run(&mut db.superuser(), &format!("REVOKE ALL ON SCHEMA {schema} FROM fluxbase_tenant_user"));
    }
    assert_eq!(repaired(db, patient.id).len(), 1);
    assert_eq!(repaired(db, other).len(), 1);
}

fn repair_is_for_instance_admins(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let repair = "SELECT * FROM tenant_repair($1)";
    for mut client in [db.as_user(user), db.as_service(id)] {
        expect_refusal(client.query(repair, &[&id]), "forbidden").message("permission denied to repair a tenant");
    }
    expect_refusal(db.server().query(repair, &[&id]), "unauthenticated");
    expect_refusal(db.admin().query(repair, &[&Uuid::new_v4()]), "not_found");
    // Deleted and suspended tenants can be repaired too.
    run(&mut db.admin(), &format!("SELECT tenant_suspend('{id}'), tenant_soft_delete('{id}')"));
    run(&mut db.superuser(), "REVOKE ALL ON SCHEMA tenant_acme FROM fluxbase_tenant_user");
    assert_eq!(repaired(db, id).len(), 1);
}
