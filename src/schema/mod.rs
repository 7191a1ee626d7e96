//! Tenant schemas: named, provisioned, kept apart, mended, dropped.

mod grants;
mod names;
mod provision;
mod repair;

pub use grants::refuse_beyond_policies;
pub use names::{Slug, schema_name, tenant_name};
pub use provision::{TABLE_PRIVILEGES, create, drop, owner_role_oid};
pub use repair::{Mend, repair};
