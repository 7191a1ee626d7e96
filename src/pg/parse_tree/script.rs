//! Splits a script into statements, with PostgreSQL's parser.

use std::ffi::CString;

use pgrx::PgList;
use pgrx::prelude::*;

use crate::error::{Error, Result};
use crate::pg::{context, single_command};

/// A statement of a script, and what the caller needs to know about it.
pub struct ScriptStatement<'a> {
    /// Without the semicolon.
    pub text: &'a str,
    /// Set for BEGIN, COMMIT and the like.
    pub control: Option<Control>,
    /// Whether it must run outside a transaction.
    pub is_single: bool,
    /// Whether it leaves invalid indexes behind if it fails or is interrupted.
    pub builds_indexes: bool,
    /// Whether it changes a setting for the statements that follow.
    pub is_setting: bool,
    /// Whether it is a utility command, and not a query.
    pub is_command: bool,
    /// Whether it is a COPY from or to the client.
    pub copies_from_client: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Control {
    Begin,
    Commit,
    Other,
}

/// Splits a script into statements. If the script is not valid SQL, raises the parser's error with the line number.
pub fn statements(script: &str) -> Result<Vec<ScriptStatement<'_>>> {
    let c_text = CString::new(script).map_err(|_| Error::internal("script contains a zero byte"))?;
    let list = context::parsing(&c_text, || {
        // SAFETY: a C string. The parser allocates in the current memory context, which outlives this function.
        unsafe { pg_sys::raw_parser(c_text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT) }
    });
    // SAFETY: the parser returns NIL or a list of RawStmt.
    let list = unsafe { PgList::<pg_sys::RawStmt>::from_pg(list) };
    list.iter_ptr()
        .map(|raw| {
            // SAFETY: the list holds RawStmt, each with its position in the text.
            unsafe {
                let (node, start, length) = ((*raw).stmt, (*raw).stmt_location as usize, (*raw).stmt_len as usize);
                let end = if length == 0 { script.len() } else { start + length };
                let text = script
                    .get(start..end)
                    .ok_or_else(|| Error::internal("positions of the parser do not match the script"))?;
                Ok(ScriptStatement {
                    text: text.trim(),
                    control: control(node),
                    is_single: single_command::is_needed(node),
                    builds_indexes: single_command::builds_indexes(node),
                    is_setting: single_command::is_setting(node),
                    is_command: !is_query(node),
                    copies_from_client: copies_from_client(node),
                })
            }
        })
        .collect()
}

/// Reports whether a statement is a query and not a utility command.
///
/// # Safety
/// `node` must be a statement from the parser.
unsafe fn is_query(node: *mut pg_sys::Node) -> bool {
    use pg_sys::NodeTag::*;
    // SAFETY: every node has a tag.
    matches!(unsafe { (*node).type_ }, T_SelectStmt | T_InsertStmt | T_UpdateStmt | T_DeleteStmt | T_MergeStmt)
}

/// Reports whether a statement is a COPY from or to the client.
///
/// # Safety
/// `node` must be a statement from the parser.
unsafe fn copies_from_client(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a node's tag determines its type.
    unsafe { pgrx::is_a(node, pg_sys::NodeTag::T_CopyStmt) && (*node.cast::<pg_sys::CopyStmt>()).filename.is_null() }
}

/// Returns the kind of transaction control, or `None` for any other statement.
///
/// # Safety
/// `node` must be a statement from the parser.
unsafe fn control(node: *mut pg_sys::Node) -> Option<Control> {
    // SAFETY: a node's tag determines its type.
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
