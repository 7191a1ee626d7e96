//! The removal worker: removes what deleted tenants have left. That can be rows of shared tables, external dependents,
//! a schema that the deleting session could not drop, and the owner role.
//!
//! It deletes rows table by table, as the table's owner (see `table_owner`). If a transaction exceeds its time limit,
//! the process is terminated, and a successor continues with the removals that were tried least often. No session waits
//! for the removal worker.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::Uuid;
use pgrx::prelude::*;

use super::at_commit::{self, Kind};
use super::table_owner::{LOCK_TIMEOUT, Paths, TRANSACTION_LIMIT, TableOwner};
use super::transaction::{Attempted, Failure, command, hold_for_session, release_held, transaction};
use crate::catalog::removals::{self, Removal};
use crate::catalog::shared_tables::{self, Part, SharedTable};
use crate::catalog::{self, Catalog};
use crate::error::{Error, Result};
use crate::pg::dependencies::Object;
use crate::pg::guc::{self, Lifetime};
use crate::pg::locks::{self, ObjectLock};
use crate::pg::rows::{Rows, Triggers};
use crate::pg::{Deadline, pause, roles};
use crate::{schema, tenants};

/// Argument of a worker that succeeds another one, which may still hold the lock.
const SUCCESSOR: u32 = 1;
/// Maximum number of rows that one transaction deletes.
const BATCH: u64 = 10_000;
/// Time budget of one removal. When it is spent, the worker moves on to the next removal.
const TIME_BUDGET: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of objects that one transaction drops.
const DROP_BATCH: usize = 200;

thread_local! {
    static REQUESTED: Cell<bool> = const { Cell::new(false) };
}

static REMOVAL: Kind =
    Kind { name: "fluxbase_tenant removal", function: "fluxbase_tenant_removal_worker", requested: &REQUESTED };

