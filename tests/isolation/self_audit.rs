//! tenant_check() reports nothing on a sound installation, reports every planted defect, and prints fixes that work.

use crate::cases;
use crate::support::audit::{Installation, SHARED, TABLES, assert_none, findings, new_cluster};
use crate::support::people::{new_user, run};
use crate::support::tables::act_as;
use crate::support::{Db, expect_refusal};

cases![
    sound_installation_has_no_findings,
    only_instance_admins_may_call_it,
    tenants_without_schema_or_owner,
    owner_roles_with_excess_rights,
    tables_that_lost_their_protection,
    relations_that_policies_do_not_cover,
    tenants_objects_owned_by_other_roles,
    shared_tables_that_lost_their_protection,
    views_that_bypass_the_policies,
    application_roles_that_bypass_policies,
    grants_to_everybody,
    identity_settings_that_anyone_can_set,
    changed_triggers_and_catalog_tables,
    library_not_preloaded,
    leftover_schemas_and_roles,
];

fn sound_installation_has_no_findings(db: &Db) {
    let cluster = new_cluster(db);
    let (db, second) = (Db::new(&cluster), Db::new(&cluster));
    assert_none(&db, "only the extension");
    let other = second.new_tenant("elsewhere", new_user());
    assert_none(&db, "owner roles of another database are ignored");
    let acme = db.new_tenant("acme", new_user());
    db.migrate(acme, TABLES);
    db.migrate(
        acme,
        "CREATE TABLE split (n int) PARTITION BY LIST (n); CREATE TABLE part PARTITION OF split DEFAULT;
         CREATE TABLE child () INHERITS (notes); CREATE TYPE t AS (n int); CREATE SEQUENCE s;
         GRANT SELECT ON notes TO fluxbase_tenant_user",
    );
    run(&mut db.superuser(), SHARED);
    run(&mut db.superuser(), "CREATE TABLE own (n int); CREATE VIEW of_own AS TABLE own; GRANT ALL ON own TO PUBLIC");
    run(
        &mut db.superuser(),
        "ALTER TABLE own ENABLE ROW LEVEL SECURITY; CREATE POLICY tenant_isolation ON own USING (true)",
    );
    assert_none(&db, "in use");
    run(&mut db.admin(), &format!("SELECT tenant_suspend('{acme}'); SELECT tenant_soft_delete('{acme}')"));
    assert_none(&db, "soft-deleted");
    run(&mut second.admin(), &format!("SELECT tenant_delete('{other}')"));
    run(&mut db.admin(), &format!("SELECT tenant_delete('{acme}')"));
    assert_none(&db, "deleted");
}

fn only_instance_admins_may_call_it(db: &Db) {
    let (user, boss) = (new_user(), new_user());
    let acme = db.new_tenant("acme", user);
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{boss}')"));
    let ask = "SELECT * FROM tenant_check()";
    for mut client in [db.as_user(user), db.as_service(acme)] {
        expect_refusal(client.query(ask, &[]), "forbidden");
    }
    for mut client in [db.server(), db.user_role()] {
        expect_refusal(client.query(ask, &[]), "unauthenticated");
    }
    let mut superuser = db.superuser();
    act_as(&mut superuser, user);
    expect_refusal(superuser.query(ask, &[]), "forbidden");
    for mut client in [db.admin(), db.as_user(boss)] {
        client.query(ask, &[]).unwrap();
    }
}

fn tenants_without_schema_or_owner(db: &Db) {
    let mut soil = Installation::in_cluster(&new_cluster(db));
    soil.assert_repaired(
        "ALTER SCHEMA tenant_acme OWNER TO postgres",
        &[("error", "schema tenant_acme", "is owned by postgres")],
    );
    soil.assert_repaired(
        "REASSIGN OWNED BY {o} TO app_admin; DROP OWNED BY {o}; DROP ROLE {o}",
        &[
            ("error", "schema tenant_acme", "is owned by app_admin"),
            ("error", "table tenant_acme.notes", "is owned by app_admin"),
            ("error", "tenant acme", "owner role {o} does not exist"),
            ("error", "view tenant_acme.seen", "is owned by app_admin"),
        ],
    );
    let gone = [("error", "tenant acme", "schema tenant_acme does not exist")];
    soil.assert_advised(
        "SET client_min_messages = error; DROP SCHEMA tenant_acme CASCADE",
        &gone,
        "SELECT tenant_delete('{t}')",
    );
}

