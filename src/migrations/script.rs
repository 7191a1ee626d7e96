//! A migration's text: its checksum, and its statements, which PostgreSQL's own parser splits.

use sha2::{Digest, Sha256};

use crate::catalog::migrations::Migration;
use crate::error::{Error, Result};
use crate::pg::parse_tree::{self, Control, ScriptStatement};

/// Returns the SHA-256 of both scripts. Line endings do not matter, so that a checkout on Windows is the same
/// migration.
pub fn checksum(up: &str, down: Option<&str>) -> String {
    let mut hash = Sha256::new();
    hash.update(fold_line_endings(up));
    if let Some(down) = down {
        // A byte that occurs in no SQL text, so that moving a statement from one script to the other changes the
        // checksum.
        hash.update([0]);
        hash.update(fold_line_endings(down));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fold_line_endings(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// A script as a list of statements, which a sandbox runs one after another.
pub struct Script {
    /// The script's name in error messages.
    label: String,
    pub statements: Vec<Statement>,
}

pub struct Statement {
    pub text: String,
    /// Whether the command must run outside a transaction block. Always false in transactional migrations.
    pub is_single: bool,
    /// Whether the command leaves invalid indexes behind if it is interrupted.
    pub builds_indexes: bool,
    /// Whether it changes a setting for the statements after it.
    pub is_setting: bool,
    /// Whether it is a utility command, as opposed to a query.
    pub is_command: bool,
}

impl Script {
    pub fn up(migration: &Migration) -> Result<Self> {
        Ok(Script { label: label(migration), statements: statements(&migration.up, migration.transactional)? })
    }

    pub fn down(migration: &Migration) -> Result<Option<Self>> {
        let Some(down) = &migration.down else {
            return Ok(None);
        };
        let label = format!("{}, down", label(migration));
        Ok(Some(Script { label, statements: statements(down, migration.transactional)? }))
    }

    /// Describes a statement's position, for error messages.
    pub fn place(&self, index: usize) -> String {
        format!("{}, statement {} of {}", self.label, index + 1, self.statements.len())
    }
}

fn label(migration: &Migration) -> String {
    format!("migration version \"{}\" ({})", migration.version, migration.name)
}

/// Splits a script into its statements. In a transactional migration, BEGIN at the beginning and COMMIT at the end are
/// redundant and are removed. Other transaction control is refused, because a migration is committed together with its
/// ledger row.
pub fn statements(text: &str, transactional: bool) -> Result<Vec<Statement>> {
    let mut parsed = parse_tree::statements(text)?;
    if parsed.iter().any(|statement| statement.copies_from_client) {
        return Err(Error::invalid(
            "a migration must not contain COPY to or from the client",
            "Write the rows as INSERT statements, as pg_dump does with --inserts.",
        ));
    }
    let is_in_block = match parsed.as_slice() {
        [first, .., last] => first.control == Some(Control::Begin) && last.control == Some(Control::Commit),
        _ => false,
    };
    if transactional && is_in_block {
        parsed.remove(0);
        parsed.pop();
    }
    if parsed.iter().any(|statement| statement.control.is_some()) {
        return Err(Error::invalid(
            "a migration must not contain transaction control",
            if transactional {
                "Remove BEGIN, COMMIT, ROLLBACK and SAVEPOINT: a migration runs in one transaction."
            } else {
                "Remove BEGIN, COMMIT, ROLLBACK and SAVEPOINT: each statement runs in its own transaction."
            },
        ));
    }
    let statement = |parsed: ScriptStatement| Statement {
        text: parsed.text.to_string(),
        is_single: parsed.is_single && !transactional,
        builds_indexes: parsed.builds_indexes,
        is_setting: parsed.is_setting,
        is_command: parsed.is_command,
    };
    Ok(parsed.into_iter().map(statement).collect())
}

/// Reports whether a text contains anything except white space and comments.
pub fn has_statements(text: &str) -> Result<bool> {
    Ok(!parse_tree::statements(text)?.is_empty())
}
