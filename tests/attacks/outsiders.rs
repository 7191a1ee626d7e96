//! A caller who is not a member gets the same error from every function, whether or not the tenant exists.

use std::time::{Duration, Instant};

use postgres::Client;
use uuid::Uuid;

use crate::cases;
use crate::support::error::Words;
use crate::support::people::{column, new_user, one, run};
use crate::support::{Db, expect_refusal};

cases![
    every_function_with_a_tenant_argument_is_listed,
    outsiders_cannot_probe_ids,
    outsiders_cannot_probe_slugs,
    outsiders_cannot_probe_the_current_tenant,
    members_of_a_deleted_tenant_are_outsiders,
    anonymous_callers_are_refused_first,
    boolean_functions_return_false,
    outsiders_neither_hold_nor_wait_for_locks,
];

/// `{t}` is the tenant's id. Some calls have invalid arguments: not_found must be reported before the argument is.
const BY_ID: &[&str] = &[
    "tenant_get({t})",
    "tenant_update({t}, 'New')",
    "tenant_update({t}, '')",
    "tenant_update({t}, NULL, '[]')",
    "tenant_delete({t})",
    "tenant_soft_delete({t})",
    "tenant_restore({t})",
    "tenant_suspend({t})",
    "tenant_resume({t})",
    "tenant_set_default({t})",
    "tenant_repair({t})",
    "tenant_assign_admin({t}, gen_random_uuid())",
    "tenant_remove_admin({t}, gen_random_uuid())",
    "tenant_list_admins({t})",
    "tenant_add_member({t}, gen_random_uuid())",
    "tenant_add_member({t}, gen_random_uuid(), 'tenant_admin')",
    "tenant_add_member({t}, gen_random_uuid(), 'no such role')",
    "tenant_remove_member({t}, gen_random_uuid())",
    "tenant_list_members({t})",
    "tenant_leave({t})",
    "tenant_set_current({t})",
    "tenant_set_current({t}::text)",
    "tenant_set_current({t}, true)",
    "tenant_migrate({t})",
    "tenant_migrate({t}, 'no such version')",
    "tenant_migrate({t}, '')",
    "tenant_rollback({t}, '0')",
    "tenant_rollback({t}, '')",
    "tenant_clone({t})",
    "tenant_drift({t})",
    "tenant_clone({t}, 'No Slug', '')",
];

const BY_SLUG: &[&str] =
    &["tenant_get_by_slug({s})", "tenant_set_current({s})", "tenant_set_current({s}, is_local => true)"];

/// Functions that use the current tenant, which the back end has set.
const BY_DEFAULT: &[&str] = &[
    "tenant_get()",
    "tenant_update(name => 'New')",
    "tenant_soft_delete()",
    "tenant_list_admins()",
    "tenant_list_members()",
    "tenant_leave()",
    "tenant_current()",
    "tenant_current_id()",
];

/// Functions that return a boolean.
const BOOLEANS: &[&str] =
    &["tenant_has_access({t})", "tenant_has_role({t}, 'tenant_admin')", "tenant_has_role({t}, 'tenant_member')"];

struct World {
    active: Uuid,
    suspended: Uuid,
    deleted: Uuid,
    /// Admin of their own tenant, `home`.
    outsider: Uuid,
    home: Uuid,
}

impl World {
    fn new(db: &Db) -> World {
        let outsider = new_user();
        let active = db.new_tenant("active", new_user());
        let suspended = db.new_tenant("suspended", new_user());
        let deleted = db.new_tenant("deleted", new_user());
        run(&mut db.admin(), &format!("SELECT tenant_suspend('{suspended}'), tenant_soft_delete('{deleted}')"));
        let home = db.new_tenant("home", outsider);
        run(&mut db.admin(), &format!("SELECT tenant_set_default('{active}')"));
        World { active, suspended, deleted, outsider, home }
    }

    fn existing(&self) -> [Uuid; 3] {
        [self.active, self.suspended, self.deleted]
    }
}

#[track_caller]
fn refused(client: &mut Client, call: &str) -> Words {
    let result = client.query(&format!("SELECT * FROM {call}"), &[]);
    assert!(result.is_err(), "{call} succeeded");
    expect_refusal(result, "not_found").words()
}

#[track_caller]
fn refused_for(client: &mut Client, call: &str, tenant: Uuid) -> Words {
    refused(client, &call.replace("{t}", &format!("'{tenant}'::uuid")))
}

fn every_function_with_a_tenant_argument_is_listed(db: &Db) {
    let with_tenant: Vec<String> = column(
        &mut db.superuser(),
        "SELECT DISTINCT p.proname::text FROM pg_proc p
         JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
         CROSS JOIN LATERAL unnest(p.proargnames[:p.pronargs]) AS argument
         WHERE argument IN ('tenant', 'tenant_id', 'slug', 'source') AND p.pronamespace = 'public'::regnamespace
           AND p.proname <> 'tenant_create' ORDER BY 1",
        &[],
    );
    assert!(with_tenant.len() >= 18, "{with_tenant:?}");
    let listed = |name: &String| {
        let call = format!("{name}(");
        [BY_ID, BY_SLUG, BOOLEANS].iter().flat_map(|list| list.iter()).any(|one| one.starts_with(&call))
    };
    let missing: Vec<&String> = with_tenant.iter().filter(|name| !listed(name)).collect();
    assert!(missing.is_empty(), "not in this file's lists: {missing:?}");
}

