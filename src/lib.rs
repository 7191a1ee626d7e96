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

// The extension's script is these files, in this order: see scripts/schema.sh.
extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
extension_sql_file!("../sql/types.sql", name = "types", requires = ["catalog"]);
extension_sql_file!("../sql/roles.sql", name = "roles", requires = ["types"]);
extension_sql_file!("../sql/functions/internal.sql", name = "internal", requires = ["roles"]);
extension_sql_file!("../sql/functions/session.sql", name = "session", requires = ["internal"]);
extension_sql_file!("../sql/functions/tenants.sql", name = "tenants", requires = ["session"]);
extension_sql_file!("../sql/functions/members.sql", name = "members", requires = ["tenants"]);
extension_sql_file!("../sql/functions/instance_admins.sql", name = "instance_admins", requires = ["members"]);
extension_sql_file!("../sql/functions/migrations.sql", name = "migrations", requires = ["instance_admins"]);
extension_sql_file!("../sql/functions/fleet.sql", name = "fleet", requires = ["migrations"]);
extension_sql_file!("../sql/functions/isolation.sql", name = "isolation", requires = ["fleet"]);
extension_sql_file!("../sql/views.sql", name = "views", requires = ["isolation"]);
extension_sql_file!("../sql/policies.sql", name = "policies", requires = ["views"]);
extension_sql_file!("../sql/triggers.sql", name = "triggers", requires = ["policies"], finalize);

/// Runs when a backend loads the library: at the first call of any function or policy of the extension, or at
/// connection with session_preload_libraries.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    catalog::changes::install();
    isolation::install();
    protection::install();
}
