//! Functions for the whole fleet: migrations and spare tenants.

use pgrx::datum::{Interval, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use super::{Result, answer, required};
use crate::access::authorize_instance;
use crate::catalog::{Catalog, fleet as runs};
use crate::error::Error;
use crate::fleet::{self, Options};
use crate::tenants;

/// Applies the pending migrations to all tenants, in background workers and in one transaction per tenant.
#[pg_extern(sql = false)]
#[allow(clippy::too_many_arguments)]
fn tenant_migrate_all(
    target: Option<String>,
    parallel: Option<i32>,
    tenants: Option<Vec<Option<String>>>,
    lock_timeout: Option<Interval>,
    retries: Option<i32>,
    stop_on_error: Option<bool>,
    dry_run: Option<bool>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(tenant_id, Uuid),
            name!(slug, String),
            name!(status, String),
            name!(from_version, Option<String>),
            name!(to_version, Option<String>),
            name!(applied, i32),
            name!(duration, Interval),
            name!(sqlstate, Option<String>),
            name!(error, Option<String>),
        ),
    >,
> {
    let visits = answer(|| {
        let options = Options {
            target,
            parallel: required("parallel", parallel)?,
            only: tenants.map(|names| names.into_iter().flatten().collect()),
            lock_timeout_ms: milliseconds(required("lock_timeout", lock_timeout)?)?,
            retries: required("retries", retries)?,
            stop_on_error: required("stop_on_error", stop_on_error)?,
            dry_run: required("dry_run", dry_run)?,
        };
        let permit = authorize_instance(&Catalog::latest()?, "migrate all tenants")?;
        fleet::migrate_all(&permit, options)
    })?;
    Ok(TableIterator::new(visits.into_iter().map(|v| {
        (v.tenant_id, v.slug, v.status, v.from_version, v.to_version, v.applied, v.duration, v.sqlstate, v.error)
    })))
}

/// Returns the progress of the current fleet runs.
#[pg_extern(sql = false)]
fn tenant_migration_progress() -> Result<
    TableIterator<
        'static,
        (
            name!(run_id, Uuid),
            name!(started_at, TimestampWithTimeZone),
            name!(workers, i32),
            name!(total, i32),
            name!(done, i64),
            name!(failed, i64),
            name!(percent, f64),
            name!(per_second, f64),
            name!(eta, Option<Interval>),
            name!(bar, String),
        ),
    >,
> {
    let progress = answer(|| {
        let catalog = Catalog::latest()?;
        authorize_instance(&catalog, "see the progress of migrations")?;
        runs::progress(&catalog)
    })?;
    Ok(TableIterator::new(progress.into_iter().map(|p| {
        (p.run_id, p.started_at, p.workers, p.total, p.done, p.failed, p.percent, p.per_second, p.eta, p.bar)
    })))
}

/// Creates or drops spare tenants until there are `n`, in the caller's transaction.
#[pg_extern(sql = false)]
fn tenant_spares_fill(
    n: Option<i32>,
) -> Result<TableIterator<'static, (name!(made, i32), name!(migrated, i32), name!(dropped, i32))>> {
    let filled = answer(|| {
        let catalog = Catalog::write()?;
        let permit = authorize_instance(&catalog, "create spare tenants")?;
        let filled = tenants::fill(&catalog, &permit, n)?;
        fleet::remove_after_commit(&catalog)?;
        Ok(filled)
    })?;
    Ok(TableIterator::once((filled.made, filled.migrated, filled.dropped)))
}

/// Converts an interval to milliseconds. Rounds up, because a lock_timeout of 0 would wait without a limit.
fn milliseconds(interval: Interval) -> crate::error::Result<i32> {
    let microseconds = interval.as_micros();
    let up = if microseconds > 0 { 999 } else { 0 };
    i32::try_from((microseconds + up).div_euclid(1000))
        .map_err(|_| Error::invalid("lock_timeout is out of range", "Use an interval between 0 and 24 days."))
}
