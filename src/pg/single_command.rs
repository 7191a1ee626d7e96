//! Commands that the server refuses inside a transaction block: CREATE INDEX CONCURRENTLY and its like, VACUUM.

use std::ffi::CString;

use pgrx::PgList;
use pgrx::prelude::*;

use crate::error::{Error, Result};

/// # Safety
/// `node` is a statement made by the parser.
pub unsafe fn is_needed(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag tells the node's type.
    unsafe {
        match (*node).type_ {
            pg_sys::NodeTag::T_IndexStmt => (*node.cast::<pg_sys::IndexStmt>()).concurrent,
            pg_sys::NodeTag::T_DropStmt => (*node.cast::<pg_sys::DropStmt>()).concurrent,
            pg_sys::NodeTag::T_VacuumStmt => (*node.cast::<pg_sys::VacuumStmt>()).is_vacuumcmd,
            pg_sys::NodeTag::T_ReindexStmt | pg_sys::NodeTag::T_ClusterStmt => true,
            // It would end with its transaction.
            pg_sys::NodeTag::T_VariableSetStmt => is_setting(node),
            pg_sys::NodeTag::T_AlterTableStmt => detached_concurrently(node.cast()).is_some(),
            _ => false,
        }
    }
}

/// SET for the session, or RESET.
///
/// # Safety
/// `node` is a statement made by the parser.
pub unsafe fn is_setting(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag tells the node's type.
    unsafe {
        pgrx::is_a(node, pg_sys::NodeTag::T_VariableSetStmt) && !(*node.cast::<pg_sys::VariableSetStmt>()).is_local
    }
}

/// # Safety
/// `node` is a statement made by the parser.
pub unsafe fn builds_indexes(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag tells the node's type.
    matches!(unsafe { (*node).type_ }, pg_sys::NodeTag::T_IndexStmt | pg_sys::NodeTag::T_ReindexStmt)
}

/// # Safety
/// A statement made by the parser.
unsafe fn detached_concurrently(statement: *mut pg_sys::AlterTableStmt) -> Option<*mut pg_sys::PartitionCmd> {
    // SAFETY: by the caller's promise; a DETACH PARTITION holds a PartitionCmd.
    unsafe {
        PgList::<pg_sys::AlterTableCmd>::from_pg((*statement).cmds)
            .iter_ptr()
            .filter(|command| (**command).subtype == pg_sys::AlterTableType::AT_DetachPartition)
            .map(|command| (*command).def.cast::<pg_sys::PartitionCmd>())
            .find(|partition| (**partition).concurrent)
    }
}

unsafe extern "C-unwind" {
    // In a header that pgrx's bindings leave out.
    fn PartitionHasPendingDetach(partition: pg_sys::Oid) -> bool;
}

/// The partition to be detached is one no more: the command has been done.
///
/// # Safety
/// A statement made by the parser, in a transaction.
unsafe fn is_detached(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag tells the node's type; a lookup by oid.
    unsafe {
        pgrx::is_a(node, pg_sys::NodeTag::T_AlterTableStmt)
            && detached_concurrently(node.cast())
                .and_then(|command| relation(command))
                .is_some_and(|partition| !pg_sys::get_rel_relispartition(partition))
    }
}

/// # Safety
/// A command made by the parser, in a transaction.
unsafe fn relation(command: *mut pg_sys::PartitionCmd) -> Option<pg_sys::Oid> {
    let (no_lock, missing_ok) = (pg_sys::NoLock as pg_sys::LOCKMODE, pg_sys::RVROption::RVR_MISSING_OK);
    let no_argument = std::ptr::null_mut();
    // SAFETY: the name that the parser read; without a callback.
    let found = unsafe { pg_sys::RangeVarGetRelidExtended((*command).name, no_lock, missing_ok, None, no_argument) };
    (found != pg_sys::InvalidOid).then_some(found)
}

