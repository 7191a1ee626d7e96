//! Commands that PostgreSQL refuses inside a transaction block, such as CREATE INDEX CONCURRENTLY and VACUUM.

use std::ffi::CString;

use pgrx::PgList;
use pgrx::prelude::*;

use crate::error::{Error, Result};

/// Reports whether a statement must run as a single command, outside a transaction block.
///
/// # Safety
/// `node` must be a statement from the parser.
pub unsafe fn is_needed(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a node's tag determines its type.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_IndexStmt => (*node.cast::<pg_sys::IndexStmt>()).concurrent,
            pg_sys::NodeTag::T_DropStmt => (*node.cast::<pg_sys::DropStmt>()).concurrent,
            pg_sys::NodeTag::T_VacuumStmt => (*node.cast::<pg_sys::VacuumStmt>()).is_vacuumcmd,
            pg_sys::NodeTag::T_ReindexStmt | pg_sys::NodeTag::T_ClusterStmt => true,
            // Inside a transaction, the setting would end with it.
            pg_sys::NodeTag::T_VariableSetStmt => is_setting(node),
            pg_sys::NodeTag::T_AlterTableStmt => detached_concurrently(node.cast()).is_some(),
            _ => false,
        }
    }
}

/// Reports whether a statement is SET for the session, or RESET.
///
/// # Safety
/// `node` must be a statement from the parser.
pub unsafe fn is_setting(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a node's tag determines its type.
    unsafe {
        pgrx::is_a(node, pg_sys::NodeTag::T_VariableSetStmt) && !(*node.cast::<pg_sys::VariableSetStmt>()).is_local
    }
}

/// Reports whether a statement builds indexes.
///
/// # Safety
/// `node` must be a statement from the parser.
pub unsafe fn builds_indexes(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a node's tag determines its type.
    matches!(unsafe { (*node).type_ }, pg_sys::NodeTag::T_IndexStmt | pg_sys::NodeTag::T_ReindexStmt)
}

/// Returns the DETACH PARTITION ... CONCURRENTLY of an ALTER TABLE, if it has one.
///
/// # Safety
/// `statement` must come from the parser.
unsafe fn detached_concurrently(statement: *mut pg_sys::AlterTableStmt) -> Option<*mut pg_sys::PartitionCmd> {
    // SAFETY: guaranteed by the caller. A DETACH PARTITION contains a PartitionCmd.
    unsafe {
        PgList::<pg_sys::AlterTableCmd>::from_pg((*statement).cmds)
            .iter_ptr()
            .filter(|command| (**command).subtype == pg_sys::AlterTableType::AT_DetachPartition)
            .map(|command| (*command).def.cast::<pg_sys::PartitionCmd>())
            .find(|partition| (**partition).concurrent)
    }
}

unsafe extern "C-unwind" {
    // Declared in a header that pgrx's bindings omit.
    fn PartitionHasPendingDetach(partition: pg_sys::Oid) -> bool;
}

/// Reports whether the table that the command detaches is no longer a partition: an earlier attempt has completed.
///
/// # Safety
/// The statement must come from the parser, and a transaction must be open.
unsafe fn is_detached(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a node's tag determines its type. A lookup by OID.
    unsafe {
        pgrx::is_a(node, pg_sys::NodeTag::T_AlterTableStmt)
            && detached_concurrently(node.cast())
                .and_then(|command| relation(command))
                .is_some_and(|partition| !pg_sys::get_rel_relispartition(partition))
    }
}

/// Returns the partition that the command names, if it exists.
///
/// # Safety
/// `command` must come from the parser, and a transaction must be open.
unsafe fn relation(command: *mut pg_sys::PartitionCmd) -> Option<pg_sys::Oid> {
    let (no_lock, missing_ok) = (pg_sys::NoLock as pg_sys::LOCKMODE, pg_sys::RVROption::RVR_MISSING_OK);
    let no_argument = std::ptr::null_mut();
    // SAFETY: a name from the parser, and no callback.
    let found = unsafe { pg_sys::RangeVarGetRelidExtended((*command).name, no_lock, missing_ok, None, no_argument) };
    (found != pg_sys::InvalidOid).then_some(found)
}