fn owner_roles_with_excess_rights(db: &Db) {
    let mut soil = Installation::new(db);
    let too_much = [("error", "role {o}", "owner role of a tenant has attributes that an owner role must not have")];
    for attribute in ["LOGIN", "SUPERUSER", "BYPASSRLS", "CREATEDB", "CREATEROLE", "REPLICATION"] {
        let mut expected = too_much.to_vec();
        if ["SUPERUSER", "BYPASSRLS"].contains(&attribute) {
            let problem = "SECURITY DEFINER function of a role that bypasses row-level security";
            expected.insert(0, ("error", "function tenant_acme.counted()", problem));
        }
        soil.assert_repaired(&format!("ALTER ROLE {{o}} {attribute}"), &expected);
    }
    for member in ["app_user", "fluxbase_tenant_user"] {
        let problem = format!("owner role of a tenant has the member {member}");
        soil.assert_repaired(&format!("GRANT {{o}} TO {member}"), &[("error", "role {o}", &problem)]);
    }
}

fn tables_that_lost_their_protection(db: &Db) {
    let mut soil = Installation::new(db);
    let lost = [(
        "error",
        "table tenant_acme.notes",
        "row-level security or the policy tenant_isolation is missing or changed",
    )];
    for seed in [
        "ALTER TABLE tenant_acme.notes DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE tenant_acme.notes NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY tenant_isolation ON tenant_acme.notes",
        "ALTER POLICY tenant_isolation ON tenant_acme.notes USING (true)",
        "ALTER POLICY tenant_isolation ON tenant_acme.notes TO postgres",
        "ALTER POLICY tenant_isolation ON tenant_acme.notes WITH CHECK (true)",
        "ALTER POLICY tenant_isolation ON tenant_acme.notes USING (fluxbase_tenant.accessible(gen_random_uuid()))",
        "ALTER EVENT TRIGGER fluxbase_tenant_after_drop DISABLE; DROP POLICY tenant_isolation ON tenant_acme.notes;
         CREATE POLICY tenant_isolation ON tenant_acme.notes USING (fluxbase_tenant.accessible('{t}'));
         ALTER EVENT TRIGGER fluxbase_tenant_after_drop ENABLE ALWAYS",
    ] {
        soil.assert_repaired(seed, &lost);
    }
}

const DISABLE_TRIGGER: &str = "ALTER EVENT TRIGGER fluxbase_tenant_after_command DISABLE; ";
const ENABLE_TRIGGER: &str = "; ALTER EVENT TRIGGER fluxbase_tenant_after_command ENABLE ALWAYS";

fn relations_that_policies_do_not_cover(db: &Db) {
    let mut soil = Installation::new(db);
    soil.assert_repaired(
        &format!("{DISABLE_TRIGGER} ALTER VIEW tenant_acme.seen RESET (security_invoker) {ENABLE_TRIGGER}"),
        &[("error", "view tenant_acme.seen", "is not security_invoker")],
    );
    let granted = "is granted to fluxbase_tenant_user, which can read its statistics";
    run(
        &mut soil.superuser,
        "CREATE MATERIALIZED VIEW tenant_acme.summary AS SELECT 1 AS n;
         CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w",
    );
    let script = soil.fill(
        "ALTER MATERIALIZED VIEW tenant_acme.summary OWNER TO {o}; GRANT USAGE ON FOREIGN SERVER s TO {o};
         CREATE FOREIGN TABLE tenant_acme.far (n int) SERVER s; ALTER FOREIGN TABLE tenant_acme.far OWNER TO {o}",
    );
    run(&mut soil.superuser, &script);
    soil.assert_repaired(
        "GRANT SELECT ON tenant_acme.summary, tenant_acme.far TO fluxbase_tenant_user",
        &[
            ("error", "foreign table tenant_acme.far", granted),
            ("error", "materialized view tenant_acme.summary", granted),
        ],
    );
    run(&mut soil.superuser, "DROP FOREIGN DATA WRAPPER w CASCADE; DROP MATERIALIZED VIEW tenant_acme.summary");
    soil.assert_advised(
        "CREATE TABLE base (n int); CREATE TABLE tenant_acme.heir () INHERITS (base); ALTER TABLE tenant_acme.heir OWNER TO {o}",
        &[(
            "warning",
            "table tenant_acme.heir",
            "can be read through public.base without its policies: only the executor-start check covers it",
        )],
        "ALTER TABLE tenant_acme.heir NO INHERIT base",
    );
    for (severity, privilege, role) in
        [("warning", "TRUNCATE", "fluxbase_tenant_user"), ("error", "TRIGGER", "app_user")]
    {
        let problem = format!("row-level security does not apply to {privilege}, which is granted to {role}");
        let seed = format!("GRANT {privilege} ON tenant_acme.notes TO {role}");
        soil.assert_repaired(&seed, &[(severity, "table tenant_acme.notes", &problem)]);
    }
}

