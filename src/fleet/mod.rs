//! Operations on many tenants, run by background workers in one transaction per tenant.
//!
//! In a fleet run and in a purge the calling session is the leader: it starts the workers and waits for them. The
//! workers for removals and for spare tenants start when the transaction that requested them commits, and no session
//! waits for them.

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
