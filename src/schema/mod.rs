//! Tenant schemas: named, provisioned, kept apart, mended, dropped.

mod names;
mod provision;
mod repair;

pub use names::{Slug, schema_name, tenant_name};
pub use provision::{TABLE_PRIVILEGES, create, drop, owner_role_oid};
pub use repair::{Mend, repair};