fn tenants_objects_owned_by_other_roles(db: &Db) {
    let mut soil = Installation::new(db);
    soil.assert_repaired(
        "ALTER TABLE tenant_acme.notes OWNER TO postgres",
        &[("error", "table tenant_acme.notes", "is owned by postgres")],
    );
    soil.assert_repaired(
        "ALTER VIEW tenant_acme.seen OWNER TO app_user",
        &[("error", "view tenant_acme.seen", "is owned by app_user")],
    );
    soil.assert_repaired(
        "GRANT USAGE ON SEQUENCE tenant_acme.notes_id_seq TO fluxbase_tenant_user, PUBLIC",
        &[
            ("error", "sequence tenant_acme.notes_id_seq", "is granted to PUBLIC"),
            ("error", "sequence tenant_acme.notes_id_seq", "is granted to fluxbase_tenant_user"),
        ],
    );
    soil.assert_repaired(
        "ALTER FUNCTION tenant_acme.counted() OWNER TO postgres",
        &[(
            "error",
            "function tenant_acme.counted()",
            "SECURITY DEFINER function of a role that bypasses row-level security",
        )],
    );
    let unpinned = "SECURITY DEFINER function without a search_path of its own";
    soil.assert_repaired(
        "ALTER FUNCTION tenant_acme.counted() RESET ALL",
        &[("warning", "function tenant_acme.counted()", unpinned)],
    );
    soil.assert_repaired(
        "CREATE PROCEDURE tenant_acme.\"Do it\"(n int) LANGUAGE sql SECURITY DEFINER AS 'SELECT n';
         ALTER PROCEDURE tenant_acme.\"Do it\"(int) OWNER TO {o}",
        &[("warning", "function tenant_acme.\"Do it\"(integer)", unpinned)],
    );
}

fn shared_tables_that_lost_their_protection(db: &Db) {
    let mut soil = Installation::new(db);
    let lost = "row-level security or the policy tenant_isolation is missing or changed";
    for seed in [
        "ALTER TABLE jobs DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE jobs NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY tenant_isolation ON jobs",
        "ALTER POLICY tenant_isolation ON jobs USING (true)",
        "ALTER POLICY tenant_isolation ON jobs TO app_user",
        "ALTER POLICY tenant_isolation ON jobs USING (tenant_id = ANY ((SELECT fluxbase_tenant.accessible_tenant_ids())::uuid[]) OR n > 0)",
    ] {
        soil.assert_repaired(seed, &[("error", "table public.jobs", lost)]);
    }
    soil.assert_repaired("ALTER TABLE part NO FORCE ROW LEVEL SECURITY", &[("error", "table public.part", lost)]);
    soil.assert_repaired(
        &format!("{DISABLE_TRIGGER} CREATE TABLE bare PARTITION OF split FOR VALUES IN (2) {ENABLE_TRIGGER}"),
        &[(
            "error",
            "table public.bare",
            "is a partition or child of a shared table but lacks the policy tenant_isolation",
        )],
    );
    soil.assert_advised(
        "CREATE UNIQUE INDEX tells ON jobs (n)",
        &[(
            "warning",
            "index public.tells",
            "is unique across tenants: a violation reveals that another tenant has the value",
        )],
        "DROP INDEX tells; CREATE UNIQUE INDEX tells ON jobs (tenant_id, n)",
    );
}