fn outsiders_cannot_probe_ids(db: &Db) {
    let world = World::new(db);
    let service = db.as_service(world.home);
    for (client, who) in &mut [(db.as_user(world.outsider), "a user"), (service, "a service context")] {
        for call in BY_ID {
            // A service context has no user and thus no membership to end. That is reported before the tenant is looked
            // up.
            if *who == "a service context" && call.starts_with("tenant_leave") {
                continue;
            }
            let none = refused_for(client, call, Uuid::new_v4());
            assert_eq!(none.message, "tenant not found", "{call}");
            for tenant in world.existing() {
                assert_eq!(refused_for(client, call, tenant), none, "{call} as {who}");
            }
        }
    }
}

fn outsiders_cannot_probe_slugs(db: &Db) {
    let world = World::new(db);
    for client in &mut [db.as_user(world.outsider), db.as_service(world.home)] {
        for call in BY_SLUG {
            let none = refused(client, &call.replace("{s}", "'no-such-slug'"));
            assert_eq!(none.message, "tenant not found", "{call}");
            for slug in ["active", "suspended", "deleted", "", "Not A Slug", "a\nb", "ü"] {
                assert_eq!(refused(client, &call.replace("{s}", &format!("'{slug}'"))), none, "{call} with {slug:?}");
            }
        }
    }
}

fn outsiders_cannot_probe_the_current_tenant(db: &Db) {
    let world = World::new(db);
    let mut client = db.as_user(world.outsider);
    for call in BY_DEFAULT {
        run(&mut client, &format!("SET fluxbase_tenant.tenant_id = '{}'", Uuid::new_v4()));
        let none = refused(&mut client, call);
        for tenant in world.existing() {
            run(&mut client, &format!("SET fluxbase_tenant.tenant_id = '{tenant}'"));
            assert_eq!(refused(&mut client, call), none, "{call}");
        }
    }
}

/// Repeating the deletion still succeeds for a tenant admin, but not for a member.
fn members_of_a_deleted_tenant_are_outsiders(db: &Db) {
    let admin = new_user();
    let tenant = db.new_tenant("acme", admin);
    let member = db.new_member(tenant);
    run(&mut db.admin(), &format!("SELECT tenant_soft_delete('{tenant}')"));
    for client in &mut [db.as_user(admin), db.as_user(member), db.as_service(tenant)] {
        for call in BY_ID.iter().filter(|call| !call.contains("soft_delete") && !call.contains("leave")) {
            let none = refused_for(client, call, Uuid::new_v4());
            assert_eq!(refused_for(client, call, tenant), none, "{call}");
        }
        let none = refused(client, "tenant_get_by_slug('nothing')");
        assert_eq!(refused(client, "tenant_get_by_slug('acme')"), none);
    }
    assert_eq!(
        refused_for(&mut db.as_user(member), "tenant_soft_delete({t})", tenant),
        refused_for(&mut db.as_user(member), "tenant_soft_delete({t})", Uuid::new_v4())
    );
}

fn anonymous_callers_are_refused_first(db: &Db) {
    let world = World::new(db);
    for mut client in [db.server(), db.user_role()] {
        for call in BY_ID {
            for tenant in [world.active, world.suspended, world.deleted, Uuid::new_v4()] {
                let call = call.replace("{t}", &format!("'{tenant}'::uuid"));
                let result = client.query(&format!("SELECT * FROM {call}"), &[]);
                expect_refusal(result, "unauthenticated").message("no current user");
            }
        }
        for call in BY_SLUG {
            for slug in ["active", "deleted", "no-such-slug", ""] {
                let call = call.replace("{s}", &format!("'{slug}'"));
                expect_refusal(client.query(&format!("SELECT * FROM {call}"), &[]), "unauthenticated");
            }
        }
    }
}

fn boolean_functions_return_false(db: &Db) {
    let world = World::new(db);
    for client in &mut [db.as_user(world.outsider), db.as_service(world.home), db.server(), db.user_role()] {
        for template in BOOLEANS {
            for tenant in [world.active, world.suspended, world.deleted, Uuid::new_v4()] {
                let call = template.replace("{t}", &format!("'{tenant}'"));
                assert!(!one::<bool>(client, &format!("SELECT {call}"), &[]), "{call}");
            }
        }
    }
}

fn outsiders_neither_hold_nor_wait_for_locks(db: &Db) {
    let world = World::new(db);
    let mut admin = db.admin();
    run(&mut admin, &format!("BEGIN; SELECT tenant_update('{}', 'Locked')", world.active));
    let mut outsider = db.as_user(world.outsider);
    run(&mut outsider, "SET statement_timeout = '20s'");
    let begun = Instant::now();
    for call in BY_ID {
        refused_for(&mut outsider, call, world.active);
    }
    assert!(begun.elapsed() < Duration::from_secs(15));
    run(&mut admin, "ROLLBACK; SET statement_timeout = '20s'");

    // A refused call inside an open transaction keeps no lock.
    run(&mut outsider, "BEGIN");
    for call in BY_ID {
        run(&mut outsider, "SAVEPOINT before");
        refused_for(&mut outsider, call, world.active);
        run(&mut outsider, "ROLLBACK TO before");
    }
    run(&mut admin, &format!("SELECT tenant_update('{}', 'Free')", world.active));
}
