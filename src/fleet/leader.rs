//! The leader, the session that called `tenant_migrate_all()` or `tenant_purge()`: decides which tenants to visit,
//! starts the workers, waits for them, and reports.

use std::time::{Duration, Instant};

use pgrx::Uuid;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BackgroundWorkerStatus, DynamicBackgroundWorker};
use pgrx::prelude::*;

use super::job_queue::{JobQueue, Plan, Task};
use crate::access::InstancePermit;
use crate::catalog::fleet::{self, TenantResult};
use crate::catalog::{Catalog, require_writable, tenants, versions};
use crate::error::{Error, Result};
use crate::migrations::target_key;
use crate::model::ids;
use crate::pg::{IgnoredByBuilds, backend, pause};

const MAX_WORKERS: i32 = 64;
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The arguments of `tenant_migrate_all()`.
pub struct Options {
    pub target: Option<String>,
    pub parallel: i32,
    pub only: Option<Vec<String>>,
    pub lock_timeout_ms: i32,
    pub retries: i32,
    pub stop_on_error: bool,
    pub dry_run: bool,
}

/// Performs a fleet run, and returns the result for each tenant.
pub fn migrate_all(permit: &InstancePermit, options: Options) -> Result<Vec<TenantResult>> {
    let (role, tenants) = {
        require_writable()?;
        let catalog = Catalog::latest()?;
        refuse_in_transaction_block()?;
        options.check()?;
        (catalog.caller_role(), to_visit(&catalog, &options)?)
    };
    if tenants.is_empty() {
        return Ok(Vec::new());
    }
    let run = ids::new();
    run_workers(&Plan {
        task: Task::Migrate,
        deleted_until: 0,
        database: backend::database(),
        run,
        user: permit.user(),
        role,
        workers: options.parallel.min(tenants.len() as i32),
        lock_timeout_ms: options.lock_timeout_ms,
        retries: options.retries,
        stop_on_error: options.stop_on_error,
        dry_run: options.dry_run,
        target: options.target.as_deref(),
        tenants: &tenants,
    })?;
    fleet::visits(&Catalog::latest()?, run)
}

impl Options {
    fn check(&self) -> Result<()> {
        if !(1..=MAX_WORKERS).contains(&self.parallel) {
            return Err(Error::invalid(
                format!("parallel must be between 1 and {MAX_WORKERS}"),
                "Start with the number of idle cores of the server.",
            ));
        }
        if self.retries < 0 || self.lock_timeout_ms < 0 {
            return Err(Error::invalid(
                "retries and lock_timeout must not be negative",
                "With 0 retries, each tenant is tried once. A lock_timeout of 0 waits without a limit.",
            ));
        }
        Ok(())
    }
}

/// Raises an error inside a transaction block. The workers commit in their own transactions: they would wait for locks
/// that an open transaction holds, and not see what it has not committed.
fn refuse_in_transaction_block() -> Result<()> {
    if backend::is_in_transaction_block() {
        return Err(Error::InTransactionBlock { command: "tenant_migrate_all()" });
    }
    Ok(())
}

/// Returns the tenants to visit: the named ones, or all tenants with a pending migration.
fn to_visit(catalog: &Catalog, options: &Options) -> Result<Vec<Uuid>> {
    let up_to = target_key(catalog, options.target.as_deref())?;
    let Some(only) = &options.only else {
        return versions::ids_with_pending(catalog, up_to.as_deref());
    };
    let mut named = Vec::new();
    for name in only {
        let id = tenants::id_of(catalog, name)?.ok_or_else(Error::tenant_not_found)?;
        if !named.contains(&id) {
            named.push(id);
        }
    }
    Ok(named)
}

/// The workers of this leader. They are terminated when it drops, also by an error.
struct WorkerPool(Vec<DynamicBackgroundWorker>);

impl Drop for WorkerPool {
    fn drop(&mut self) {
        for worker in self.0.drain(..) {
            worker.terminate();
        }
    }
}

/// The result of the workers' visits.
pub(super) struct Tally {
    pub failed: u32,
    pub first_error: String,
}

