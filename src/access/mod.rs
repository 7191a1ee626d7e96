//! May they: the permission rules.

mod cache;
mod role;
mod rules;

pub use cache::{Standing, is_instance_admin};
pub use role::Role;
pub use rules::{
    Access, Need, authorize, has_access, is_reachable, reachable_tenant_ids, require_data_access,
    require_instance_admin, require_server_files, require_user, visible_tenant, visible_tenant_ids,
};
