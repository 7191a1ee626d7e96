//! Removes what deleted tenants left outside their schemas: rows of shared tables, owner roles.
//!
//! Rows go table by table as the table's owner, see `table_owner`. A process that takes too long is terminated, and another one goes on
//! with the next table. Nobody waits for any of this.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::Uuid;
use pgrx::prelude::*;

use super::at_commit::{self, Kind};
use super::table_owner::{LOCK_TIMEOUT, Paths, TableOwner};
use super::transaction::{Attempted, Failure, command, give_back, keep, transaction};
use crate::catalog::removals::{self, Removal};
use crate::catalog::shared_tables::{self, Part, SharedTable};
use crate::catalog::{self, Catalog};
use crate::error::{Error, Result};
use crate::pg::dependencies::Object;
use crate::pg::guc::{self, Lifetime};
use crate::pg::locks::{self, ObjectLock};
use crate::pg::rows::{Rows, Triggers};
use crate::pg::{pause, roles};
use crate::{schema, tenants};

/// Tells a worker that the one before it may still have the lock.
const SUCCESSOR: u32 = 1;
/// Rows that one transaction removes.
const BATCH: u64 = 10_000;
/// After which other removals have their turn.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Objects that one transaction drops.
const DROP_BATCH: usize = 200;

thread_local! {
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

static REMOVAL: Kind =
    Kind { name: "fluxbase_tenant removal", function: "fluxbase_tenant_removal_worker", asked: &ASKED };

/// Where there is something to remove.
pub fn after_commit(catalog: &Catalog) -> Result<()> {
    if removals::any(catalog)? {
        REMOVAL.start(0);
    }
    Ok(())
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fluxbase_tenant_removal_worker(argument: pg_sys::Datum) {
    let Ok(number) = at_commit::begin(argument) else {
        return;
    };
    let _successor = Successor::named();
    // One worker at a time is enough. What is committed while it has the lock, it sees once it has let go.
    let wait = number == SUCCESSOR;
    while transaction(|| Ok(keep(ObjectLock::of_removals(), wait))).unwrap_or(false) {
        work();
        let more = transaction(|| {
            give_back();
            removals::is_due_soon(&Catalog::latest()?)
        });
        if !more.unwrap_or(false) {
            return;
        }
    }
}

/// Until nothing is due within a minute.
fn work() {
    while transaction(|| removals::is_due_soon(&Catalog::write()?)).unwrap_or(false) {
        match transaction(|| removals::next(&Catalog::write()?)) {
            Ok(Some(removal)) => {
                let outcome = attempt(&removal);
                let noted = transaction(|| {
                    guc::set(c"lock_timeout", LOCK_TIMEOUT, Lifetime::Transaction)?;
                    note(&Catalog::write()?, &removal, outcome.as_ref().err())
                });
                // Somebody may be taking the table from the shared ones, and take long to commit.
                if noted.is_err_and(|failure| !failure.may_pass) {
                    return;
                }
            }
            Ok(None) => pause(POLL_INTERVAL),
            Err(_) => return,
        }
    }
}

fn note(catalog: &Catalog, removal: &Removal, failure: Option<&Failure>) -> Result<()> {
    match failure {
        None => removals::done(catalog, removal),
        Some(failure) => removals::failed(catalog, removal, &failure.message),
    }
}

fn attempt(removal: &Removal) -> Attempted<()> {
    let Some(oid) = removal.table else {
        drop_dependents_in_batches(removal.tenant_id)?;
        return transaction(|| {
            let catalog = Catalog::write()?;
            if schema::has_dependents_of_extensions(&catalog, removal.tenant_id)? {
                return Err(Error::conflict(
                    "objects of an extension hang on the schema",
                    "Take them out of the extension.",
                ));
            }
            if schema::drop_owner_role(&catalog, removal.tenant_id, LOCK_TIMEOUT)? {
                return Ok(());
            }
            Err(Error::conflict("another transaction has granted something to the role", "Wait for its end."))
        });
    };
    let found = transaction(|| {
        let catalog = Catalog::write()?;
        // Never those of a tenant that is there.
        if catalog::tenants::id_exists(&catalog, removal.tenant_id)? {
            return Ok(None);
        }
        match shared_tables::list(&catalog)?.into_iter().find(|table| table.oid == oid) {
            Some(table) => Ok(Some((shared_tables::parts(&catalog, &table)?, table))),
            None if shared_tables::contains(&catalog, oid)? => {
                Err(Error::conflict("the table has lost its tenant column", "Protect it again, or drop it."))
            }
            None => Ok(None),
        }
    })?;
    let Some((parts, table)) = found else {
        return Ok(());
    };
    let turn = Turn::begin();
    let remove = || {
        parts.iter().try_for_each(|part| {
            turn.go_on()?;
            remove_rows(removal.tenant_id, &table, part, &turn)
        })
    };
    remove()?;
    // Whoever began to write before the tenant was gone may not have committed.
    command(|| {
        guc::set(c"lock_timeout", LOCK_TIMEOUT, Lifetime::Transaction)?;
        parts.iter().for_each(|part| locks::wait_for_writers(part.oid));
        Ok(())
    })?;
    remove()
}

/// In pieces, so that neither the depth nor the number of objects matters.
fn drop_dependents_in_batches(tenant: Uuid) -> Attempted<()> {
    let external_dependents = transaction(|| {
        guc::set(c"lock_timeout", LOCK_TIMEOUT, Lifetime::Transaction)?;
        let external_dependents = schema::external_dependents(&Catalog::write()?, tenant)?;
        schema::leave_extensions(&external_dependents)?;
        Ok(external_dependents)
    })?;
    let drop = |pieces: &[Object]| {
        transaction(|| {
            guc::set(c"lock_timeout", LOCK_TIMEOUT, Lifetime::Transaction)?;
            schema::drop_dependents(&Catalog::write()?, tenant, pieces)
        })
    };
    let turn = Turn::begin();
    let is_in_time = || turn.go_on().is_ok();
    for pieces in external_dependents.chunks(DROP_BATCH).take_while(|_| is_in_time()) {
        if drop(pieces).is_err() {
            // One that cannot be dropped keeps no other; what is left is told by the end of it all.
            pieces.chunks(1).take_while(|_| is_in_time()).for_each(|piece| drop(piece).unwrap_or_default());
        }
    }
    Ok(())
}

/// With what the owner wants to happen when a row is deleted; where that keeps rows from being deleted, without it.
fn remove_rows(tenant: Uuid, table: &SharedTable, part: &Part, turn: &Turn) -> Attempted<()> {
    let owner = TableOwner::begin(part.owner, &turn.paths)?;
    let rows = tenants::rows_of_deleted_tenant(table, part, tenant);
    let mut removed = in_batches(&owner, &rows, Fire::OwnersToo, turn);
    if let Err(failure) = &removed
        && turn.go_on().is_ok()
    {
        let told = format!("{}: {}", part.name, failure.message);
        if in_batches(&owner, &rows, Fire::KeysAlone, turn).is_ok() {
            ereport!(
                LOG,
                PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                format!("rows of a deleted tenant were removed without the triggers that kept them: {told}")
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
    /// Those of keys, and those of the table's owner.
    OwnersToo,
    KeysAlone,
}

/// As many batches as it takes for the rows that were there, so that a trigger that puts them back comes to an end.
fn in_batches(owner: &TableOwner, rows: &Rows, fire: Fire, turn: &Turn) -> Attempted<()> {
    let there = owner.act(|| Ok(()), |()| rows.count(u64::MAX))?;
    for _ in 0..there.div_ceil(BATCH) {
        turn.go_on()?;
        delete(owner, rows, fire)?;
    }
    if owner.act(|| Ok(()), |()| rows.count(1))? == 0 {
        return Ok(());
    }
    let message = "rows are there again, or a trigger keeps them";
    Err(Failure::from_error(&Error::conflict(message, "Ask the owner of the table.")))
}

/// What one removal may take, before others have their turn.
struct Turn {
    started: Instant,
    paths: Paths,
}

impl Turn {
    fn begin() -> Self {
        Turn { started: Instant::now(), paths: Paths::default() }
    }

    fn go_on(&self) -> Attempted<()> {
        if self.started.elapsed() < ATTEMPT_LIMIT {
            return Ok(());
        }
        Err(Failure::from_error(&Error::conflict("it takes long; other tables have their turn", "Wait.")))
    }
}

/// One batch. Under the locks nobody makes another trigger.
fn delete(owner: &TableOwner, rows: &Rows, fire: Fire) -> Attempted<u64> {
    let triggers = || {
        locks::lock_for_writing(rows.table);
        let touched = shared_tables::touched_by_delete(&Catalog::latest()?, rows.table)?;
        if !locks::try_lock_for_writing(touched.iter().map(|one| one.table)) {
            return Err(Error::conflict("another session has locked a table that refers to it", "Wait for its end."));
        }
        let locked = Catalog::latest()?;
        if shared_tables::touched_by_delete(&locked, rows.table)? != touched {
            return Err(Error::conflict("the table was changed meanwhile", "Try again."));
        }
        let behind_keys = touched.iter().filter(|one| one.by_key).map(|one| one.table).collect();
        if let Some(code) = shared_tables::code_of_other_roles(&locked, behind_keys, rows.owner)? {
            return Err(Error::conflict(
                format!("{code} would run while rows are removed as the table's owner"),
                "Drop it, or the key that refers to the table.",
            ));
        }
        let tables = touched.iter().map(|one| one.table).collect();
        let (own, by_key): (Vec<_>, Vec<_>) = shared_tables::triggers_of_other_roles(&locked, tables, rows.owner)?
            .into_iter()
            .partition(|trigger| trigger.table == rows.table);
        match (by_key.first(), fire) {
            (Some(trigger), _) => Err(Error::conflict(
                format!("trigger {} would run with the rights of the table's owner", trigger.name),
                "Drop it, or the key that refers to the table.",
            )),
            (None, Fire::KeysAlone) => Ok(Triggers::OfKeysAlone),
            // What they call is looked up by name, and nobody was asked.
            (None, Fire::OwnersToo) if roles::is_superuser(rows.owner) => Ok(Triggers::OfKeysAlone),
            (None, Fire::OwnersToo) => Ok(Triggers::AllBut(own.iter().map(|trigger| trigger.oid).collect())),
        }
    };
    owner.act(triggers, |triggers| rows.delete(&triggers, BATCH))
}

/// While it lives, an end of this process that it did not choose starts another one, which goes on with what was tried less
/// often.
struct Successor;

impl Successor {
    fn named() -> Self {
        // SAFETY: the callback lives as long as the library.
        unsafe { pg_sys::before_shmem_exit(Some(start_successor), pg_sys::Datum::from(0usize)) };
        Successor
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        // SAFETY: the callback that was registered last.
        unsafe { pg_sys::cancel_before_shmem_exit(Some(start_successor), pg_sys::Datum::from(0usize)) };
    }
}

unsafe extern "C-unwind" fn start_successor(_code: i32, _argument: pg_sys::Datum) {
    REMOVAL.start_now(SUCCESSOR);
}
