//! Runs a nontransactional migration statement by statement. After each statement, commits the record that it is done.
//!
//! An unfinished migration continues after the last statement recorded as done. While the migration runs, a
//! session-level lock keeps other sessions from migrating the tenant.

use std::time::Duration;

use super::job_queue::Plan;
use super::transaction::{Attempted, command, override_database_settings, transaction};
use super::wait::Wait;
use crate::access::SandboxIdentity;
use crate::catalog::migrations::Migration;
use crate::catalog::tenants::{self, Tenant};
use crate::catalog::{Catalog, applied, unfinished, versions};
use crate::error::{Error, Result};
use crate::migrations::{self, Script};
use crate::model::Status;
use crate::pg::guc::{self, Lifetime};
use crate::pg::locks::ObjectLock;
use crate::pg::single_command::Change;
use crate::pg::sql::command;
use crate::pg::{execute, pause, sandbox};

/// The outcome of a nontransactional migration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    Completed,
    /// Another session is migrating the tenant, and the caller does not want to wait.
    Busy,
    /// Another session has applied the migration or deleted the tenant.
    NotNeeded,
}

/// The state of an attempt that `run` needs to clean up after it.
struct Attempt {
    held: Option<ObjectLock>,
    /// Whether an earlier attempt may have executed the current statement without recording it.
    in_doubt: bool,
}

/// Where an attempt starts.
struct Start {
    script: Script,
    owner: pgrx::pg_sys::Oid,
    search_path: String,
    /// The number of statements that earlier attempts have completed.
    done: usize,
    /// How to rewrite the first statement, which an earlier attempt may have begun.
    first: Change,
}

/// Runs the migration, or the rest of it, and records a failure.
pub fn run(tenant: &Tenant, migration: &Migration, plan: &Plan, wait: Wait) -> Attempted<Ran> {
    let mut attempt = Attempt { held: None, in_doubt: false };
    let result = run_statements(tenant, migration, plan, wait, &mut attempt);
    if let Err(failure) = &result {
        let sqlstate = (!attempt.in_doubt).then_some(failure.sqlstate.as_str());
        let _ = transaction(|| unfinished::fail(&Catalog::write()?, tenant.id, sqlstate, &failure.message));
    }
    let _ = transaction(|| {
        guc::reset_all();
        if let Some(lock) = &attempt.held {
            lock.release();
        }
        initialize_session(plan)
    });
    result
}

/// Sets the worker's session-level settings, among them the application_name that shows the run.
pub fn initialize_session(plan: &Plan) -> Result<()> {
    override_database_settings()?;
    guc::set(c"application_name", &format!("fluxbase_tenant {}", plan.run), Lifetime::Session)
}

