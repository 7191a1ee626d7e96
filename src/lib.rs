//! fluxbase_tenant: multi-tenancy for PostgreSQL.
//!
//! The modules form layers, as ARCHITECTURE.md describes: each uses the layers below it and none above.
//! tests/architecture.rs enforces this.

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

// scripts/schema.sh concatenates these files, in this order, into the extension's script.
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

/// Defines the settings and installs the hooks. PostgreSQL calls this when a backend loads the library: at connection
/// start if the library is in session_preload_libraries, else when a function or policy of the extension is first used.
#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    catalog::changes::install();
    isolation::install();
    protection::install();
}
