//! Migrations of the fleet, in background workers.

mod crash;
mod interval_properties;
mod migrate_all;
mod standby;

crate::files![crash, interval_properties, migrate_all, standby];
