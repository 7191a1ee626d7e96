//! Channels that PostgreSQL provides per role or per database, where no policy separates tenants. tenant_check()
//! reports them.

use crate::cases;
use crate::support::people::{column, new_user, one, run};
use crate::support::scene::Scene;
use crate::support::{Db, expect_error};

cases![large_objects_of_application_roles, columns_that_refer_to_large_objects, comments_by_name];

const FOUND: &str =
    "SELECT severity || ' ' || object FROM tenant_check() WHERE object LIKE '%large%' OR problem LIKE '%large%'";

fn large_objects_of_application_roles(db: &Db) {
    db.new_tenant("acme", new_user());
    assert_eq!(column::<String>(&mut db.admin(), FOUND, &[]), [""; 0]);
    let mut client = db.as_user(new_user());
    let object: u32 = one(&mut client, "SELECT lo_from_bytea(0, 'secret of acme')", &[]);
    assert_eq!(column::<String>(&mut db.admin(), FOUND, &[]), ["warning large objects of app_server"]);
    // PostgreSQL refuses this: the object belongs to another role.
    expect_error(db.user_role().query("SELECT lo_get($1)", &[&object]), "42501");
    run(&mut client, &format!("SELECT lo_unlink({object})"));
    assert_eq!(column::<String>(&mut db.admin(), FOUND, &[]), [""; 0]);
    // Only superusers can read large objects of a superuser, so they are not reported.
    run(&mut db.superuser(), "SELECT lo_create(0)");
    assert_eq!(column::<String>(&mut db.admin(), FOUND, &[]), [""; 0]);
}

fn columns_that_refer_to_large_objects(db: &Db) {
    db.add_migration("1", "CREATE TABLE files (name text, content oid); CREATE TABLE kept (name text, content bytea)");
    db.new_tenant("acme", new_user());
    assert_eq!(column::<String>(&mut db.admin(), FOUND, &[]), ["warning column tenant_acme.files.content"]);
}

fn comments_by_name(db: &Db) {
    let scene = Scene::set(db);
    for schema in ["victim", "thief"] {
        run(&mut db.superuser(), &format!("COMMENT ON TABLE tenant_{schema}.notes IS 'plan'"));
    }
    scene.assert_refused_on_victim_only("SELECT obj_description('{}.notes'::regclass)");
}
