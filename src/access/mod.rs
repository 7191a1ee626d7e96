//! May they: the permission rules.

mod role;
mod rules;

pub use role::Role;
pub use rules::{
    Access, Need, authorize, has_access, has_role, is_reachable, require_data_access, require_instance_admin,
    require_user, visible_tenant, visible_tenant_ids,
};