/// How a command is changed before it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// An earlier attempt failed, and may have left the command partially applied.
    MayBeBegun,
    /// An earlier attempt ended before it could record the result, so the command may have completed.
    MayBeDone,
    /// CONCURRENTLY is removed, so that the command can run inside a transaction.
    NotConcurrently,
}

/// Changes a parsed command before it runs.
///
/// # Safety
/// `node` must be a statement from the parser.
unsafe fn change(node: *mut pg_sys::Node, change: Change) {
    // SAFETY: a node's tag determines its type.
    unsafe {
        match (change, (*node).type_) {
            (Change::MayBeDone, pg_sys::NodeTag::T_IndexStmt) => {
                let statement = node.cast::<pg_sys::IndexStmt>();
                // PostgreSQL accepts IF NOT EXISTS only with a name. Without one, it would choose a new name for each
                // attempt.
                (*statement).if_not_exists |= !(*statement).idxname.is_null();
            }
            (Change::MayBeBegun | Change::MayBeDone, pg_sys::NodeTag::T_AlterTableStmt) => {
                finish_detaching(node.cast())
            }
            (Change::MayBeDone, pg_sys::NodeTag::T_DropStmt) => (*node.cast::<pg_sys::DropStmt>()).missing_ok = true,
            (Change::NotConcurrently, pg_sys::NodeTag::T_IndexStmt) => {
                (*node.cast::<pg_sys::IndexStmt>()).concurrent = false;
            }
            (Change::NotConcurrently, pg_sys::NodeTag::T_DropStmt) => {
                (*node.cast::<pg_sys::DropStmt>()).concurrent = false;
            }
            (Change::NotConcurrently, pg_sys::NodeTag::T_AlterTableStmt) => {
                if let Some(partition) = detached_concurrently(node.cast()) {
                    (*partition).concurrent = false;
                }
            }
            _ => {}
        }
    }
}

/// Turns DETACH PARTITION ... CONCURRENTLY into FINALIZE if an earlier attempt has begun to detach the partition.
/// PostgreSQL accepts nothing else then.
///
/// # Safety
/// The statement must come from the parser, and a transaction must be open.
unsafe fn finish_detaching(statement: *mut pg_sys::AlterTableStmt) {
    // SAFETY: a DETACH PARTITION contains a PartitionCmd. A lookup by OID.
    unsafe {
        for command in PgList::<pg_sys::AlterTableCmd>::from_pg((*statement).cmds).iter_ptr() {
            if (*command).subtype != pg_sys::AlterTableType::AT_DetachPartition {
                continue;
            }
            let partition = (*command).def.cast::<pg_sys::PartitionCmd>();
            let is_begun = relation(partition)
                .is_some_and(|found| pg_sys::ffi::pg_guard_ffi_boundary(|| PartitionHasPendingDetach(found)));
            if (*partition).concurrent && is_begun {
                (*command).subtype = pg_sys::AlterTableType::AT_DetachPartitionFinalize;
                (*partition).concurrent = false;
            }
        }
    }
}

/// Reports whether a command can be skipped inside a transaction: VACUUM, REINDEX and CLUSTER change nothing that a
/// query sees.
///
/// # Safety
/// `node` must be a statement from the parser.
unsafe fn is_maintenance(node: *mut pg_sys::Node) -> bool {
    // SAFETY: a node's tag determines its type.
    let tag = unsafe { (*node).type_ };
    matches!(tag, pg_sys::NodeTag::T_VacuumStmt | pg_sys::NodeTag::T_ReindexStmt | pg_sys::NodeTag::T_ClusterStmt)
}

/// Runs one command inside the caller's transaction: without CONCURRENTLY, and not at all if queries cannot see its
/// effect.
pub(super) fn run_in_transaction(text: &str) -> Result<()> {
    let text = c_string(text)?;
    // SAFETY: the command is parsed and planned in the current memory context, which outlives it. The snapshot is
    // popped below or, after an error, by the abort of the transaction.
    unsafe {
        let raw = parse(&text)?;
        if is_maintenance((*raw).stmt) {
            return Ok(());
        }
        change((*raw).stmt, Change::NotConcurrently);
        pg_sys::CommandCounterIncrement();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        for statement in PgList::<pg_sys::PlannedStmt>::from_pg(plan(raw, &text)).iter_ptr() {
            pg_sys::ProcessUtility(
                statement,
                text.as_ptr(),
                false,
                pg_sys::ProcessUtilityContext::PROCESS_UTILITY_QUERY,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone),
                std::ptr::null_mut(),
            );
        }
        pg_sys::PopActiveSnapshot();
        pg_sys::CommandCounterIncrement();
    }
    Ok(())
}