/// Starts workers for the plan, and waits until they have ended.
pub(super) fn run_workers(plan: &Plan) -> Result<Tally> {
    let queue = JobQueue::create(plan)?;
    let mut pool = start_workers(plan.workers, &queue)?;
    // CREATE INDEX CONCURRENTLY in a worker, of this run or of another one, would wait for this session's snapshot,
    // while this session waits for the workers.
    let mut ignored = IgnoredByBuilds::begin();
    // This also releases the builds that are waiting for this session by now. It is allowed only if no other session
    // has a reason to wait for this transaction: without its virtual lock, none could.
    if !fleet::caller_is_waited_for(&Catalog::latest()?)? {
        ignored = ignored.release_virtual_lock();
    }
    wait(&mut pool, &queue)?;
    drop(ignored);
    let (done, failed) = queue.counts();
    let is_not_begun = plan.task == Task::Migrate && !queue.is_run_recorded();
    // The stop flag alone is no failure, because stop_on_error sets it. But a worker that cannot record the run sets it
    // too.
    if done < queue.total() && (is_not_begun || !queue.is_stopped()) {
        let reason = queue.first_error();
        let reason = if reason.is_empty() { "the server log contains the reason".into() } else { reason };
        return Err(Error::conflict(
            format!("the workers ended with {done} of {} tenants done: {reason}", queue.total()),
            "Call the function again: committed work is kept.",
        ));
    }
    Ok(Tally { failed, first_error: queue.first_error() })
}

/// Starts up to `wanted` workers. Raises an error if none can be started, and a notice if only some can.
fn start_workers(wanted: i32, queue: &JobQueue) -> Result<WorkerPool> {
    let mut pool = WorkerPool(Vec::new());
    for number in 1..=wanted {
        let worker = BackgroundWorkerBuilder::new(&format!("fluxbase_tenant fleet {number}"))
            .set_type("fluxbase_tenant fleet")
            .set_library("fluxbase_tenant")
            .set_function("fluxbase_tenant_fleet_worker")
            .set_argument(Some(pg_sys::Datum::from(queue.handle())))
            .set_notify_pid(backend::process_id())
            .set_restart_time(None)
            .enable_spi_access()
            .load_dynamic();
        match worker {
            Ok(worker) => pool.0.push(worker),
            Err(_) => break,
        }
    }
    match pool.0.len() as i32 {
        0 => Err(Error::NoWorkers),
        started => {
            if started < wanted {
                ereport!(
                    NOTICE,
                    PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                    format!(
                        "started {started} of {wanted} background workers, because max_worker_processes allows no more"
                    )
                );
            }
            Ok(pool)
        }
    }
}

/// Waits until all workers have ended. Cancelling this session terminates them, because that drops the `WorkerPool`.
/// The wait is for a lock that each worker holds, so that the deadlock detector sees it: a worker that waits for a lock
/// of this session fails with a deadlock error.
fn wait(pool: &mut WorkerPool, queue: &JobQueue) -> Result<()> {
    let mut reported = Instant::now();
    // Workers whose lock was found released since the last pause. They are tried again after the pause: a worker gets
    // its lock back after a transaction that failed.
    let mut released = 0;
    loop {
        pool.0.retain(|worker| !matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped)));
        if pool.0.is_empty() {
            return Ok(());
        }
        if reported.elapsed() >= REPORT_INTERVAL {
            reported = Instant::now();
            let (done, failed) = queue.counts();
            ereport!(
                NOTICE,
                PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                format!("{done} of {} tenants visited, {failed} failed", queue.total())
            );
        }
        // A worker that has ended, or whose transaction was rolled back, does not hold its lock.
        match (queue.has_locked() & !released).trailing_zeros() {
            u64::BITS => {
                released = 0;
                pause(POLL_INTERVAL);
            }
            number => {
                if queue.worker_lock(number)?.wait_for_release(REPORT_INTERVAL)? {
                    released |= 1 << number;
                }
            }
        }
    }
}
