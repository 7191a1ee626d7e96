//! Removes what deleted tenants left outside their schemas: rows of shared tables, owner roles.
//!
//! Rows go table by table as the table's owner, whose triggers and rules may run: the owner is the user of the session too,
//! whose rights are all there are at the commit; the security context refuses to leave it, or to leave anything behind; and a
//! process that takes too long is terminated, and another one goes on with the next table. Nobody waits for any of this.

use std::cell::Cell;
use std::time::Duration;

use pgrx::Uuid;
use pgrx::prelude::*;

use super::at_commit::{self, Kind};
use super::transaction::{Attempted, Failure, command, give_back, keep, transaction};
use crate::catalog::removals::{self, Removal};
use crate::catalog::shared_tables::{self, Code, Part, SharedTable};
use crate::catalog::{Catalog, tenants};
use crate::error::{Error, Result};
use crate::identity::SandboxIdentity;
use crate::pg::guc::{self, Lifetime};
use crate::pg::locks::{self, ObjectLock};
use crate::pg::sandbox::Sandbox;
use crate::pg::{Deadline, pause, roles};
use crate::schema;

const LOCK_TIMEOUT: &str = "5s";
/// Rows that one transaction removes, and how long it may take.
const BATCH: u32 = 10_000;
const BATCH_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PLACE: &str = "removing the rows of a deleted tenant";

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
    if at_commit::begin(argument).is_err() {
        return;
    }
    let _successor = Successor::named();
    // One worker at a time is enough. What is committed while it has the lock, it sees once it has let go.
    while transaction(|| Ok(keep(ObjectLock::of_removals()))).unwrap_or(false) {
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
    // That of the database, which the code of owners expects.
    let search_path = guc::get("search_path").ok().flatten().unwrap_or_default();
    while transaction(|| removals::is_due_soon(&Catalog::write()?)).unwrap_or(false) {
        match transaction(|| removals::next(&Catalog::write()?)) {
            Ok(Some(removal)) => {
                let outcome = attempt(&removal, &search_path);
                let noted = transaction(|| note(&Catalog::write()?, &removal, outcome.as_ref().err()));
                if noted.is_err() {
                    return;
                }
            }
            Ok(None) => pause(LOOK_EVERY),
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

fn attempt(removal: &Removal, search_path: &str) -> Attempted<()> {
    let Some(oid) = removal.table else {
        return transaction(|| {
            if schema::drop_owner_role(&Catalog::write()?, removal.tenant_id, LOCK_TIMEOUT)? {
                return Ok(());
            }
            Err(Error::conflict("another transaction has granted something to the role", "Wait for its end."))
        });
    };
    let found = transaction(|| {
        let catalog = Catalog::write()?;
        // Never those of a tenant that is there.
        if tenants::id_exists(&catalog, removal.tenant_id)? {
            return Ok(None);
        }
        match shared_tables::list(&catalog)?.into_iter().find(|table| table.oid == oid) {
            Some(table) => Ok(Some((shared_tables::parts(&catalog, oid)?, table))),
            None if shared_tables::contains(&catalog, oid)? => {
                Err(Error::conflict("the table has lost its tenant column", "Protect it again, or drop it."))
            }
            None => Ok(None),
        }
    })?;
    let Some((parts, table)) = found else {
        return Ok(());
    };
    let remove = || parts.iter().try_for_each(|part| remove_rows(removal.tenant_id, &table, part, search_path));
    remove()?;
    // Whoever began to write before the tenant was gone may not have committed.
    command(|| {
        guc::set(c"lock_timeout", LOCK_TIMEOUT, Lifetime::Transaction)?;
        parts.iter().for_each(|part| locks::wait_for_writers(part.oid));
        Ok(())
    })?;
    remove()
}

/// With what the owner wants to happen when a row is deleted; where that keeps rows from being deleted, without it.
fn remove_rows(tenant: Uuid, table: &SharedTable, part: &Part, search_path: &str) -> Attempted<()> {
    let code = transaction(|| shared_tables::code_at_delete(&Catalog::write()?, part.oid))?;
    let condition = format!("{} = '{tenant}'", table.tenant_column);
    let owner = SessionOfOwner::begin(part.owner)?;
    let mut removed = in_batches(part, search_path, &condition);
    if removed.is_err()
        && !code.is_empty()
        && as_owner(part, search_path, &without_code(part, &code, &condition)).is_ok()
    {
        ereport!(
            LOG,
            PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
            format!("rows of a deleted tenant were removed from {} without its triggers, which kept them", part.name)
        );
        removed = Ok(());
    }
    owner.end()?;
    removed
}

fn in_batches(part: &Part, search_path: &str, condition: &str) -> Attempted<()> {
    let name = &part.name;
    let rows = format!("SELECT ctid FROM ONLY {name} WHERE {condition} LIMIT {BATCH}");
    let batch = format!("DELETE FROM ONLY {name} WHERE ctid = ANY (ARRAY({rows}))");
    while as_owner(part, search_path, &[batch.as_str()])? > 0 {}
    let left = format!("SELECT FROM ONLY {name} WHERE {condition} LIMIT 1");
    if as_owner(part, search_path, &[left.as_str()])? > 0 {
        let message = "a trigger or a rule of the table keeps rows from being deleted";
        return Err(Failure::from_error(&Error::conflict(message, "Ask the owner of the table.")));
    }
    Ok(())
}

/// In one transaction, in which others see the triggers enabled.
fn without_code(part: &Part, code: &[Code], condition: &str) -> [String; 3] {
    let list = |of: fn(&Code) -> String| code.iter().map(of).collect::<Vec<_>>().join(", ");
    let name = &part.name;
    [
        format!("ALTER TABLE ONLY {name} {}", list(|code| format!("DISABLE {}", code.name))),
        format!("DELETE FROM ONLY {name} WHERE {condition}"),
        format!("ALTER TABLE ONLY {name} {}", list(|code| format!("ENABLE {}{}", code.mode, code.name))),
    ]
}

/// A transaction in which nobody but the table's owner acts; how many rows the last statement returned or changed.
fn as_owner(part: &Part, search_path: &str, statements: &[impl AsRef<str>]) -> Attempted<u64> {
    let _deadline = Deadline::after(BATCH_LIMIT);
    // Nothing is deferred to where the security context has ended.
    transaction(|| {
        let catalog = Catalog::write()?;
        crate::pg::execute(catalog.scope(), "SET CONSTRAINTS ALL IMMEDIATE")?;
        let _nobody = SandboxIdentity::nobody()?;
        let settings = [(c"row_security", "on"), (c"lock_timeout", LOCK_TIMEOUT), (c"search_path", search_path)];
        let sandbox = Sandbox::enter_unforced(part.owner, &settings)?;
        statements.iter().try_fold(0, |_, statement| sandbox.count(statement.as_ref(), PLACE))
    })
}

/// While it lives, the owner of a table is the user of this session, so that what runs at a commit runs as that one.
struct SessionOfOwner {
    before: String,
}

impl SessionOfOwner {
    fn begin(owner: pg_sys::Oid) -> Attempted<Self> {
        let before = transaction(|| Ok(roles::name(roles::current())))?;
        transaction(|| guc::set(c"session_authorization", &roles::name(owner), Lifetime::Session))?;
        Ok(SessionOfOwner { before })
    }

    fn end(self) -> Attempted<()> {
        locks::release_advisory();
        transaction(|| guc::set(c"session_authorization", &self.before, Lifetime::Session))
    }
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
    REMOVAL.start_now();
}
