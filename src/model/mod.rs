//! The types that describe tenants, users and members. This is the lowest layer: it runs no SQL and uses only the data
//! types of PostgreSQL.

pub mod ids;
mod names;
mod role;
mod standing;
mod status;

pub use names::{Slug, cut, owner_role, tenant_name};
pub use role::Role;
pub use standing::Standing;
pub use status::Status;
