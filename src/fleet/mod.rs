//! What is done to many tenants: a session that asks, background workers that do, a transaction for each tenant.

mod leader;
mod orders;
mod outside;
mod purge;
mod refill;
mod transaction;
mod visit;
mod worker;

pub use leader::{Options, migrate_all};
pub use purge::purge;
pub use refill::after_commit as refill_after_commit;