/// What is to be different about a command from what its text says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// An earlier attempt at it failed, and may have left it half done.
    MayBeBegun,
    /// It may have been done before, by somebody who did not live to tell.
    MayBeDone,
    /// To run inside a transaction.
    NotConcurrently,
}

/// # Safety
/// `node` is a statement made by the parser.
unsafe fn change(node: *mut pg_sys::Node, change: Change) {
    // SAFETY: the tag tells the node's type.
    unsafe {
        match (change, (*node).type_) {
            (Change::MayBeDone, pg_sys::NodeTag::T_IndexStmt) => {
                let statement = node.cast::<pg_sys::IndexStmt>();
                // Without a name the server would make up another one.
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

/// A partition whose detachment was begun is detached by FINALIZE alone.
///
/// # Safety
/// A statement made by the parser, in a transaction.
unsafe fn finish_detaching(statement: *mut pg_sys::AlterTableStmt) {
    // SAFETY: a DETACH PARTITION holds a PartitionCmd; a lookup by oid.
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

/// Whether there is nothing to do inside a transaction: VACUUM, REINDEX and CLUSTER change nothing that a query sees.
///
/// # Safety
/// `node` is a statement made by the parser.
unsafe fn is_upkeep(node: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag tells the node's type.
    let tag = unsafe { (*node).type_ };
    matches!(tag, pg_sys::NodeTag::T_VacuumStmt | pg_sys::NodeTag::T_ReindexStmt | pg_sys::NodeTag::T_ClusterStmt)
}

/// Runs one command inside the transaction, as far as that can be.
pub(super) fn run_in_transaction(text: &str) -> Result<()> {
    let text = c_string(text)?;
    // SAFETY: parsed and planned in the current memory context, which outlives the command; the snapshot is popped again.
    unsafe {
        let raw = parse(&text)?;
        if is_upkeep((*raw).stmt) {
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

/// Runs one command as if a client had sent it: it may commit and begin transactions, and leaves the last one open. The
/// caller has begun a transaction and holds neither a snapshot nor a connection of SPI.
pub(super) fn run_out_of_transaction(text: &str, wanted: Change) -> Result<()> {
    let text = c_string(text)?;
    // SAFETY: what is parsed lives in a memory context that outlasts the command's transactions; the portal is dropped by
    // us, or by the abort of the transaction.
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
        // What was current when we came went with its transaction.
        owned.previous = pg_sys::TopTransactionContext;
    }
    Ok(())
}

struct Memory {
    memory: pg_sys::MemoryContext,
    previous: pg_sys::MemoryContext,
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: ours alone. After an error the abort of the transaction has chosen another context already.
        unsafe {
            if pg_sys::CurrentMemoryContext == self.memory {
                pg_sys::MemoryContextSwitchTo(self.previous);
            }
            pg_sys::MemoryContextDelete(self.memory);
        }
    }
}

/// # Safety
/// The answer lives in the current memory context.
unsafe fn parse(text: &CString) -> Result<*mut pg_sys::RawStmt> {
    // SAFETY: a C string.
    let statements = unsafe { PgList::<pg_sys::RawStmt>::from_pg(pg_sys::pg_parse_query(text.as_ptr())) };
    match (statements.len(), statements.get_ptr(0)) {
        (1, Some(statement)) => Ok(statement),
        _ => Err(Error::internal("a command that is not one statement")),
    }
}

/// # Safety
/// A utility statement, which needs no snapshot to be analyzed.
unsafe fn plan(raw: *mut pg_sys::RawStmt, text: &CString) -> *mut pg_sys::List {
    // SAFETY: by the caller's promise.
    unsafe {
        let none = std::ptr::null_mut();
        let queries = pg_sys::pg_analyze_and_rewrite_fixedparams(raw, text.as_ptr(), std::ptr::null(), 0, none);
        pg_sys::pg_plan_queries(queries, text.as_ptr(), pg_sys::CURSOR_OPT_PARALLEL_OK as i32, std::ptr::null_mut())
    }
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::internal("a zero byte in a statement"))
}
