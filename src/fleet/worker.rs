//! A background worker: visits tenants one after the other.

use std::time::Duration;

use pgrx::bgworkers::BackgroundWorker;
use pgrx::prelude::*;

use super::job_queue::{JobQueue, Plan, Task};
use super::nontransactional::name_session;
use super::purge;
use super::transaction::{keep, transaction};
use super::visit::{Visit, visit};
use super::wait::Wait;
use crate::catalog::Catalog;
use crate::catalog::fleet::{self, NewRun};
use crate::error::Result;
use crate::pg::{caches, locks, pause, roles};

unsafe extern "C-unwind" {
    // The server's handler; pgrx's binding of it cannot be passed on as one.
    fn die(signal: i32);
}

/// Tenants after which a worker forgets what the server has cached for it of tables that it will not see again.
const FORGET_EVERY: u32 = 200;

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fluxbase_tenant_fleet_worker(argument: pg_sys::Datum) {
    settle_in();
    let handle = argument.value() as pg_sys::dsm_handle;
    // Before there are transactions, which would own the mapping.
    let Ok(queue) = JobQueue::read(handle) else {
        return;
    };
    let plan = queue.plan_without_tenants();
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(plan.database), None);
    work(&queue, &plan);
}

/// What a worker does first. `die` is what backends answer SIGTERM with, so the statement is cancelled at its next interrupt
/// check and the transaction aborted.
pub fn settle_in() {
    locks::release_at_exit();
    // SAFETY: installs a handler of the server's, then lets signals in.
    unsafe {
        handle_sigterm();
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

#[cfg(feature = "pg18")]
unsafe fn handle_sigterm() {
    // SAFETY: installs the server's own handler.
    unsafe { pg_sys::pqsignal_be(15, Some(die)) };
}

#[cfg(not(feature = "pg18"))]
unsafe fn handle_sigterm() {
    // SAFETY: installs the server's own handler.
    unsafe { pg_sys::pqsignal(15, Some(die)) };
}

fn work(queue: &JobQueue, plan: &Plan) {
    let number = queue.arrive();
    let begun = transaction(|| {
        keep(queue.lock_of_worker(number)?, false);
        name_session(plan)
    });
    if begun.is_err() {
        return;
    }
    queue.mark_present(number);
    match plan.task {
        Task::Migrate => migrate(queue, plan),
        Task::Purge => purge::work(queue, plan),
    }
}

fn migrate(queue: &JobQueue, plan: &Plan) {
    if queue.enter() {
        if transaction(|| record_run(plan, queue)).is_ok() {
            queue.mark_recorded();
        } else {
            queue.stop();
        }
    }
    while !queue.is_recorded() && !queue.is_stopped() {
        pause(Duration::from_millis(5));
    }
    let mut busy = Vec::new();
    let mut visited = 0;
    while let Some(tenant) = queue.take() {
        visited += 1;
        if visited % FORGET_EVERY == 0 {
            let _ = transaction(|| {
                caches::forget_all();
                Ok(())
            });
        }
        busy.extend(visit(queue, Visit::begin(plan, tenant), Wait::No));
    }
    // What another run was at, or a session had locked: now worth waiting for.
    for begun in busy {
        if queue.is_stopped() {
            break;
        }
        visit(queue, begun, Wait::Yes);
    }
    if queue.leave() {
        // A run that cannot be marked shows as unfinished, which is what it is.
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
