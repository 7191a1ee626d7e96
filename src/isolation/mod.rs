//! Keeps tenants apart: policies on every table from its birth, and checks where a query starts, so that the policies
//! cost nothing per row.

pub mod before_command;
mod check;
pub mod commands;
mod cursors;
pub mod ddl;
pub mod dependents;
mod hooks;
mod named_relations;
mod pinned;
mod planner;
mod plans;
pub mod policies;
pub mod recognize;
mod relations;
pub mod sequences;
pub mod shared;
pub mod support;

use crate::settings;

pub use hooks::in_force;

/// Once per backend, from _PG_init.
pub fn install() {
    hooks::install();
    settings::on_identity_change(cursors::identity_changes);
}