/// Starts a removal worker when the transaction commits, if there is anything to remove.
pub fn after_commit(catalog: &Catalog) -> Result<()> {
    if removals::any(catalog)? {
        REMOVAL.request(0);
    }
    Ok(())
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fluxbase_tenant_removal_worker(argument: pg_sys::Datum) {
    let Ok(number) = at_commit::begin(argument) else {
        return;
    };
    let _successor = Successor::register();
    // More than a client's session can have: dropping an object may take more stack than creating it. Fails if the
    // operating system's limit is lower.
    let _ = transaction(|| guc::set(c"max_stack_depth", "7MB", Lifetime::Session));
    // Only one worker runs at a time. A worker that starts while this one holds the lock ends at once, so this one
    // checks for new removals after it has released the lock.
    let wait = number == SUCCESSOR;
    while transaction(|| Ok(hold_for_session(ObjectLock::of_removals(), wait))).unwrap_or(false) {
        work();
        let more = transaction(|| {
            release_held();
            removals::is_due_soon(&Catalog::latest()?)
        });
        if !more.unwrap_or(false) {
            return;
        }
    }
}

/// Attempts removals until none is due within a minute.
fn work() {
    while transaction(|| removals::is_due_soon(&Catalog::write()?)).unwrap_or(false) {
        match transaction(|| removals::next(&Catalog::write()?)) {
            Ok(Some(removal)) => {
                let outcome = attempt(&removal);
                let recorded = transaction(|| {
                    guc::set(c"lock_timeout", LOCK_TIMEOUT, Lifetime::Transaction)?;
                    record(&Catalog::write()?, &removal, outcome.as_ref().err())
                });
                // tenant_unprotect() in an open transaction may have locked the row: continue with the next removal.
                if recorded.is_err_and(|failure| !failure.is_transient) {
                    return;
                }
            }
            Ok(None) => pause(POLL_INTERVAL),
            Err(_) => return,
        }
    }
}

fn record(catalog: &Catalog, removal: &Removal, failure: Option<&Failure>) -> Result<()> {
    match failure {
        None => removals::done(catalog, removal),
        Some(failure) => removals::failed(catalog, removal, &failure.message),
    }
}

/// Attempts one removal: of the rows of a shared table, or of the schema, its external dependents and the owner role.
fn attempt(removal: &Removal) -> Attempted<()> {
    let Some(oid) = removal.table else {
        let undropped = drop_dependents_in_batches(removal.tenant_id)?;
        let dropped = transaction(|| {
            let _deadline = Deadline::after(TRANSACTION_LIMIT);
            let catalog = Catalog::write()?;
            if schema::has_dependents_of_extensions(&catalog, removal.tenant_id)? {
                return Err(Error::conflict(
                    "objects of an extension depend on the schema of a deleted tenant",
                    "Remove them from the extension with ALTER EXTENSION ... DROP.",
                ));
            }
            if schema::drop_owner_role(&catalog, removal.tenant_id, LOCK_TIMEOUT)? {
                return Ok(());
            }
            Err(Error::conflict(
                "cannot drop the schema or the owner role, which another transaction may have locked",
                "Wait until the other transaction ends.",
            ))
        });
        return dropped.map_err(|failure| undropped.unwrap_or(failure));
    };
    let found = transaction(|| {
        let catalog = Catalog::write()?;
        // Skip: the tenant exists again.
        if catalog::tenants::id_exists(&catalog, removal.tenant_id)? {
            return Ok(None);
        }
        match shared_tables::list(&catalog)?.into_iter().find(|table| table.oid == oid) {
            Some(table) => Ok(Some((shared_tables::parts(&catalog, &table)?, table))),
            None if shared_tables::contains(&catalog, oid)? => Err(Error::conflict(
                "the table has lost its tenant column",
                "Protect the table again with tenant_protect(), or drop it.",
            )),
            None => Ok(None),
        }
    })?;
    let Some((mut parts, table)) = found else {
        return Ok(());
    };
    let budget = Budget::begin();
    let remove = |parts: &[Part]| {
        parts.iter().try_for_each(|part| {
            budget.check()?;
            remove_rows(removal.tenant_id, &table, part, &budget)
        })
    };
    remove(&parts)?;
    loop {
        // A transaction that began before the tenant was deleted may have written more rows since, or attached a
        // partition. Wait for the table's current writers, then delete these rows too.
        command(|| {
            guc::set(c"lock_timeout", LOCK_TIMEOUT, Lifetime::Transaction)?;
            locks::wait_for_writers(table.oid);
            parts.iter().for_each(|part| locks::wait_for_writers(part.oid));
            Ok(())
        })?;
        let before = std::mem::replace(&mut parts, transaction(|| shared_tables::parts(&Catalog::write()?, &table))?);
        remove(&parts)?;
        if parts.iter().all(|part| before.iter().any(|one| one.oid == part.oid)) {
            return Ok(());
        }
    }
}

/// Drops the external dependents in batches, so that neither their number nor the depth of their dependencies matters.
/// Returns why the first of those could not be dropped that are left.
fn drop_dependents_in_batches(tenant: Uuid) -> Attempted<Option<Failure>> {
    let budget = Budget::begin();
    let external_dependents = transaction(|| {
        let _deadline = Deadline::after(TRANSACTION_LIMIT);
        guc::set(c"lock_timeout", LOCK_TIMEOUT, Lifetime::Transaction)?;
        let external_dependents = schema::external_dependents(&Catalog::write()?, tenant)?;
        schema::leave_extensions(&external_dependents)?;
        Ok(external_dependents)
    })?;
    let drop = |batch: &[Object]| {
        transaction(|| {
            let _deadline = Deadline::after(TRANSACTION_LIMIT);
            guc::set(c"lock_timeout", LOCK_TIMEOUT, Lifetime::Transaction)?;
            schema::drop_dependents(&Catalog::write()?, tenant, batch)
        })
    };
    let is_in_time = || budget.check().is_ok();
    let mut first = None;
    for batch in external_dependents.chunks(DROP_BATCH).take_while(|_| is_in_time()) {
        if drop(batch).is_err() {
            // An object that cannot be dropped must not keep the others.
            for object in batch.chunks(1).take_while(|_| is_in_time()) {
                first = first.or(drop(object).err());
            }
        }
    }
    // What is left would be dropped in one transaction with the owner role.
    budget.check()?;
    Ok(first)
}

/// Deletes the tenant's rows and fires the owner's triggers. If these keep rows from being deleted, deletes the rows
/// without firing them.
fn remove_rows(tenant: Uuid, table: &SharedTable, part: &Part, budget: &Budget) -> Attempted<()> {
    let owner = TableOwner::begin(part.owner, &budget.paths)?;
    let rows = tenants::rows_of_deleted_tenant(table, part, tenant);
    let mut removed = delete_all(&owner, &rows, Fire::OwnersAndKeys, budget);
    if let Err(failure) = &removed
        && budget.check().is_ok()
    {
        let reason = format!("{}: {}", part.name, failure.message);
        if delete_all(&owner, &rows, Fire::KeysOnly, budget).is_ok() {
            ereport!(
                LOG,
                PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                format!("rows of a deleted tenant were deleted without firing the table owner's triggers: {reason}")
            );
            removed = Ok(());
        }
    }
    owner.end()?;
    removed
}

/// The triggers that a removal fires.
#[derive(Clone, Copy)]
enum Fire {
    /// The triggers of foreign keys, and those of the table's owner.
    OwnersAndKeys,
    KeysOnly,
}

/// Deletes as many batches as the initial row count requires. The bound ends the loop even if a trigger inserts the
/// rows again.
fn delete_all(owner: &TableOwner, rows: &Rows, fire: Fire, budget: &Budget) -> Attempted<()> {
    let initial_count = owner.act(|| Ok(()), |()| rows.count(u64::MAX))?;
    for _ in 0..initial_count.div_ceil(BATCH) {
        budget.check()?;
        delete_batch(owner, rows, fire)?;
    }
    if owner.act(|| Ok(()), |()| rows.count(1))? == 0 {
        return Ok(());
    }
    let hint = "A trigger keeps or inserts them again: ask the owner of the table.";
    Err(Failure::from_error(&Error::conflict("rows remain after the deletion", hint)))
}

/// The time budget of one removal, and the search_paths that it has computed.
struct Budget {
    started: Instant,
    paths: Paths,
}

impl Budget {
    fn begin() -> Self {
        Budget { started: Instant::now(), paths: Paths::default() }
    }

    /// Fails if the time budget is spent.
    fn check(&self) -> Attempted<()> {
        if self.started.elapsed() < TIME_BUDGET {
            return Ok(());
        }
        Err(Failure::from_error(&Error::conflict(
            format!("the removal takes more than {} seconds", TIME_BUDGET.as_secs()),
            "Wait: it continues after the removals of other tables.",
        )))
    }
}

/// Deletes one batch. Locks every table that the deletion affects before it looks for triggers, because no other
/// transaction can create one while these locks are held.
fn delete_batch(owner: &TableOwner, rows: &Rows, fire: Fire) -> Attempted<u64> {
    let triggers = || {
        locks::lock_for_writing(rows.table);
        let touched = shared_tables::touched_by_delete(&Catalog::latest()?, rows.table)?;
        if !locks::try_lock_for_writing(touched.iter().map(|one| one.table)) {
            return Err(Error::conflict(
                "another transaction has locked a partition or a table that refers to the table",
                "Wait until the other transaction ends.",
            ));
        }
        let locked = Catalog::latest()?;
        if shared_tables::touched_by_delete(&locked, rows.table)? != touched {
            return Err(Error::conflict("the table was changed concurrently", "Try again."));
        }
        let referencing = touched.iter().filter(|one| one.by_key).map(|one| one.table).collect();
        if let Some(code) = shared_tables::code_of_other_roles(&locked, referencing, rows.owner)? {
            return Err(Error::conflict(
                format!("{code} would run while rows are deleted as the table's owner"),
                "Drop it, or the foreign key that refers to the table.",
            ));
        }
        let tables = touched.iter().map(|one| one.table).collect();
        let (own, by_key): (Vec<_>, Vec<_>) =
            shared_tables::triggers_of_other_roles(&locked, tables, vec![rows.table], rows.owner)?
                .into_iter()
                .partition(|trigger| trigger.table == rows.table);
        match (by_key.first(), fire) {
            (Some(trigger), _) => Err(Error::conflict(
                format!("trigger {} would run with the privileges of the table's owner", trigger.name),
                "Drop it, or the foreign key that refers to the table.",
            )),
            (None, Fire::KeysOnly) => Ok(Triggers::ForeignKeysOnly),
            // The triggers would run as a superuser and look up functions by name, and so might call another role's.
            (None, Fire::OwnersAndKeys) if roles::is_superuser(rows.owner) => Ok(Triggers::ForeignKeysOnly),
            (None, Fire::OwnersAndKeys) => Ok(Triggers::AllExcept(own.iter().map(|trigger| trigger.oid).collect())),
        }
    };
    owner.act(triggers, |triggers| rows.delete(&triggers, BATCH))
}

/// While it lives, a process that is terminated starts a successor, which continues with the removals that were tried
/// least often.
struct Successor;

impl Successor {
    fn register() -> Self {
        // SAFETY: the callback is a function of this library, which stays loaded.
        unsafe { pg_sys::before_shmem_exit(Some(start_successor), pg_sys::Datum::from(0usize)) };
        Successor
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // SAFETY: the callback that this process registered last.
        unsafe { pg_sys::cancel_before_shmem_exit(Some(start_successor), pg_sys::Datum::from(0usize)) };
    }
}

unsafe extern "C-unwind" fn start_successor(_code: i32, _argument: pg_sys::Datum) {
    REMOVAL.start_now(SUCCESSOR);
}
