//! One file per promise or threat. A file that is not in `all` and a case that is not in its file's `cases!` are
//! unused code, which the compiler reports.

mod atomicity;
mod attacks_identity;
mod attacks_migrations;
mod attacks_oracles;
mod attacks_planted_code;
mod attacks_pools;
mod attacks_reads_writes;
mod cached_access;
mod cached_own_changes;
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
mod nothing_per_row;
mod outsiders;
mod policies_at_birth;
mod policies_stay;
mod pooler;
mod query_paths;
mod races;
mod readme;
mod repair;
mod self_audit;
mod session;
mod shared_table_access;
mod shared_tables;
mod standby;
mod tenants;
mod unchained_hook;

use crate::support::Case;

pub fn all() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("atomicity", atomicity::cases()),
        ("attacks_identity", attacks_identity::cases()),
        ("attacks_migrations", attacks_migrations::cases()),
        ("attacks_oracles", attacks_oracles::cases()),
        ("attacks_planted_code", attacks_planted_code::cases()),
        ("attacks_pools", attacks_pools::cases()),
        ("attacks_reads_writes", attacks_reads_writes::cases()),
        ("cached_access", cached_access::cases()),
        ("cached_own_changes", cached_own_changes::cases()),
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
        ("nothing_per_row", nothing_per_row::cases()),
        ("outsiders", outsiders::cases()),
        ("policies_at_birth", policies_at_birth::cases()),
        ("policies_stay", policies_stay::cases()),
        ("pooler", pooler::cases()),
        ("query_paths", query_paths::cases()),
        ("races", races::cases()),
        ("readme", readme::cases()),
        ("repair", repair::cases()),
        ("self_audit", self_audit::cases()),
        ("session", session::cases()),
        ("shared_table_access", shared_table_access::cases()),
        ("shared_tables", shared_tables::cases()),
        ("standby", standby::cases()),
        ("tenants", tenants::cases()),
        ("unchained_hook", unchained_hook::cases()),
    ]
}
