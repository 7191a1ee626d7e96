//! The session that asks: decides what is to be done, starts the workers, waits, and reports.

use std::time::{Duration, Instant};

use pgrx::Uuid;
use pgrx::bgworkers::{BackgroundWorkerBuilder, BackgroundWorkerStatus, DynamicBackgroundWorker};
use pgrx::prelude::*;

use super::job_queue::{JobQueue, Plan, Task};
use crate::access::InstancePermit;
use crate::catalog::fleet::{self, TenantResult};
use crate::catalog::{Catalog, tenants, versions};
use crate::error::{Error, Result};
use crate::migrations::target_key;
use crate::model::ids;
use crate::pg::{IgnoredByBuilds, backend, pause};

const MAX_WORKERS: i32 = 64;
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The arguments of `tenant_migrate_all`.
pub struct Options {
    pub target: Option<String>,
    pub parallel: i32,
    pub only: Option<Vec<String>>,
    pub lock_timeout_ms: i32,
    pub retries: i32,
    pub stop_on_error: bool,
    pub dry_run: bool,
}

pub fn migrate_all(permit: &InstancePermit, options: Options) -> Result<Vec<TenantResult>> {
    let (role, tenants) = {
        let catalog = Catalog::latest()?;
        refuse_in_transaction_block()?;
        options.check()?;
        (catalog.caller_role(), to_visit(&catalog, &options)?)
    };
    if tenants.is_empty() {
        return Ok(Vec::new());
    }
    let run = ids::new();
    conduct(&Plan {
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
                "Start with as many as the server has cores to spare.",
            ));
        }
        if self.retries < 0 || self.lock_timeout_ms < 0 {
            return Err(Error::invalid(
                "retries and lock_timeout must not be negative",
                "0 retries tries once; a lock_timeout of 0 waits for ever.",
            ));
        }
        Ok(())
    }
}

/// The workers commit for themselves, so what an open transaction holds or has not committed would be in their way.
fn refuse_in_transaction_block() -> Result<()> {
    if backend::is_in_transaction_block() {
        return Err(Error::InTransactionBlock { command: "tenant_migrate_all()" });
    }
    Ok(())
}

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

/// Workers that are ended when their leader goes, however it goes.
struct WorkerPool(Vec<DynamicBackgroundWorker>);

impl Drop for WorkerPool {
    fn drop(&mut self) {
        for worker in self.0.drain(..) {
            worker.terminate();
        }
    }
}

/// What the workers met with.
pub(super) struct Tally {
    pub failed: u32,
    pub first_error: String,
}

pub(super) fn conduct(plan: &Plan) -> Result<Tally> {
    let queue = JobQueue::write(plan)?;
    let mut crew = hire(plan.workers, &queue)?;
    // Concurrent builds of ours and of other runs would wait for this session's snapshot, and this session for the workers.
    let mut ignored = IgnoredByBuilds::begin();
    if !fleet::caller_is_waited_for(&Catalog::latest()?)? {
        ignored = ignored.let_go();
    }
    wait(&mut crew, &queue)?;
    drop(ignored);
    let (done, failed) = queue.counts();
    if done < queue.total() && !queue.is_stopped() {
        return Err(Error::conflict(
            format!("the workers ended with {done} of {} tenants done", queue.total()),
            "See the server's log for why, then call again: what was committed stays.",
        ));
    }
    Ok(Tally { failed, first_error: queue.first_error() })
}

fn hire(wanted: i32, queue: &JobQueue) -> Result<WorkerPool> {
    let mut crew = WorkerPool(Vec::new());
    for number in 1..=wanted {
        let hired = BackgroundWorkerBuilder::new(&format!("fluxbase_tenant fleet {number}"))
            .set_type("fluxbase_tenant fleet")
            .set_library("fluxbase_tenant")
            .set_function("fluxbase_tenant_fleet_worker")
            .set_argument(Some(pg_sys::Datum::from(queue.handle())))
            .set_notify_pid(backend::process_id())
            .set_restart_time(None)
            .enable_spi_access()
            .load_dynamic();
        match hired {
            Ok(worker) => crew.0.push(worker),
            Err(_) => break,
        }
    }
    match crew.0.len() as i32 {
        0 => Err(Error::NoWorkers),
        hired => {
            if hired < wanted {
                ereport!(
                    NOTICE,
                    PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
                    format!(
                        "{hired} of {wanted} background workers could be started; raise max_worker_processes for more"
                    )
                );
            }
            Ok(crew)
        }
    }
}

/// Until all workers have ended. Cancelling this session ends them, through `WorkerPool`. The wait is for a lock that each of them
/// holds, so that the server's deadlock detector sees it: a worker that waits for what this session has locked is told so.
fn wait(crew: &mut WorkerPool, queue: &JobQueue) -> Result<()> {
    let mut told = Instant::now();
    // Workers that did not hold their lock, since the last pause.
    let mut looked_at = 0;
    loop {
        crew.0.retain(|worker| !matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped)));
        if crew.0.is_empty() {
            return Ok(());
        }
        if told.elapsed() >= REPORT_INTERVAL {
            told = Instant::now();
            let (done, failed) = queue.counts();
            ereport!(
                NOTICE,
                PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION,
                format!("{done} of {} tenants visited, {failed} failed", queue.total())
            );
        }
        // One that has ended, or whose transaction was rolled back, does not hold its lock.
        match (queue.present() & !looked_at).trailing_zeros() {
            u64::BITS => {
                looked_at = 0;
                pause(POLL_INTERVAL);
            }
            number => {
                if queue.lock_of_worker(number)?.wait_for_release(REPORT_INTERVAL)? {
                    looked_at |= 1 << number;
                }
            }
        }
    }
}
