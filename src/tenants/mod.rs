//! Operations on one tenant. They change the catalog and the tenant's schema together. Those that `api` calls require a
//! permit.

mod clone;
mod create;
pub mod current;
mod deletion;
mod lifecycle;
mod provision;
mod removal;
mod spares;
mod upkeep;

pub use clone::{CloneOptions, clone};
pub use create::{CreateOptions, create};
pub use deletion::{delete, destroy, soft_delete};
pub use lifecycle::{find_by_slug, restore, serialize_defaults, set_default, set_suspended, update};
pub use provision::provision;
pub use removal::rows as rows_of_deleted_tenant;
pub use spares::{Filled, fill, fill_one, is_short, unregister_migration};
pub use upkeep::{migrate, repair, rollback};
