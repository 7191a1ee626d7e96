//! Callers can read the catalog tables as far as they may see the tenants. No role can write to them.

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_error};

cases![
    users_see_their_own_tenants,
    deleted_tenants_are_visible_to_instance_admins,
    migrations_and_instance_admins_are_visible_to_instance_admins,
    no_role_writes,
    internal_table_cannot_be_read,
    every_catalog_table_has_row_security,
    constraints_apply_to_superusers_too,
];

const TABLES: &[&str] = &[
    "tenants",
    "members",
    "instance_admins",
    "migrations",
    "applied_migrations",
    "unfinished_migrations",
    "fleet_runs",
    "fleet_results",
    "tenant_limit",
    "shared_tables",
    "removals",
];

#[track_caller]
fn seen(client: &mut Client, table: &str) -> Vec<Uuid> {
    let id = if table == "tenants" { "id" } else { "tenant_id" };
    column(client, &format!("SELECT DISTINCT {id} FROM fluxbase_tenant.{table} ORDER BY 1"), &[])
}

fn users_see_their_own_tenants(db: &Db) {
    db.add_migration("1", "CREATE TABLE notes (body text)");
    let (me, other) = (new_user(), new_user());
    let (a, b, c) = (db.new_tenant("a", me), db.new_tenant("b", other), db.new_tenant("c", other));
    run(&mut db.admin(), &format!("SELECT tenant_add_member('{b}', '{me}')"));
    for table in ["tenants", "members", "applied_migrations"] {
        assert_eq!(seen(&mut db.as_user(me), table), [a, b], "{table}");
        assert_eq!(seen(&mut db.as_user(other), table), [b, c], "{table}");
        assert_eq!(seen(&mut db.as_service(c), table), [c], "{table}");
        for mut all in [db.admin(), db.superuser()] {
            assert_eq!(seen(&mut all, table), [a, b, c], "{table}");
        }
        let superuser_acting_as_user = &mut db.superuser();
        db.act_as(superuser_acting_as_user, Some(me));
        run(superuser_acting_as_user, "SET ROLE app_admin");
        assert_eq!(seen(superuser_acting_as_user, table), [a, b], "{table}");
        for mut none in [db.as_user(new_user()), db.server(), db.user_role(), db.as_service(Uuid::new_v4())] {
            assert!(seen(&mut none, table).is_empty(), "{table}");
        }
    }
    let members: Vec<Uuid> =
        column(&mut db.as_user(me), "SELECT user_id FROM fluxbase_tenant.members WHERE tenant_id = $1", &[&b]);
    assert_eq!(members, [other, me]);
}

fn deleted_tenants_are_visible_to_instance_admins(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{id}')"));
    for table in ["tenants", "members"] {
        assert!(seen(&mut db.as_user(user), table).is_empty(), "{table}");
        assert!(seen(&mut db.as_service(id), table).is_empty(), "{table}");
        assert_eq!(seen(&mut db.admin(), table), [id], "{table}");
    }
}

fn migrations_and_instance_admins_are_visible_to_instance_admins(db: &Db) {
    db.add_migration("1", "SELECT 1");
    let boss = new_user();
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{boss}')"));
    let id = db.new_tenant("acme", new_user());
    for table in ["migrations", "instance_admins"] {
        let count = format!("SELECT count(*) FROM fluxbase_tenant.{table}");
        for mut all in [db.admin(), db.as_user(boss), db.superuser()] {
            assert_eq!(one::<i64>(&mut all, &count, &[]), 1, "{table}");
        }
        for mut none in [db.as_user(new_user()), db.as_service(id), db.server(), db.user_role()] {
            assert_eq!(one::<i64>(&mut none, &count, &[]), 0, "{table}");
        }
    }
}

