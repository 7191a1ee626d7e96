//! What is done to many tenants: a session that asks, background workers that do, a transaction for each tenant.

mod at_commit;
mod job_queue;
mod leader;
mod nontransactional;
mod purge;
mod refill;
mod removal;
mod table_owner;
mod transaction;
mod visit;
mod wait;
mod worker;

pub use leader::{Options, migrate_all};
pub use purge::purge;
pub use refill::after_commit as refill_after_commit;
pub use removal::after_commit as remove_after_commit;
