//! Tenant schemas and their owner roles: names, creation, copying, repair and removal.

mod copy;
mod external_dependents;
mod names;
mod own_name;
mod provision;
mod repair;
mod repair_catalog;

pub use copy::copy_rows;
pub use external_dependents::{
    drop_dependents, drop_with_dependents, external_dependents, has_dependents_of_extensions, leave_extensions,
    revoke_access,
};
pub use names::schema_name;
pub use own_name::object_with_own_name;
pub use provision::{create, drop_owner_role, owner_role_has_many_grants, owner_role_oid, rename};
pub use repair::{Repaired, repair};
pub use repair_catalog::repair_catalog;
