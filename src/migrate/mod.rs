//! Migrations: registered scripts, applied to tenants in order, each as the tenant's owner and in a sandbox.

mod apply;
mod constraints;
mod register;
mod script;
mod version;

pub use apply::{Outcome, migrate, target_key};
pub use register::{register, unregister};
