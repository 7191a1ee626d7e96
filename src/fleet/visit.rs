//! A visit: one worker's work on one tenant, all attempts included. Applies the pending migrations in one transaction,
//! up to the first nontransactional one. Runs that one in its own transactions, and repeats this until no migration is
//! pending.

use std::time::{Duration, Instant};

use pgrx::Uuid;
use pgrx::prelude::*;

use super::job_queue::{JobQueue, Plan};
use super::nontransactional::{self, Ran};
use super::transaction::{Failure, transaction};
use super::wait::Wait;
use crate::catalog::Catalog;
use crate::catalog::fleet::{self, NewResult};
use crate::catalog::migrations::Migration;
use crate::catalog::tenants::{self, Tenant};
use crate::error::{Error, Result};
use crate::migrations::{self, Nontransactional, Outcome};
use crate::model::Status;
use crate::pg::guc::{self, Lifetime};
use crate::pg::locks::{self, ObjectLock};
use crate::pg::{pause, sandbox, temporary};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The state of a visit. Each retry continues after what the previous attempts have committed.
pub struct Visit<'a> {
    plan: &'a Plan<'a>,
    tenant: Uuid,
    wait: Wait,
    started: Instant,
    /// The tenant's version when the visit began; `None` until the tenant has been read.
    from_version: Option<Option<String>>,
    applied: i32,
}

/// The outcome of one transaction.
enum Step {
    Done,
    /// Another session has locked the tenant.
    Busy,
    /// The next pending migration is this nontransactional one.
    Nontransactional(Box<(Tenant, Migration)>),
}

/// Visits a tenant. If another session has locked it and `wait` is `Wait::No`, returns the visit, to be resumed later.
pub fn visit<'a>(queue: &JobQueue, visit: Visit<'a>, wait: Wait) -> Option<Visit<'a>> {
    let resumable = visit_with_retries(queue, visit, wait);
    locks::release_advisory();
    // A nontransactional command may leave temporary objects behind, which the next tenant's script would find.
    let drop_all = || {
        temporary::drop_all();
        Ok(())
    };
    if temporary::may_exist() && transaction(drop_all).is_err() {
        ereport!(FATAL, PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, "cannot drop the temporary objects of a migration");
    }
    resumable
}

fn visit_with_retries<'a>(queue: &JobQueue, mut visit: Visit<'a>, wait: Wait) -> Option<Visit<'a>> {
    visit.wait = wait;
    // The time for which a busy tenant has waited in the list does not count.
    visit.started = Instant::now();
    let mut pause_for = FIRST_PAUSE;
    let mut tries_left = visit.plan.retries;
    loop {
        match visit.attempt() {
            Ok(false) => return Some(visit),
            Ok(true) => {
                queue.count(false);
                return None;
            }
            Err(failure) if failure.is_transient && tries_left > 0 && !queue.is_stopped() => {
                tries_left -= 1;
                pause(pause_for);
                pause_for = (pause_for * 2).min(LONGEST_PAUSE);
            }
            Err(failure) => {
                let _ = transaction(|| visit.record_failure(&failure));
                queue.count(true);
                return None;
            }
        }
    }
}

impl<'a> Visit<'a> {
    pub fn begin(plan: &'a Plan<'a>, tenant: Uuid) -> Self {
        Visit { plan, tenant, wait: Wait::No, started: Instant::now(), from_version: None, applied: 0 }
    }

    /// Applies migrations until none is pending. Returns false if another session has locked the tenant.
    fn attempt(&mut self) -> std::result::Result<bool, Failure> {
        loop {
            match self.step()? {
                Step::Done => return Ok(true),
                Step::Busy => return Ok(false),
                Step::Nontransactional(next) => {
                    let (tenant, migration) = *next;
                    match nontransactional::run(&tenant, &migration, self.plan, self.wait)? {
                        Ran::Completed => self.applied += 1,
                        Ran::NotNeeded => {}
                        Ran::Busy => return Ok(false),
                    }
                }
            }
        }
    }

