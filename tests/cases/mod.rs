//! One file per promise or threat. A file that is not in `all` and a case that is not in its file's `cases!` are
//! unused code, which the compiler reports.

mod atomicity;
mod catalog_tables;
mod clients;
mod django;
mod docs;
mod drop_extension;
mod dump_restore;
mod fleet;
mod forged_identity;
mod identity;
mod identity_settings;
mod lifecycle;
mod malformed_input;
mod many_tables;
mod members;
mod migration_errors;
mod migration_sandbox;
mod migration_scripts;
mod migrations;
mod outsiders;
mod pooler;
mod races;
mod readme;
mod repair;
mod session;
mod standby;
mod tenants;

use crate::support::Case;

pub fn all() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("atomicity", atomicity::cases()),
        ("catalog_tables", catalog_tables::cases()),
        ("clients", clients::cases()),
        ("django", django::cases()),
        ("docs", docs::cases()),
        ("drop_extension", drop_extension::cases()),
        ("dump_restore", dump_restore::cases()),
        ("fleet", fleet::cases()),
        ("forged_identity", forged_identity::cases()),
        ("identity", identity::cases()),
        ("identity_settings", identity_settings::cases()),
        ("lifecycle", lifecycle::cases()),
        ("malformed_input", malformed_input::cases()),
        ("many_tables", many_tables::cases()),
        ("members", members::cases()),
        ("migration_errors", migration_errors::cases()),
        ("migration_sandbox", migration_sandbox::cases()),
        ("migration_scripts", migration_scripts::cases()),
        ("migrations", migrations::cases()),
        ("outsiders", outsiders::cases()),
        ("pooler", pooler::cases()),
        ("races", races::cases()),
        ("readme", readme::cases()),
        ("repair", repair::cases()),
        ("session", session::cases()),
        ("standby", standby::cases()),
        ("tenants", tenants::cases()),
    ]
}
