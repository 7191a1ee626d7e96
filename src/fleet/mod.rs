//! Migrates the whole fleet: a session that asks, background workers that do, a transaction for each tenant.

mod leader;
mod orders;
mod outside;
mod transaction;
mod visit;
mod worker;

pub use leader::{Options, migrate_all};