fn no_role_writes(db: &Db) {
    let user = new_user();
    let id = db.new_tenant("acme", user);
    let boss = new_user();
    run(&mut db.admin(), &format!("SELECT tenant_grant_instance_admin('{boss}')"));
    for client in &mut [db.as_user(user), db.as_service(id), db.as_user(boss), db.admin(), db.server(), db.user_role()]
    {
        for table in TABLES {
            let column: String = one(
                &mut db.superuser(),
                "SELECT attname::text FROM pg_attribute
                 WHERE attrelid = ('fluxbase_tenant.' || $1)::regclass AND attnum = 1",
                &[table],
            );
            for sql in [
                format!("INSERT INTO fluxbase_tenant.{table} DEFAULT VALUES"),
                format!("UPDATE fluxbase_tenant.{table} SET {column} = {column}"),
                format!("DELETE FROM fluxbase_tenant.{table}"),
                format!("TRUNCATE fluxbase_tenant.{table}"),
                format!("LOCK fluxbase_tenant.{table} IN ACCESS EXCLUSIVE MODE"),
                format!("ALTER TABLE fluxbase_tenant.{table} DISABLE ROW LEVEL SECURITY"),
                format!("DROP TABLE fluxbase_tenant.{table}"),
                format!("CREATE TRIGGER t BEFORE INSERT ON fluxbase_tenant.{table} EXECUTE FUNCTION f()"),
            ] {
                let result = client.batch_execute(&format!("BEGIN; {sql}"));
                // The missing trigger function may be reported first.
                assert!(result.is_err(), "{sql}");
                if !sql.starts_with("CREATE") {
                    expect_error(result, "42501");
                }
                run(client, "ROLLBACK");
            }
        }
        expect_error(client.batch_execute("CREATE TABLE fluxbase_tenant.mine ()"), "42501");
        expect_error(client.batch_execute("CREATE TABLE tenant_acme.mine ()"), "42501");
        expect_error(client.batch_execute("DROP SCHEMA tenant_acme"), "42501");
    }
}

fn internal_table_cannot_be_read(db: &Db) {
    for mut client in [db.admin(), db.server(), db.user_role()] {
        expect_error(client.query("SELECT * FROM fluxbase_tenant.tenant_limit", &[]), "42501");
    }
}

fn every_catalog_table_has_row_security(db: &Db) {
    let open: Vec<String> = column(
        &mut db.superuser(),
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'fluxbase_tenant'::regnamespace AND relkind = 'r'
         AND NOT relrowsecurity",
        &[],
    );
    assert!(open.is_empty(), "{open:?}");
    let tables: Vec<String> = column(
        &mut db.superuser(),
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'fluxbase_tenant'::regnamespace AND relkind = 'r'",
        &[],
    );
    let listed = tables.iter().all(|table| TABLES.contains(&table.as_str()));
    assert!(listed, "a catalog table is not in this file's list: {tables:?}");
}

fn constraints_apply_to_superusers_too(db: &Db) {
    let id = db.new_tenant("acme", new_user());
    let mut superuser = db.superuser();
    for (sql, sqlstate) in [
        ("UPDATE fluxbase_tenant.tenants SET slug = 'Not A Slug'", "23514"),
        ("UPDATE fluxbase_tenant.tenants SET name = ''", "23514"),
        ("UPDATE fluxbase_tenant.tenants SET metadata = '[]'", "23514"),
        ("UPDATE fluxbase_tenant.tenants SET is_default = true, deleted_at = now()", "23514"),
        ("UPDATE fluxbase_tenant.members SET role = 'owner'", "23514"),
        ("INSERT INTO fluxbase_tenant.tenant_limit VALUES (false)", "23514"),
        (
            "INSERT INTO fluxbase_tenant.tenants (id, slug, name, schema_name)
             SELECT gen_random_uuid(), slug, name, 'other' FROM fluxbase_tenant.tenants",
            "23505",
        ),
        (
            "INSERT INTO fluxbase_tenant.tenants (id, slug, name, schema_name)
             SELECT gen_random_uuid(), 'other', name, schema_name FROM fluxbase_tenant.tenants",
            "23505",
        ),
    ] {
        expect_error(superuser.batch_execute(sql), sqlstate);
    }
    assert_eq!(one::<String>(&mut superuser, "SELECT slug FROM tenant_get($1)", &[&id]), "acme");
}
