//! Migrations: registered scripts, applied to tenants in order, each as the tenant's owner and in a sandbox.

mod apply;
mod constraints;
mod register;
mod script;
mod version;

pub use apply::{Outcome, migrate};
pub use register::register;
