//! May they: the permission rules.

mod cache;
mod role;
mod rules;

pub use cache::{Moment, Standing, is_instance_admin};
pub use role::Role;
pub use rules::{
    Access, Need, authorize, has_access, is_active_member_or_instance_admin, is_reachable, is_reached_by_session,
    reachable_tenant_ids, require_data_access, require_instance_admin, require_server_files, require_user, tenants_of,
    visible_tenant, visible_tenant_ids,
};
