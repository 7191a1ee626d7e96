//! Permanently deletes soft-deleted tenants, in workers and in one transaction per tenant, so that no transaction locks
//! the tables of many tenants.

use pgrx::Uuid;
use pgrx::datum::Interval;
use pgrx::prelude::*;

use super::job_queue::{JobQueue, Plan, Task};
use super::leader::run_workers;
use super::transaction::transaction;
use crate::access::InstancePermit;
use crate::catalog::Catalog;
use crate::catalog::tenants::{self, Tenant};
use crate::error::{Error, Result};
use crate::model::ids;
use crate::pg::backend;
use crate::pg::guc::{self, Lifetime};
use crate::pg::locks::unless_locked;
use crate::tenants::destroy;

const WORKERS: i32 = 2;
const LOCK_TIMEOUT_MS: i32 = 5000;

/// Deletes the tenants that were soft-deleted longer ago than `older_than`, and returns those that were deleted. Does
/// so in the caller's transaction if that is a transaction block, if there is at most one tenant, or if no worker can
/// be started.
pub fn purge(permit: &InstancePermit, older_than: Interval) -> Result<Vec<Tenant>> {
    let (role, candidates) = {
        let catalog = Catalog::write()?;
        let candidates = tenants::list_deleted_before(&catalog, older_than)?;
        if backend::is_in_transaction_block() || candidates.len() < 2 {
            return in_callers_transaction(&catalog, candidates);
        }
        (catalog.caller_role(), candidates)
    };
    let tenants: Vec<Uuid> = candidates.iter().map(|tenant| tenant.id).collect();
    let tally = run_workers(&Plan {
        task: Task::Purge,
        deleted_until: candidates.iter().filter_map(deleted_at).max().unwrap_or(0),
        database: backend::database(),
        run: ids::new(),
        user: permit.user(),
        role,
        workers: WORKERS.min(tenants.len() as i32),
        lock_timeout_ms: LOCK_TIMEOUT_MS,
        retries: 0,
        stop_on_error: false,
        dry_run: false,
        target: None,
        tenants: &tenants,
    });
    match tally {
        Ok(tally) if tally.failed > 0 => ereport!(
            WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("{} of {} tenants could not be deleted: {}", tally.failed, tenants.len(), tally.first_error)
        ),
        Ok(_) => {}
        Err(Error::NoWorkers) => return in_callers_transaction(&Catalog::write()?, candidates),
        Err(error) => return Err(error),
    }
    let left = tenants::existing(&Catalog::latest()?, &tenants)?;
    Ok(candidates.into_iter().filter(|tenant| !left.contains(&tenant.id)).collect())
}

/// Deletes tenants in the caller's transaction. Skips a tenant that another transaction has locked.
fn in_callers_transaction(catalog: &Catalog, candidates: Vec<Tenant>) -> Result<Vec<Tenant>> {
    let mut purged = Vec::new();
    let mut locked = 0;
    for candidate in candidates {
        let until = deleted_at(&candidate).unwrap_or(0);
        let purge = || still_deleted(catalog, candidate.id, until)?.map(|tenant| destroy(catalog, tenant)).transpose();
        match unless_locked(&format!("{LOCK_TIMEOUT_MS}ms"), purge)? {
            Some(tenant) => purged.extend(tenant),
            None => locked += 1,
        }
    }
    if locked > 0 {
        ereport!(
            WARNING,
            PgSqlErrorCode::ERRCODE_WARNING,
            format!("{locked} tenants could not be deleted: other sessions have locked their objects")
        );
    }
    Ok(purged)
}

/// Deletes tenants in a worker until the queue is empty.
pub fn work(queue: &JobQueue, plan: &Plan) {
    while let Some(tenant) = queue.next_tenant() {
        let purged = transaction(|| {
            guc::set(c"lock_timeout", &plan.lock_timeout_ms.to_string(), Lifetime::Transaction)?;
            let catalog = Catalog::write()?;
            if let Some(tenant) = still_deleted(&catalog, tenant, plan.deleted_until)? {
                destroy(&catalog, tenant)?;
            }
            Ok(())
        });
        if let Err(failure) = &purged {
            queue.record_error(&failure.message);
        }
        queue.count(purged.is_err());
    }
}

/// Locks a tenant and returns it if it is still deleted, and not deleted after `until`: another transaction may have
/// restored it and even deleted it again.
fn still_deleted(catalog: &Catalog, id: Uuid, until: i64) -> Result<Option<Tenant>> {
    Ok(tenants::lock(catalog, id)?.filter(|tenant| deleted_at(tenant).is_some_and(|at| at <= until)))
}

fn deleted_at(tenant: &Tenant) -> Option<i64> {
    tenant.deleted_at.map(pg_sys::TimestampTz::from)
}
