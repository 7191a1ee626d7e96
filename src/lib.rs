//! fluxbase_tenant: multi-tenancy for PostgreSQL.
//!
//! The modules are floors, top first: each knows those below it and none above, which tests/architecture.rs looks after.

mod access;
mod api;
mod catalog;
mod drift;
mod error;
mod fleet;
mod isolation;
mod migrations;
mod model;
mod people;
mod pg;
mod protection;
mod schema;
mod settings;
mod tenants;

use pgrx::prelude::*;

pgrx::pg_module_magic!();

extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
extension_sql_file!("../sql/roles.sql", name = "roles", requires = ["catalog"]);
extension_sql_file!(
    "../sql/security.sql",
    name = "security",
    requires = [
        "roles",
        tenant_is_instance_admin,
        visible_tenant_ids,
        policy_tenant,
        policy_column,
        before_command,
        after_command,
        after_drop,
        after_any_command,
        catalog_changed
    ]
);
extension_sql_file!("../sql/functions.sql", name = "functions", finalize);

/// Runs when a backend loads the library: at the first call of any function or policy of the extension, or at
/// connection with session_preload_libraries.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    catalog::changes::install();
    isolation::install();
    protection::install();
}
