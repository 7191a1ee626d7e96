//! Keeps tenants apart: policies on every table from its birth, and checks where a query starts, so that the policies
//! cost nothing per row.

mod barrier;
pub mod before_command;
mod calls;
mod check;
pub mod commands;
mod cursors;
pub mod ddl;
pub mod dependents;
mod hooks;
mod inlined;
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

use crate::pg::caches;
use crate::settings;

pub use hooks::in_force;

/// Once per backend, from _PG_init.
pub fn install() {
    hooks::install();
    settings::on_identity_change(|change| {
        cursors::identity_changes(change);
        caches::forget_folded();
    });
}
