//! Migrations of all tenants, in workers.

mod crash;
mod migrate_all;
mod standby;

crate::files![crash, migrate_all, standby];
