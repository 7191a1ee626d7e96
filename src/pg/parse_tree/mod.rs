//! Commands as the parser makes them, read without looking anything up.

pub mod alter_table;
pub mod commands;
mod locked_relations;
mod relation_name;
mod script;
mod statement;

pub use relation_name::{RelationName, relation_of_name};
pub use script::{Control, ScriptStatement, statements};
pub use statement::{Objects, Statement};