fn views_that_bypass_the_policies(db: &Db) {
    let mut soil = Installation::new(db);
    let reads = |what: &str| format!("reads {what} with the privileges of postgres, which bypasses row-level security");
    soil.assert_repaired(
        "CREATE VIEW report AS TABLE tenant_acme.notes",
        &[("error", "view public.report", &reads("tenant_acme.notes"))],
    );
    soil.assert_repaired(
        "CREATE VIEW joined AS SELECT n FROM jobs UNION SELECT id FROM tenant_acme.notes",
        &[("error", "view public.joined", &reads("public.jobs, tenant_acme.notes"))],
    );
    soil.assert_repaired(
        "CREATE VIEW around AS TABLE tenant_acme.seen",
        &[("error", "view public.around", &reads("tenant_acme.notes"))],
    );
    soil.assert_repaired(
        "CREATE VIEW inner_one WITH (security_invoker) AS TABLE jobs; CREATE VIEW outer_one AS TABLE inner_one",
        &[("error", "view public.outer_one", &reads("public.jobs"))],
    );
    soil.assert_advised(
        "CREATE MATERIALIZED VIEW kept AS TABLE jobs",
        &[("error", "materialized view public.kept", &reads("public.jobs"))],
        "DROP MATERIALIZED VIEW kept",
    );
}

fn application_roles_that_bypass_policies(db: &Db) {
    let mut soil = Installation::in_cluster(&new_cluster(db));
    for (seed, problem) in [
        ("ALTER ROLE app_server BYPASSRLS", "is used by applications and has BYPASSRLS"),
        ("ALTER ROLE app_server SUPERUSER", "is used by applications and is a superuser"),
    ] {
        soil.assert_repaired(seed, &[("error", "role app_server", problem)]);
    }
    soil.assert_repaired(
        "CREATE ROLE team IN ROLE fluxbase_tenant_admin; CREATE ROLE \"Indirect\" LOGIN BYPASSRLS IN ROLE team",
        &[("error", "role Indirect", "is used by applications and has BYPASSRLS")],
    );
}

fn grants_to_everybody(db: &Db) {
    let mut soil = Installation::new(db);
    for (privilege, object) in [
        ("USAGE", "schema tenant_acme"),
        ("SELECT", "table tenant_acme.notes"),
        ("INSERT", "table tenant_acme.seen"),
        ("SELECT", "table fluxbase_tenant.members"),
        ("USAGE", "schema fluxbase_tenant"),
        ("EXECUTE", "function public.tenant_check()"),
        ("EXECUTE", "function fluxbase_tenant.nextval(regclass)"),
    ] {
        let seed = format!("GRANT {privilege} ON {object} TO PUBLIC");
        soil.assert_repaired(&seed, &[("error", object, "is granted to PUBLIC")]);
    }
}

fn identity_settings_that_anyone_can_set(db: &Db) {
    let mut soil = Installation::in_cluster(&new_cluster(db));
    for (setting, purpose) in [("user_id_setting", "current user"), ("tenant_id_setting", "current tenant")] {
        let problem = format!(
            "determines the {purpose} and can be set by every role that can run SQL: app_admin, app_server, app_user"
        );
        for (source, named) in [("nile.some_id", "nile.some_id"), ("request.jwt.claims:sub", "request.jwt.claims")] {
            soil.assert_advised(
                &format!("ALTER DATABASE {{d}} SET fluxbase_tenant.{setting} = '{source}'"),
                &[("warning", &format!("setting {named}"), &problem)],
                &format!("ALTER DATABASE {{d}} RESET fluxbase_tenant.{setting}"),
            );
            let role = format!("ALTER ROLE app_server SET fluxbase_tenant.{setting} = '{source}'");
            let reset = format!("ALTER ROLE app_server RESET fluxbase_tenant.{setting}");
            soil.assert_advised(&role, &[("warning", &format!("setting {named}"), &problem)], &reset);
        }
    }
    for setting in ["user_id", "tenant_id", "user_id_setting"] {
        let object = format!("setting fluxbase_tenant.{setting}");
        let seed = format!("GRANT SET ON PARAMETER fluxbase_tenant.{setting} TO PUBLIC");
        soil.assert_repaired(&seed, &[("error", &object, "can be set by PUBLIC")]);
    }
}