fn run_statements(
    tenant: &Tenant,
    migration: &Migration,
    plan: &Plan,
    wait: Wait,
    attempt: &mut Attempt,
) -> Attempted<Ran> {
    let lock_timeout = plan.lock_timeout_ms.to_string();
    let start = transaction(|| {
        guc::set(c"lock_timeout", &lock_timeout, Lifetime::Session)?;
        let lock = ObjectLock::of_migrations(migrations::owner(tenant)?);
        if !lock.hold(wait == Wait::Yes) {
            return Ok(None);
        }
        attempt.held = Some(lock);
        begin(tenant, migration)
    })?;
    let Some(start) = start else {
        // Without the lock, another session is migrating the tenant. With it, there was nothing to do.
        return Ok(if attempt.held.is_some() { Ran::NotNeeded } else { Ran::Busy });
    };
    attempt.in_doubt = start.first == Change::MayBeDone;
    let tenant_id = tenant.id.to_string();
    // A setting lasts as long as its session, so a later attempt sets it again.
    let is_to_run = |index: &usize| *index >= start.done || start.script.statements[*index].is_setting;
    for index in (0..start.script.statements.len()).filter(is_to_run) {
        let statement = &start.script.statements[index];
        let resumed = index == start.done;
        if statement.is_single {
            transaction(|| {
                if resumed && statement.builds_indexes {
                    drop_invalid_indexes(tenant)?;
                }
                // A command that runs in its own transactions needs settings that last longer than each of them.
                guc::set(c"search_path", &start.search_path, Lifetime::Session)?;
                guc::set(c"row_security", "on", Lifetime::Session)?;
                let identity = SandboxIdentity::settings(&tenant_id);
                identity.into_iter().try_for_each(|(name, value)| guc::set(name, value, Lifetime::Session))
            })?;
            let change = if resumed { start.first } else { Change::Nothing };
            command(|| {
                let _identity = SandboxIdentity::assume_in_session(tenant.id);
                sandbox::run_out_of_transaction(start.owner, &statement.text, change, &start.script.place(index))
            })?;
        }
        transaction(|| {
            let catalog = Catalog::write()?;
            if !statement.is_single {
                migrations::run_in_sandbox(&catalog, tenant, &start.script, index..index + 1)?;
            }
            // A repeated setting must not reduce the number.
            unfinished::advance(&catalog, tenant.id, start.done.max(index + 1) as i32)
        })?;
        // The statement in doubt is the first that earlier attempts have not completed.
        attempt.in_doubt &= index < start.done;
    }
    transaction(|| {
        let catalog = Catalog::write()?;
        tenants::lock(&catalog, tenant.id)?.ok_or_else(Error::tenant_not_found)?;
        applied::record(&catalog, tenant.id, migration, plan.user)?;
        unfinished::end(&catalog, tenant.id)?;
        versions::set_schema_version(&catalog, tenant.id).map(drop)
    })?;
    Ok(Ran::Completed)
}

/// Decides again under the lock, and records that the attempt begins. Returns `None` if another session has applied the
/// migration or soft-deleted the tenant. Raises not_found if the tenant has been deleted permanently.
fn begin(tenant: &Tenant, migration: &Migration) -> Result<Option<Start>> {
    let catalog = Catalog::write()?;
    let found = tenants::lock(&catalog, tenant.id)?.ok_or_else(Error::tenant_not_found)?;
    let is_applied = applied::has(&catalog, tenant.id, migration)?;
    if is_applied || found.status == Status::Deleted {
        return Ok(None);
    }
    let before = unfinished::get(&catalog, tenant.id)?.filter(|before| before.version == migration.version);
    let script = Script::up(migration)?;
    unfinished::begin(&catalog, tenant.id, migration, script.statements.len() as i32)?;
    let done = unfinished::get(&catalog, tenant.id)?.map_or(0, |now| now.statements_done) as usize;
    Ok(Some(Start {
        script,
        owner: migrations::owner(&found)?,
        search_path: migrations::search_path(&catalog, &found)?,
        done,
        first: match before.filter(|before| before.statements_done as usize == done) {
            Some(before) if before.interrupted => Change::MayBeDone,
            Some(_) => Change::MayBeBegun,
            None => Change::Nothing,
        },
    }))
}

/// Drops all invalid indexes in the schema. An interrupted CREATE INDEX CONCURRENTLY has left them, perhaps of a
/// migration that has been removed since, and the statement may need their names.
fn drop_invalid_indexes(tenant: &Tenant) -> Result<()> {
    let catalog = Catalog::write()?;
    let invalid = unfinished::invalid_indexes(&catalog, &tenant.schema_name)?;
    for found in &invalid {
        // An index that an administrator is building is also invalid until it is complete. Wait for the build, then
        // check again.
        execute(catalog.scope(), &command!("LOCK TABLE {} IN SHARE UPDATE EXCLUSIVE MODE", &found.table))?;
    }
    if !invalid.is_empty() {
        // A build releases its lock shortly before it commits.
        pause(Duration::from_millis(200));
    }
    for left in unfinished::invalid_indexes(&catalog, &tenant.schema_name)? {
        execute(catalog.scope(), &command!("DROP INDEX {}", &left.index))?;
    }
    Ok(())
}
