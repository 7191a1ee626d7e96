//! Tenant schemas: named, provisioned, kept apart, mended, dropped.

mod copy;
mod hanging;
mod names;
mod provision;
mod repair;
mod repair_catalog;

pub use copy::copy_rows;
pub use hanging::{close, drop_hanging, drop_with_hanging, hanging, hangs_by_extension, leave_extensions};
pub use names::schema_name;
pub use provision::{create, drop_owner_role, owner_role_is_burdened, owner_role_oid, rename};
pub use repair::{Repaired, repair};
pub use repair_catalog::repair_catalog;
