//! Isolates tenants when objects are created and changed. Gives every table of a tenant its policies when it is
//! created, and refuses commands that would weaken them or affect another role's objects. `isolation` does the same for
//! queries.

pub mod before_command;
pub mod dependents;
pub mod event_triggers;
mod grant_watch;
pub mod grants;
mod own_ddl;
pub mod ownership;
pub mod policies;
pub mod policy_conditions;
mod process_utility;
pub mod sequences;
mod session_commands;
pub mod shared_tables;

pub use grant_watch::Watch;
pub use own_ddl::OwnDdl;
pub use process_utility::install;
