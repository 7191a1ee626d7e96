//! Isolates tenants when queries run. The executor-start check examines every relation when a plan starts, so that the
//! policies cost nothing per row. `protection` covers the commands that create or change objects.

mod catalog_barrier;
pub mod check;
pub mod held_cursors;
mod hook_probe;
mod hooks;
mod inlined_functions;
mod lift_policies;
mod pinned_schema;
pub mod planner_support;
mod range_table;
mod refusal;
mod running_functions;
pub mod tenant_of;

use crate::pg::caches;
use crate::settings;

pub use hook_probe::in_force;
pub use hooks::forget_start;
pub use pinned_schema::Pinned;
pub use range_table::Use;
pub use refusal::{Raise, require_access, require_owner_of_shared_table};

/// Installs the hooks. Called once per backend, from `_PG_init`.
pub fn install() {
    hooks::install();
    settings::on_identity_change(|change| {
        held_cursors::on_identity_change(change);
        caches::forget_folded();
    });
}
