//! A migration that runs outside a transaction: statement by statement, each committed with the note that it is done.
//!
//! What stops half way is found by that note and goes on behind it. While it runs, a lock of the session keeps others
//! from migrating the tenant.

use super::orders::Plan;
use super::transaction::{Attempted, command, transaction};
use super::visit::Wait;
use crate::catalog::migrations::Migration;
use crate::catalog::tenants::{self, Status, Tenant};
use crate::catalog::{Catalog, applied, unfinished};
use crate::error::{Error, Result};
use crate::migrate::{self, Script};
use crate::pg::alone::Change;
use crate::pg::guc::{self, Lifetime};
use crate::pg::locks::ObjectLock;
use crate::pg::{execute, sandbox};

/// Where an attempt begins.
struct Start {
    script: Script,
    owner: pgrx::pg_sys::Oid,
    search_path: String,
    done: usize,
    /// Whether an earlier attempt may have done more than it noted.
    interrupted: bool,
}

/// False where another session is migrating the tenant and `wait` says not to wait.
pub fn run(tenant: &Tenant, migration: &Migration, plan: &Plan, wait: Wait) -> Attempted<bool> {
    let mut held = None;
    let result = go_on(tenant, migration, plan, wait, &mut held);
    if let Err(failure) = &result {
        let _ = transaction(|| unfinished::fail(&Catalog::write()?, tenant.id, &failure.sqlstate, &failure.message));
    }
    let _ = transaction(|| {
        guc::reset_all();
        if let Some(lock) = &held {
            lock.release();
        }
        name_session(plan)
    });
    result
}

/// What a worker is known by.
pub fn name_session(plan: &Plan) -> Result<()> {
    guc::set(c"application_name", &format!("fluxbase_tenant {}", plan.run), Lifetime::Session)
}

fn go_on(
    tenant: &Tenant,
    migration: &Migration,
    plan: &Plan,
    wait: Wait,
    held: &mut Option<ObjectLock>,
) -> Attempted<bool> {
    let lock_timeout = plan.lock_timeout_ms.to_string();
    let start = transaction(|| {
        guc::set(c"lock_timeout", &lock_timeout, Lifetime::Session)?;
        let lock = ObjectLock::of_role(migrate::owner(tenant)?);
        if !lock.hold(wait == Wait::Yes) {
            return Ok(None);
        }
        *held = Some(lock);
        begin(tenant, migration)
    })?;
    let Some(start) = start else {
        return Ok(held.is_some());
    };
    let tenant_id = tenant.id.to_string();
    for index in start.done..start.script.statements.len() {
        let statement = &start.script.statements[index];
        let resumed = index == start.done;
        if statement.alone {
            transaction(|| {
                if resumed {
                    drop_invalid_indexes(tenant)?;
                }
                // A command with transactions of its own has the session's settings, which end with none of them.
                guc::set(c"search_path", &start.search_path, Lifetime::Session)?;
                guc::set(c"fluxbase_tenant.tenant_id", &tenant_id, Lifetime::Session)
            })?;
            let change = if resumed && start.interrupted { Change::MayBeDone } else { Change::Nothing };
            command(|| sandbox::run_outside(start.owner, &statement.text, change, &start.script.place(index)))?;
        }
        transaction(|| {
            let catalog = Catalog::write()?;
            if !statement.alone {
                migrate::run_in_sandbox(&catalog, tenant, &start.script, index..index + 1)?;
            }
            unfinished::advance(&catalog, tenant.id, index as i32 + 1)
        })?;
    }
    transaction(|| {
        let catalog = Catalog::write()?;
        tenants::lock(&catalog, tenant.id)?.ok_or_else(Error::tenant_not_found)?;
        applied::record(&catalog, tenant.id, migration, plan.user)?;
        unfinished::end(&catalog, tenant.id)?;
        tenants::set_schema_version(&catalog, tenant.id).map(drop)
    })?;
    Ok(true)
}

/// Under the lock: looks again, and notes that it begins. `None` where somebody else has done it meanwhile.
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
        owner: migrate::owner(&found)?,
        search_path: migrate::search_path(&catalog, &found)?,
        done,
        interrupted: before.is_some_and(|before| before.interrupted && before.statements_done as usize == done),
    }))
}

/// What CREATE INDEX CONCURRENTLY left behind when it stopped is in the way of its next attempt.
fn drop_invalid_indexes(tenant: &Tenant) -> Result<()> {
    let catalog = Catalog::write()?;
    for index in unfinished::invalid_indexes(&catalog, &tenant.schema_name)? {
        execute(catalog.scope(), &format!("DROP INDEX {index}"))?;
    }
    Ok(())
}
