//! Operations on many tenants, run by background workers. A tenant takes one transaction, unless it has
//! nontransactional migrations or an attempt is repeated.
//!
//! In a fleet run and in a purge the calling session is the leader: it starts the workers and waits for them. The
//! workers for removals and for spare tenants are requested by a transaction and start working when it has ended, and
//! no session waits for them.

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
