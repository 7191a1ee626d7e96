//! What the extension needs of the server's C interface, behind safe functions.

pub mod caches;
pub mod catalogs;
pub mod context;
pub mod cursor;
mod deadline;
pub mod defaults;
pub mod dependencies;
mod elevated;
pub mod guc;
mod jsonb;
mod latch;
pub mod lists;
pub mod locks;
mod name;
pub mod nodes;
pub mod parse_tree;
mod portals;
mod released_snapshot;
pub mod roles;
pub mod rows;
pub mod sandbox;
pub mod scan;
pub mod security_context;
pub mod single_command;
mod spi;
mod subtransaction;
pub mod temporary;

pub use deadline::Deadline;
pub use elevated::{Elevated, Snapshot};
pub use jsonb::Jsonb;
pub use latch::pause;
pub use name::Name;
pub use released_snapshot::{ReleasedSnapshot, own_transaction};
pub use security_context::SecurityContext;
pub use spi::{Row, execute, execute_on_latest, query, query_text};
pub use subtransaction::{attempt, attempt_any, rolled_back};
