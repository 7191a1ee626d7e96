//! Identity and authorization: who is calling, and what the caller may do. The modules above get permits or booleans
//! from this module, and do not decide themselves whether a caller is authorized or a tenant accessible.
//!
//! Several database roles are in play: ARCHITECTURE.md lists them ("Which role is meant").

mod cache;
mod caller;
mod claims;
pub mod owner_roles;
mod permit;
mod rules;
mod sandbox_identity;
pub mod security_definers;

pub use cache::Moment;
pub use caller::{Caller, is_by_foreign_settings, user};
pub use permit::{CreatePermit, Instance, InstancePermit, Leave, Manage, Permit, Repair, See, SoftDelete, UserPermit};
pub use rules::{
    accessible_tenant_ids, authorize, authorize_create, authorize_instance, authorize_user, current_tenant, has_access,
    is_accessible, is_accessible_to_code, is_accessible_to_session, require_server_files, require_usable_status,
    tenants_of, visible_tenant_ids,
};
pub use sandbox_identity::{SandboxIdentity, is_sandboxed};
