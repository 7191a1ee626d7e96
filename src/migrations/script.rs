//! A migration's text: its checksum, and its statements as the server's own parser splits them.

use sha2::{Digest, Sha256};

use crate::catalog::migrations::Migration;
use crate::error::{Error, Result};
use crate::pg::parse_tree::{self, Control, ScriptStatement};

/// SHA-256 of up and down. Line endings do not matter: a checkout on Windows is the same migration.
pub fn checksum(up: &str, down: Option<&str>) -> String {
    let mut hash = Sha256::new();
    hash.update(fold_line_endings(up));
    if let Some(down) = down {
        // A byte that no SQL text holds, so that what moves from one script to the other changes the sum.
        hash.update([0]);
        hash.update(fold_line_endings(down));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn fold_line_endings(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// What a tenant's sandbox runs one after the other.
pub struct Script {
    /// What errors call it.
    label: String,
    pub statements: Vec<Statement>,
}

pub struct Statement {
    pub text: String,
    /// Whether it has to run outside a transaction: only in scripts that are marked so.
    pub is_single: bool,
    /// Whether it leaves invalid indexes where it stops half way.
    pub builds_indexes: bool,
    /// Whether it changes a setting for what follows.
    pub is_setting: bool,
    /// Whether it is a utility command, and not a query.
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

    pub fn place(&self, index: usize) -> String {
        format!("{}, statement {} of {}", self.label, index + 1, self.statements.len())
    }
}

fn label(migration: &Migration) -> String {
    format!("migration version \"{}\" ({})", migration.version, migration.name)
}

/// The statements of a script. BEGIN at its head and COMMIT at its end say what holds anyway and are left out; other
/// transaction control is refused, for a migration commits with its ledger row or not at all.
pub fn statements(text: &str, transactional: bool) -> Result<Vec<Statement>> {
    let mut parsed = parse_tree::statements(text)?;
    if parsed.iter().any(|statement| statement.copies_from_client) {
        return Err(Error::invalid(
            "a migration must not contain COPY to or from the client",
            "Write the rows as INSERT; pg_dump does so with --inserts.",
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
                "Leave out BEGIN, COMMIT, ROLLBACK and SAVEPOINT: a migration runs in one transaction."
            } else {
                "Leave out BEGIN, COMMIT, ROLLBACK and SAVEPOINT: each statement is a transaction of its own."
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

/// Whether there is anything but white space and comments.
pub fn has_statements(text: &str) -> Result<bool> {
    Ok(!parse_tree::statements(text)?.is_empty())
}
