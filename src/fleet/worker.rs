//! A background worker: visits tenants one after the other, each in a transaction of its own.

use std::time::{Duration, Instant};

use pgrx::bgworkers::BackgroundWorker;
use pgrx::pg_sys::panic::CaughtError;
use pgrx::prelude::*;
use pgrx::{PgTryBuilder, Uuid};

use super::orders::{Orders, Plan};
use crate::catalog::Catalog;
use crate::catalog::fleet::{self, NewRun, NewVisit};
use crate::catalog::tenants::{self, Status, Tenant};
use crate::error::{Error, Result};
use crate::migrate;
use crate::pg::guc::{self, Lifetime};
use crate::pg::{pause, roles, sandbox};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

unsafe extern "C-unwind" {
    // The server's handler; pgrx's binding of it cannot be passed on as one.
    fn die(signal: i32);
}

#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn fluxbase_tenant_fleet_worker(argument: pg_sys::Datum) {
    // SAFETY: the first thing a worker does. `die` is what backends answer SIGTERM with: the statement is cancelled at its
    // next interrupt check and the transaction aborted.
    unsafe {
        handle_sigterm();
        pg_sys::BackgroundWorkerUnblockSignals();
    }
    let handle = argument.value() as pg_sys::dsm_handle;
    // Before there are transactions, which would own the mapping.
    let Ok(orders) = Orders::read(handle) else {
        return;
    };
    let plan = orders.plan_without_tenants();
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(plan.database), None);
    work(&orders, &plan);
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

fn work(orders: &Orders, plan: &Plan) {
    let name = format!("fluxbase_tenant {}", plan.run);
    let named = transaction(|| guc::set(c"application_name", &name, Lifetime::Session));
    if named.is_err() {
        return;
    }
    if orders.enter() {
        if transaction(|| record_run(plan, orders)).is_ok() {
            orders.mark_recorded();
        } else {
            orders.stop();
        }
    }
    while !orders.is_recorded() && !orders.is_stopped() {
        pause(Duration::from_millis(5));
    }
    let mut busy = Vec::new();
    while let Some(tenant) = orders.take() {
        if !visit(orders, plan, tenant, Wait::No) {
            busy.push(tenant);
        }
    }
    // What another run was at, or a session had locked: now worth waiting for.
    for tenant in busy {
        if orders.is_stopped() {
            break;
        }
        visit(orders, plan, tenant, Wait::Yes);
    }
    if orders.leave() {
        // A run that cannot be marked shows as unfinished, which is what it is.
        let _ = transaction(|| fleet::finish_run(&Catalog::write()?, plan.run));
    }
}

