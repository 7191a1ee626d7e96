//! Commands as the parser makes them, read without looking anything up.

pub mod alter_table;
pub mod commands;
mod locked_relations;

pub use locked_relations::locked_first;
