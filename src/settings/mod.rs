//! The extension's settings. All reads of them go through this module.

mod define;
mod identity;
mod values;

pub use define::define;
pub use identity::{Change, choice, choose, identity_changes, on_identity_change, share_choice};
pub use values::{
    CHOICE, Choice, CreatePolicy, DefaultTenant, MAX_SPARES, PATHS, Paths, SANDBOX, SchemaNaming, TENANT_ID, USER_ID,
    create_policy, default_tenant, foreign_tenant_id_setting, foreign_user_id_setting, max_tenants, sandbox,
    schema_naming, schema_prefix, spare_tenants, tenant_id, tenant_id_setting, user_id, user_id_setting,
};