    fn step(&mut self) -> std::result::Result<Step, Failure> {
        sandbox::forget_place();
        // A dry run is rolled back by raising an error, and its result recorded in another transaction.
        let mut dry_run_outcome = None;
        let stepped = transaction(|| {
            guc::set(c"lock_timeout", &self.plan.lock_timeout_ms.to_string(), Lifetime::Transaction)?;
            let catalog = Catalog::write()?;
            let Some(tenant) = lock(&catalog, self.tenant, self.wait)? else {
                // The tenant has been deleted permanently, or is locked.
                return Ok(if tenants::id_exists(&catalog, self.tenant)? { Step::Busy } else { Step::Done });
            };
            let from = self.from_version.get_or_insert_with(|| tenant.schema_version.clone()).clone();
            if tenant.status == Status::Deleted {
                self.record(&catalog, "skipped", &tenant, from.as_deref(), self.applied)?;
                return Ok(Step::Done);
            }
            let nontransactional =
                if self.plan.dry_run { Nontransactional::InTransaction } else { Nontransactional::Deferred };
            let outcome = migrations::migrate(&catalog, tenant, self.plan.target, self.plan.user, nontransactional)?;
            if self.plan.dry_run {
                dry_run_outcome = Some(outcome);
                return Err(Error::internal("end of dry run"));
            }
            let Outcome { tenant, applied, next, .. } = outcome;
            let applied = self.applied + applied;
            Ok(match next {
                Some(migration) => {
                    self.applied = applied;
                    Step::Nontransactional(Box::new((tenant, migration)))
                }
                None => {
                    self.record(&catalog, "migrated", &tenant, from.as_deref(), applied)?;
                    Step::Done
                }
            })
        });
        let Some(Outcome { tenant, from_version, applied, .. }) = dry_run_outcome else {
            return stepped;
        };
        transaction(|| self.record(&Catalog::write()?, "migrated", &tenant, from_version.as_deref(), applied))?;
        Ok(Step::Done)
    }

    fn record(
        &self,
        catalog: &Catalog,
        status: &str,
        tenant: &Tenant,
        from_version: Option<&str>,
        applied: i32,
    ) -> Result<()> {
        fleet::insert_visit(
            catalog,
            self.plan.run,
            NewResult {
                tenant_id: tenant.id,
                status,
                from_version,
                to_version: tenant.schema_version.as_deref(),
                applied,
                seconds: self.started.elapsed().as_secs_f64(),
                sqlstate: None,
                error: None,
                place: None,
            },
        )
    }

    fn record_failure(&self, failure: &Failure) -> Result<()> {
        let catalog = Catalog::write()?;
        let version = tenants::by_id(&catalog, self.tenant)?.and_then(|tenant| tenant.schema_version);
        let from_version = self.from_version.clone().unwrap_or_else(|| version.clone());
        fleet::insert_visit(
            &catalog,
            self.plan.run,
            NewResult {
                tenant_id: self.tenant,
                status: "failed",
                from_version: from_version.as_deref(),
                to_version: version.as_deref(),
                applied: self.applied,
                seconds: self.started.elapsed().as_secs_f64(),
                sqlstate: Some(&failure.sqlstate),
                error: Some(&failure.message),
                place: failure.place.as_deref(),
            },
        )
    }
}

/// Locks a tenant and returns it, or `None` if it does not exist or is locked and `wait` is `Wait::No`. Acquires the
/// migration lock before the row lock, because a session that holds the row lock must not wait for the migration lock.
pub fn lock(catalog: &Catalog, tenant: Uuid, wait: Wait) -> Result<Option<Tenant>> {
    let Some(found) = tenants::by_id(catalog, tenant)? else {
        return Ok(None);
    };
    let lock = ObjectLock::of_migrations(migrations::owner(&found)?);
    match wait {
        Wait::No if !lock.try_take() => Ok(None),
        Wait::No => tenants::try_lock(catalog, tenant),
        Wait::Yes => {
            lock.take();
            tenants::lock(catalog, tenant)
        }
    }
}
