//! fluxbase_tenant: multi-tenancy for PostgreSQL. Data goes one way:
//! SQL surface (`api`) -> who is calling (`identity`) -> may they (`access`) -> `catalog` -> tenant `schema` and `migrate`.

mod access;
mod api;
mod catalog;
mod drift;
mod error;
mod fleet;
mod identity;
mod ids;
mod isolation;
mod membership;
mod migrate;
mod pg;
mod schema;
mod session;
mod settings;
mod tenancy;

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
}
