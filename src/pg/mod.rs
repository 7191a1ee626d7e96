//! What the extension needs of the server's C interface, behind safe functions.

pub mod alone;
pub mod caches;
pub mod context;
mod elevated;
pub mod guc;
mod jsonb;
mod latch;
pub mod lists;
pub mod locks;
mod name;
pub mod roles;
pub mod sandbox;
pub mod scan;
mod spi;
mod subtransaction;
mod unwaited;

pub use elevated::{Elevated, Snapshot};
pub use jsonb::Jsonb;
pub use latch::pause;
pub use name::Name;
pub use spi::{Row, execute, execute_with_triggers_as, query, query_text};
pub use subtransaction::{attempt, rolled_back};
pub use unwaited::Unwaited;