/// Runs one command as if a client had sent it. The command may commit and begin transactions, and leaves the last one
/// open. The caller must have begun a transaction, and must not hold a snapshot or an SPI connection.
pub(super) fn run_out_of_transaction(text: &str, wanted: Change) -> Result<()> {
    let text = c_string(text)?;
    // SAFETY: the command is parsed in a memory context that outlives the command's transactions. The portal is dropped
    // below or, after an error, by the abort of the transaction.
    unsafe {
        let memory = pg_sys::AllocSetContextCreateInternal(
            pg_sys::TopMemoryContext,
            c"fluxbase_tenant command".as_ptr(),
            pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
            pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
            pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
        );
        let mut owned = Memory { memory, previous: pg_sys::MemoryContextSwitchTo(memory) };
        let raw = parse(&text)?;
        if wanted == Change::MayBeDone && is_detached((*raw).stmt) {
            return Ok(());
        }
        change((*raw).stmt, wanted);
        let plans = plan(raw, &text);
        let portal = pg_sys::CreatePortal(c"".as_ptr(), true, true);
        (*portal).visible = false;
        let tag = pg_sys::CreateCommandTag((*raw).stmt);
        pg_sys::PortalDefineQuery(portal, std::ptr::null(), text.as_ptr(), tag, plans, std::ptr::null_mut());
        pg_sys::PortalStart(portal, std::ptr::null_mut(), 0, std::ptr::null_mut());
        let nowhere = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone);
        let all = std::ffi::c_long::MAX;
        #[cfg(feature = "pg18")]
        pg_sys::PortalRun(portal, all, true, nowhere, nowhere, std::ptr::null_mut());
        #[cfg(not(feature = "pg18"))]
        pg_sys::PortalRun(portal, all, true, true, nowhere, nowhere, std::ptr::null_mut());
        pg_sys::PortalDrop(portal, false);
        // The memory context that was current before was freed with its transaction.
        owned.previous = pg_sys::TopTransactionContext;
    }
    Ok(())
}

/// A memory context that is deleted when it drops.
struct Memory {
    memory: pg_sys::MemoryContext,
    previous: pg_sys::MemoryContext,
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: no other code uses the context. After an error, the abort of the transaction has already switched to
        // another one.
        unsafe {
            if pg_sys::CurrentMemoryContext == self.memory {
                pg_sys::MemoryContextSwitchTo(self.previous);
            }
            pg_sys::MemoryContextDelete(self.memory);
        }
    }
}

/// Parses one statement.
///
/// # Safety
/// The result must not be used after the current memory context is reset.
unsafe fn parse(text: &CString) -> Result<*mut pg_sys::RawStmt> {
    // SAFETY: a C string.
    let statements = unsafe { PgList::<pg_sys::RawStmt>::from_pg(pg_sys::pg_parse_query(text.as_ptr())) };
    match (statements.len(), statements.get_ptr(0)) {
        (1, Some(statement)) => Ok(statement),
        _ => Err(Error::internal("command is not a single statement")),
    }
}

/// Analyzes and plans a parsed command.
///
/// # Safety
/// `raw` must be a utility statement, which can be analyzed without a snapshot.
unsafe fn plan(raw: *mut pg_sys::RawStmt, text: &CString) -> *mut pg_sys::List {
    // SAFETY: guaranteed by the caller.
    unsafe {
        let none = std::ptr::null_mut();
        let queries = pg_sys::pg_analyze_and_rewrite_fixedparams(raw, text.as_ptr(), std::ptr::null(), 0, none);
        pg_sys::pg_plan_queries(queries, text.as_ptr(), pg_sys::CURSOR_OPT_PARALLEL_OK as i32, std::ptr::null_mut())
    }
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::internal("statement contains a zero byte"))
}
