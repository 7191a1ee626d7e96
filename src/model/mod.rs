//! What tenants, users and members are made of. A leaf: no SQL, and nothing of the server but its types.

pub mod ids;
mod names;
mod role;
mod standing;
mod status;

pub use names::{Slug, cut, owner_role, tenant_name};
pub use role::Role;
pub use standing::Standing;
pub use status::Status;
