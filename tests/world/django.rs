//! Migrations that were not written for this extension: the SQL that Django generates for its own apps creates the
//! tables of every tenant schema.

use uuid::Uuid;

use crate::cases;
use crate::support::cluster::SUPERUSER;
use crate::support::database::APP_SERVER;
use crate::support::people::{column, new_user, one, reached, run};
use crate::support::{Db, paths};

cases![django_apps_work_in_tenant_schemas];

/// Runs sqlmigrate.py and returns its output.
#[track_caller]
fn django(db: &Db, role: &str, what: &str, environment: &[(&str, &str)]) -> String {
    let mut python = db.command("python3");
    python.arg(paths::client_suite("django").join("sqlmigrate.py")).arg(what).env("PGUSER", role);
    python.env("PYTHONPATH", paths::private().join("python")).env("PYTHONDONTWRITEBYTECODE", "1");
    python.envs(environment.iter().copied());
    let ran = python.output().unwrap_or_else(|e| panic!("cannot run {python:?}: {e}"));
    assert!(ran.status.success(), "{python:?} failed:\n{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("Django prints UTF-8")
}

/// Lists the columns, constraints and indexes of a schema, without the schema's name.
fn shape(db: &Db, schema: &str) -> Vec<String> {
    let of_schema = column(
        &mut db.superuser(),
        "SELECT format('column %s.%s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                       a.attidentity)
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
         WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r' AND c.relname <> 'django_migrations'
         UNION ALL
         SELECT format('constraint %s %s', conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint
         WHERE connamespace = $1::text::regnamespace AND conrelid::regclass::text !~ 'django_migrations'
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename <> 'django_migrations'
         ORDER BY 1",
        &[&schema],
    );
    of_schema.into_iter().map(|line: String| line.replace(&format!("{schema}."), "")).collect()
}

fn django_apps_work_in_tenant_schemas(db: &Db) {
    let plain = Db::empty(&db.cluster);
    let printed = django(&plain, SUPERUSER, "sql", &[]);
    let migrations: Vec<(String, String, String)> = serde_json::from_str(&printed).expect("a list of migrations");
    assert!(migrations.len() >= 18, "{} migrations", migrations.len());
    for (version, name, sql) in &migrations {
        let add = "SELECT version FROM tenant_migration_add($1, $2, $3)";
        assert_eq!(&one::<String>(&mut db.admin(), add, &[version, name, sql]), version, "{name}");
    }

    django(&plain, SUPERUSER, "migrate", &[]);
    let expected = shape(&plain, "public");
    assert!(expected.len() > 80, "{expected:#?}");
    let users = [new_user(), new_user()];
    let tenants = [db.new_tenant("first", users[0]), db.new_tenant("second", users[1])];
    for (slug, id) in ["first", "second"].iter().zip(tenants) {
        assert_eq!(shape(db, &format!("tenant_{slug}")), expected, "the schema that Django itself creates");
        let ledger: i64 = one(
            &mut db.superuser(),
            "SELECT count(*) FROM fluxbase_tenant.applied_migrations WHERE tenant_id = $1",
            &[&id],
        );
        assert_eq!(ledger, migrations.len() as i64);
        assert!(column::<String>(&mut db.admin(), "SELECT problem FROM tenant_repair($1)", &[&id]).is_empty());
    }
    django_models_work(db, "first", users[0]);
    assert_eq!(reached(&mut db.as_user(users[0]), "tenant_first.auth_group"), 1);
    assert_eq!(reached(&mut db.as_user(users[1]), "tenant_second.auth_group"), 0);
    assert_eq!(reached(&mut db.as_user(users[1]), "tenant_first.auth_group"), 0);
    run(&mut db.admin(), &format!("SELECT tenant_delete('{}')", tenants[0]));
}

fn django_models_work(db: &Db, slug: &str, user: Uuid) {
    let environment = [("DJANGO_TENANT", slug), ("DJANGO_TENANT_USER", &user.to_string())];
    assert_eq!(django(db, APP_SERVER, "use", &environment).trim(), "0 1");
}
