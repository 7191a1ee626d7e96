//! Migrations: registers scripts, and applies them to one tenant in the order of their versions, as the tenant's owner
//! role in a sandbox. `fleet` applies them to many tenants.

mod apply;
mod constraints;
mod files;
mod lock;
mod markers;
mod register;
mod rollback;
mod sandbox;
mod script;
mod version;

pub use apply::{Nontransactional, Outcome, apply, migrate, replay, target_key};
pub use files::{Loaded, load};
pub use lock::take as take_lock;
pub use markers::Sections;
pub use register::{Registration, being_applied, refuse_applied, register, unregister};
pub use rollback::rollback;
pub use sandbox::{owner, run as run_in_sandbox, search_path};
pub use script::Script;