fn changed_triggers_and_catalog_tables(db: &Db) {
    let mut soil = Installation::new(db);
    let not_always = "is not enabled under every session_replication_role";
    for trigger in ["before_command", "after_command", "after_drop", "after_any_command"]
        .map(|name| format!("fluxbase_tenant_{name}"))
    {
        let object = format!("event trigger {trigger}");
        soil.assert_repaired(&format!("ALTER EVENT TRIGGER {trigger} DISABLE"), &[("error", &object, "is disabled")]);
        soil.assert_repaired(
            &format!("ALTER EVENT TRIGGER {trigger} ENABLE REPLICA"),
            &[("error", &object, "is disabled")],
        );
        soil.assert_repaired(&format!("ALTER EVENT TRIGGER {trigger} ENABLE"), &[("error", &object, not_always)]);
    }
    for table in ["tenants", "members", "instance_admins"] {
        for trigger in ["catalog_changed", "catalog_truncated"] {
            let object = format!("trigger {trigger} on fluxbase_tenant.{table}");
            let expected =
                [("error", &*object, "is missing or disabled: sessions do not notice changes of the catalog")];
            soil.assert_repaired(&format!("ALTER TABLE fluxbase_tenant.{table} DISABLE TRIGGER {trigger}"), &expected);
            soil.assert_repaired(&format!("DROP TRIGGER {trigger} ON fluxbase_tenant.{table}"), &expected);
            let problem = format!("{not_always}: sessions do not notice changes of the catalog");
            let enable = format!("ALTER TABLE fluxbase_tenant.{table} ENABLE TRIGGER {trigger}");
            soil.assert_repaired(&enable, &[("error", &*object, &*problem)]);
        }
        let off = "row-level security is disabled";
        let seed = format!("ALTER TABLE fluxbase_tenant.{table} DISABLE ROW LEVEL SECURITY");
        soil.assert_repaired(&seed, &[("error", &format!("table fluxbase_tenant.{table}"), off)]);
    }
    soil.plant(
        "ALTER EXTENSION fluxbase_tenant DROP EVENT TRIGGER fluxbase_tenant_after_drop;
         DROP EVENT TRIGGER fluxbase_tenant_after_drop",
        &[("error", "event trigger fluxbase_tenant_after_drop", "is missing")],
    );
}

fn library_not_preloaded(db: &Db) {
    let mut soil = Installation::new(db);
    let missing = [(
        "warning",
        "library fluxbase_tenant",
        "is not preloaded: only sessions that have used the extension check LOCK TABLE and calls of functions",
    )];
    soil.assert_repaired("ALTER DATABASE {d} SET session_preload_libraries = 'plpgsql'", &missing);
    let summary = "CREATE MATERIALIZED VIEW tenant_acme.summary AS SELECT 1 AS n;
                   ALTER MATERIALIZED VIEW tenant_acme.summary OWNER TO {o}";
    let uncovered =
        "row-level security does not apply to it: it is accessible only in sessions that have loaded the library";
    let summary = soil.fill(summary);
    run(&mut soil.superuser, &summary);
    let script = soil.fill("ALTER DATABASE {d} SET session_preload_libraries = 'plpgsql'");
    run(&mut soil.superuser, &script);
    let found = findings(&soil.db);
    assert_eq!((&*found[0].severity, &*found[0].object), ("warning", missing[0].1));
    assert_eq!((&*found[1].severity, &*found[1].problem), ("warning", uncovered));
    assert_eq!(found.len(), 2);
}

fn leftover_schemas_and_roles(db: &Db) {
    let mut soil = Installation::in_cluster(&new_cluster(db));
    soil.assert_repaired(
        "DELETE FROM fluxbase_tenant.tenants WHERE id = '{t}'; DELETE FROM fluxbase_tenant.members;
         DELETE FROM fluxbase_tenant.applied_migrations; SET client_min_messages = error;
         DROP SCHEMA tenant_acme CASCADE; CREATE SCHEMA tenant_acme AUTHORIZATION {o}",
        &[("warning", "schema tenant_acme", "is owned by an owner role but belongs to no tenant")],
    );
    soil.assert_repaired(
        "CREATE ROLE fluxbase_tenant_0123456789abcdef0123456789abcdef",
        &[("warning", "role fluxbase_tenant_0123456789abcdef0123456789abcdef", "is the owner role of no tenant")],
    );
}