fn record_run(plan: &Plan, orders: &Orders) -> Result<()> {
    fleet::insert_run(
        &Catalog::write()?,
        NewRun {
            id: plan.run,
            target: plan.target,
            dry_run: plan.dry_run,
            workers: plan.workers,
            total: orders.total() as i32,
            started_by: plan.user,
            started_by_role: &roles::name(plan.role),
        },
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    No,
    Yes,
}

/// What became of one tenant in one attempt.
enum Attempt {
    Done,
    Busy,
    Failed(Failure),
}

struct Failure {
    sqlstate: String,
    message: String,
    place: Option<String>,
    may_pass: bool,
}

/// False where the tenant is locked by somebody else and `wait` says not to wait.
fn visit(orders: &Orders, plan: &Plan, tenant: Uuid, wait: Wait) -> bool {
    let started = Instant::now();
    let mut pause_for = FIRST_PAUSE;
    let mut tries_left = plan.retries;
    loop {
        match attempt(plan, tenant, wait, started) {
            Attempt::Busy => return false,
            Attempt::Done => {
                orders.count(false);
                return true;
            }
            Attempt::Failed(failure) if failure.may_pass && tries_left > 0 && !orders.is_stopped() => {
                tries_left -= 1;
                pause(pause_for);
                pause_for = (pause_for * 2).min(LONGEST_PAUSE);
            }
            Attempt::Failed(failure) => {
                let seconds = started.elapsed().as_secs_f64();
                let _ = transaction(|| record_failure(plan, tenant, &failure, seconds));
                orders.count(true);
                return true;
            }
        }
    }
}

fn attempt(plan: &Plan, tenant: Uuid, wait: Wait, started: Instant) -> Attempt {
    sandbox::forget_place();
    // What a dry run did is rolled back by an error of its own, and recorded after it.
    let mut rehearsed: Option<migrate::Outcome> = None;
    let result = transaction(|| {
        guc::set(c"lock_timeout", &plan.lock_timeout_ms.to_string(), Lifetime::Transaction)?;
        let catalog = Catalog::write()?;
        let locked = match wait {
            Wait::No => tenants::try_lock(&catalog, tenant)?,
            Wait::Yes => tenants::lock(&catalog, tenant)?,
        };
        let Some(locked) = locked else {
            // Gone for good, or locked.
            return Ok(!tenants::id_exists(&catalog, tenant)?);
        };
        if locked.status == Status::Deleted {
            record(&catalog, plan, "skipped", &locked, locked.schema_version.as_deref(), 0, started)?;
            return Ok(true);
        }
        let outcome = migrate::migrate(&catalog, locked, plan.target, plan.user)?;
        if plan.dry_run {
            rehearsed = Some(outcome);
            return Err(Error::internal("end of dry run"));
        }
        record(&catalog, plan, "migrated", &outcome.tenant, outcome.from_version.as_deref(), outcome.applied, started)?;
        Ok(true)
    });
    if let Some(outcome) = rehearsed {
        let recorded = transaction(|| {
            let from = outcome.from_version.as_deref();
            record(&Catalog::write()?, plan, "migrated", &outcome.tenant, from, outcome.applied, started)
        });
        return match recorded {
            Ok(()) => Attempt::Done,
            Err(failure) => Attempt::Failed(failure),
        };
    }
    match result {
        Ok(true) => Attempt::Done,
        Ok(false) => Attempt::Busy,
        Err(failure) => Attempt::Failed(failure),
    }
}

fn record(
    catalog: &Catalog,
    plan: &Plan,
    status: &str,
    tenant: &Tenant,
    from_version: Option<&str>,
    applied: i32,
    started: Instant,
) -> Result<()> {
    fleet::insert_visit(
        catalog,
        plan.run,
        NewVisit {
            tenant_id: tenant.id,
            status,
            from_version,
            to_version: tenant.schema_version.as_deref(),
            applied,
            seconds: started.elapsed().as_secs_f64(),
            sqlstate: None,
            error: None,
            place: None,
        },
    )
}

fn record_failure(plan: &Plan, tenant: Uuid, failure: &Failure, seconds: f64) -> Result<()> {
    let catalog = Catalog::write()?;
    let version = tenants::by_id(&catalog, tenant)?.and_then(|tenant| tenant.schema_version);
    fleet::insert_visit(
        &catalog,
        plan.run,
        NewVisit {
            tenant_id: tenant,
            status: "failed",
            from_version: version.as_deref(),
            to_version: version.as_deref(),
            applied: 0,
            seconds,
            sqlstate: Some(&failure.sqlstate),
            error: Some(&failure.message),
            place: failure.place.as_deref(),
        },
    )
}

/// Runs a transaction; an error of the server or of ours rolls it back and becomes the result.
fn transaction<T>(run: impl FnOnce() -> Result<T>) -> std::result::Result<T, Failure> {
    let mut answer = None;
    let mut body = Some(run);
    let caught = PgTryBuilder::new(std::panic::AssertUnwindSafe(|| {
        // SAFETY: a worker between transactions; the abort below ends whatever an error leaves open.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
            pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        }
        match (body.take()?)() {
            Ok(value) => {
                // SAFETY: the snapshot pushed above is the active one again.
                unsafe {
                    pg_sys::PopActiveSnapshot();
                    pg_sys::CommitTransactionCommand();
                }
                answer = Some(value);
                None
            }
            Err(error) => Some(Failure::from_error(&error)),
        }
    }))
    .catch_others(|caught| Some(Failure::from_caught(&caught)))
    .execute();
    match (caught, answer) {
        (None, Some(answer)) => Ok(answer),
        (failure, _) => {
            // SAFETY: ends the transaction that the error left.
            unsafe { pg_sys::AbortCurrentTransaction() };
            Err(failure.unwrap_or_else(|| Failure::from_error(&Error::internal("a transaction without a result"))))
        }
    }
}

impl Failure {
    fn new(code: PgSqlErrorCode, message: &str) -> Self {
        use PgSqlErrorCode::*;
        Failure {
            sqlstate: sqlstate_text(code),
            message: message.to_string(),
            place: sandbox::last_place(),
            may_pass: matches!(
                code,
                ERRCODE_LOCK_NOT_AVAILABLE | ERRCODE_T_R_DEADLOCK_DETECTED | ERRCODE_T_R_SERIALIZATION_FAILURE
            ),
        }
    }

    fn from_error(error: &Error) -> Self {
        Failure::new(error.sqlstate(), &error.message())
    }

    fn from_caught(caught: &CaughtError) -> Self {
        let report = match caught {
            CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => report,
            CaughtError::RustPanic { ereport, .. } => ereport,
        };
        Failure::new(report.sql_error_code(), report.message())
    }
}

/// Five characters of six bits each, as the server packs them.
fn sqlstate_text(code: PgSqlErrorCode) -> String {
    let code = code as i32;
    (0..5).map(|i| char::from(((code >> (6 * i)) & 0x3f) as u8 + b'0')).collect()
}
