//! Reads commands as the parser returns them, and looks up the objects that they name, without locking these.

pub mod alter_table;
pub mod commands;
mod locked_relations;
mod relation_name;
mod script;
mod statement;

pub use relation_name::{RelationName, relation_of_name};
pub use script::{Control, ScriptStatement, statements};
pub use statement::{Objects, Statement};
