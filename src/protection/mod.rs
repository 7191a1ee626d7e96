//! Keeps tenants apart when objects are made and changed: policies on every table from its birth, and commands that are
//! refused.

pub mod before_command;
pub mod dependents;
pub mod event_triggers;
mod grant_watch;
pub mod grants;
mod own_ddl;
pub mod policies;
pub mod policy_conditions;
mod process_utility;
pub mod sequences;
pub mod shared_tables;

pub use grant_watch::Watch;
pub use own_ddl::OwnDdl;
pub use process_utility::install;
