//! The background worker of a fleet run or a purge: visits tenants from the job queue one after another.

use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use pgrx::prelude::*;

use super::job_queue::{JobQueue, Plan, Task};
use super::nontransactional::initialize_session;
use super::purge;
use super::transaction::{hold_for_session, transaction};
use super::visit::{Visit, visit};
use super::wait::Wait;
use crate::catalog::Catalog;
use crate::catalog::fleet::{self, NewRun};
use crate::error::Result;
use crate::pg::{caches, locks, pause, roles};

unsafe extern "C-unwind" {
    // PostgreSQL's signal handler. The binding that pgrx has for it cannot be passed as a handler.
    fn die(signal: i32);
}

/// Number of tenants after which a worker empties PostgreSQL's caches, most of whose entries are about tables that the
/// worker does not access again.
const EMPTY_CACHES_EVERY: u32 = 200;

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fluxbase_tenant_fleet_worker(argument: pg_sys::Datum) {
    initialize();
    let handle = argument.value() as pg_sys::dsm_handle;
    // Before the first transaction, which would own the mapping.
    let Ok(queue) = JobQueue::attach(handle) else {
        return;
    };
    let plan = queue.plan_without_tenants();
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(plan.database), None);
    work(&queue, &plan);
}

/// Prepares a worker process. Must be called first. SIGTERM is handled by `die` as in backends: the next interrupt
/// check cancels the statement and aborts the transaction.
pub fn initialize() {
    locks::release_at_exit();
    // SAFETY: installs PostgreSQL's own handler, then unblocks signals.
    unsafe {
        handle_sigterm();
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

#[cfg(feature = "pg18")]
unsafe fn handle_sigterm() {
    // SAFETY: installs PostgreSQL's own handler.
    unsafe { pg_sys::pqsignal_be(15, Some(die)) };
}

#[cfg(not(feature = "pg18"))]
unsafe fn handle_sigterm() {
    // SAFETY: installs PostgreSQL's own handler.
    unsafe { pg_sys::pqsignal(15, Some(die)) };
}

fn work(queue: &JobQueue, plan: &Plan) {
    let number = queue.assign_number();
    let begun = transaction(|| {
        // If the leader is testing the lock at this moment, the next transaction acquires it.
        hold_for_session(queue.worker_lock(number)?, false);
        initialize_session(plan)
    });
    if let Err(failure) = begun {
        queue.record_error(&failure.message);
        return;
    }
    queue.mark_locked(number);
    match plan.task {
        Task::Migrate => migrate(queue, plan),
        Task::Purge => purge::work(queue, plan),
    }
}

/// Migrates tenants until the queue is empty. The first worker records the run, the last one records its end.
fn migrate(queue: &JobQueue, plan: &Plan) {
    if queue.begin_work() && !queue.is_run_recorded() {
        // In a transaction of its own: if the default isolation level is SERIALIZABLE, it may fail.
        let _ = transaction(|| fleet::close_crashed_runs(&Catalog::write()?));
        match transaction(|| record_run(plan, queue)) {
            Ok(()) => queue.mark_run_recorded(),
            Err(failure) => {
                queue.record_error(&failure.message);
                queue.stop();
            }
        }
    }
    while !queue.is_run_recorded() && !queue.is_stopped() {
        pause(Duration::from_millis(5));
    }
    let mut busy = Vec::new();
    let mut visits = 0;
    while let Some(tenant) = queue.next_tenant() {
        visits += 1;
        if visits % EMPTY_CACHES_EVERY == 0 {
            let _ = transaction(|| {
                caches::forget_all();
                Ok(())
            });
        }
        busy.extend(visit(queue, Visit::begin(plan, tenant), Wait::No));
    }
    // Tenants that another run or session had locked. The queue is empty, so wait for these tenants now.
    for begun in busy {
        if queue.is_stopped() {
            break;
        }
        visit(queue, begun, Wait::Yes);
    }
    if queue.end_work() {
        // If this fails, the run is shown as unfinished.
        let _ = transaction(|| fleet::finish_run(&Catalog::write()?, plan.run));
    }
}

fn record_run(plan: &Plan, queue: &JobQueue) -> Result<()> {
    fleet::insert_run(
        &Catalog::write()?,
        NewRun {
            id: plan.run,
            target: plan.target,
            dry_run: plan.dry_run,
            workers: plan.workers,
            total: queue.total() as i32,
            started_by: plan.user,
            started_by_role: &roles::name(plan.role),
        },
    )
}
