//! A migration's text: its checksum, and its statements as the server's own parser splits them.

use std::ffi::CString;

use pgrx::PgList;
use pgrx::prelude::*;
use sha2::{Digest, Sha256};

use crate::catalog::migrations::Migration;
use crate::error::{Error, Result};
use crate::pg::{context, single_command};

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
    pub alone: bool,
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
    let mut parsed = parse(text)?;
    if transactional && let [(_, Some(Control::Begin)), .., (_, Some(Control::Commit))] = parsed.as_slice() {
        parsed.remove(0);
        parsed.pop();
    }
    if parsed.iter().any(|(_, control)| control.is_some()) {
        return Err(Error::invalid(
            "a migration must not contain transaction control",
            if transactional {
                "Leave out BEGIN, COMMIT, ROLLBACK and SAVEPOINT: a migration runs in one transaction."
            } else {
                "Leave out BEGIN, COMMIT, ROLLBACK and SAVEPOINT: each statement is a transaction of its own."
            },
        ));
    }
    let mut statements: Vec<Statement> = parsed.into_iter().map(|(statement, _)| statement).collect();
    statements.iter_mut().for_each(|statement| statement.alone &= !transactional);
    Ok(statements)
}

/// Whether there is anything but white space and comments.
pub fn has_statements(text: &str) -> Result<bool> {
    Ok(!parse(text)?.is_empty())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Control {
    Begin,
    Commit,
    Other,
}

/// Raises the parser's own error, with its line, for what is not SQL.
fn parse(text: &str) -> Result<Vec<(Statement, Option<Control>)>> {
    let c_text = CString::new(text).map_err(|_| Error::internal("a zero byte in a migration"))?;
    let list = context::parsing(&c_text, || {
        // SAFETY: a C string; the parser allocates in the current memory context, which outlives this function.
        unsafe { pg_sys::raw_parser(c_text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT) }
    });
    // SAFETY: a list of what the parser promises, or none.
    let list = unsafe { PgList::<pg_sys::RawStmt>::from_pg(list) };
    list.iter_ptr()
        .map(|raw| {
            // SAFETY: a list of RawStmt as the parser promises, each with its place in the text.
            let (start, length, control, statement) = unsafe {
                let (node, place) = ((*raw).stmt, (*raw).stmt_location as usize);
                refuse_client_copy(node)?;
                let statement = Statement {
                    text: String::new(),
                    alone: single_command::is_needed(node),
                    builds_indexes: single_command::builds_indexes(node),
                    is_setting: single_command::is_setting(node),
                    is_command: !is_query(node),
                };
                (place, (*raw).stmt_len as usize, control(node), statement)
            };
            let end = if length == 0 { text.len() } else { start + length };
            text.get(start..end)
                .map(|part| (Statement { text: part.trim().to_string(), ..statement }, control))
                .ok_or_else(|| Error::internal("the parser's positions do not fit the text"))
        })
        .collect()
}

/// # Safety
/// `node` is a statement made by the parser.
unsafe fn is_query(node: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: every node has a tag.
    matches!(unsafe { (*node).type_ }, T_SelectStmt | T_InsertStmt | T_UpdateStmt | T_DeleteStmt | T_MergeStmt)
}

/// COPY FROM STDIN has its data outside the statement, where a migration has nothing.
///
/// # Safety
/// `node` is a statement made by the parser.
unsafe fn refuse_client_copy(node: *mut pg_sys::Node) -> Result<()> {
    // SAFETY: the tag tells the node's type.
    let from_client = unsafe {
        pgrx::is_a(node, pg_sys::NodeTag::T_CopyStmt) && (*node.cast::<pg_sys::CopyStmt>()).filename.is_null()
    };
    if from_client {
        return Err(Error::invalid(
            "a migration must not contain COPY to or from the client",
            "Write the rows as INSERT; pg_dump does so with --inserts.",
        ));
    }
    Ok(())
}

/// # Safety
/// `node` is a statement made by the parser.
unsafe fn control(node: *mut pg_sys::Node) -> Option<Control> {
    // SAFETY: the tag tells the node's type.
    unsafe {
        if !pgrx::is_a(node, pg_sys::NodeTag::T_TransactionStmt) {
            return None;
        }
        use pg_sys::TransactionStmtKind::*;
        Some(match (*node.cast::<pg_sys::TransactionStmt>()).kind {
            TRANS_STMT_BEGIN | TRANS_STMT_START => Control::Begin,
            TRANS_STMT_COMMIT => Control::Commit,
            _ => Control::Other,
        })
    }
}
