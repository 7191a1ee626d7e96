//! Tables `fleet_runs` and `fleet_results`: the history of fleet runs and of their visits to tenants.

use pgrx::Uuid;
use pgrx::datum::{Interval, TimestampWithTimeZone};

use super::Catalog;
use crate::error::Result;
use crate::pg::{Row, any_row, query};

/// Whether a worker of the run `r` is alive.
macro_rules! has_live_worker {
    () => {
        "EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.backend_type = 'fluxbase_tenant fleet'
                                                   AND a.application_name = 'fluxbase_tenant ' || r.id)"
    };
}

/// A fleet run to record when it starts.
pub struct NewRun<'a> {
    pub id: Uuid,
    pub target: Option<&'a str>,
    pub dry_run: bool,
    pub workers: i32,
    pub total: i32,
    pub started_by: Option<Uuid>,
    pub started_by_role: &'a str,
}

/// The outcome of one visit of a fleet run, as `tenant_migrate_all()` returns it.
pub struct TenantResult {
    pub tenant_id: Uuid,
    pub slug: String,
    pub status: String,
    pub from_version: Option<String>,
    pub to_version: Option<String>,
    pub applied: i32,
    pub duration: Interval,
    pub sqlstate: Option<String>,
    pub error: Option<String>,
}

/// The outcome of one visit, to record.
pub struct NewResult<'a> {
    pub tenant_id: Uuid,
    pub status: &'a str,
    pub from_version: Option<&'a str>,
    pub to_version: Option<&'a str>,
    pub applied: i32,
    pub seconds: f64,
    pub sqlstate: Option<&'a str>,
    pub error: Option<&'a str>,
    pub place: Option<&'a str>,
}

/// The progress of a running fleet run, as `tenant_migration_progress()` returns it.
pub struct Progress {
    pub run_id: Uuid,
    pub started_at: TimestampWithTimeZone,
    pub workers: i32,
    pub total: i32,
    pub done: i64,
    pub failed: i64,
    pub percent: f64,
    pub per_second: f64,
    pub eta: Option<Interval>,
    pub bar: String,
}

/// Records that the runs without a live worker have ended: a crash ended them.
pub fn close_crashed_runs(catalog: &Catalog) -> Result<()> {
    query(
        catalog.scope(),
        concat!(
            "UPDATE fluxbase_tenant.fleet_runs r SET finished_at = coalesce(
                 (SELECT max(v.finished_at) FROM fluxbase_tenant.fleet_results v WHERE v.run_id = r.id), r.started_at)
             WHERE r.finished_at IS NULL AND NOT ",
            has_live_worker!()
        ),
        &[],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Records the start of a run.
pub fn insert_run(catalog: &Catalog, run: NewRun) -> Result<()> {
    query(
        catalog.scope(),
        "INSERT INTO fluxbase_tenant.fleet_runs (id, target, dry_run, workers, total, started_by, started_by_role)
         VALUES ($1, $2, $3, $4, $5, $6, $7::text::name)",
        &[
            run.id.into(),
            run.target.into(),
            run.dry_run.into(),
            run.workers.into(),
            run.total.into(),
            run.started_by.into(),
            run.started_by_role.into(),
        ],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Records the end of a run.
pub fn finish_run(catalog: &Catalog, run: Uuid) -> Result<()> {
    query(
        catalog.scope(),
        "UPDATE fluxbase_tenant.fleet_runs SET finished_at = clock_timestamp() WHERE id = $1 AND finished_at IS NULL",
        &[run.into()],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Records the outcome of a visit. Records nothing if the tenant has been deleted permanently since.
pub fn insert_visit(catalog: &Catalog, run: Uuid, visit: NewResult) -> Result<()> {
    query(
        catalog.scope(),
        "INSERT INTO fluxbase_tenant.fleet_results
             (run_id, tenant_id, slug, status, from_version, to_version, applied, duration, sqlstate, error, place)
         SELECT $1, t.id, t.slug, $3, $4, $5, $6, make_interval(secs => $7), $8, $9, $10
         FROM fluxbase_tenant.tenants t WHERE t.id = $2 FOR KEY SHARE",
        &[
            run.into(),
            visit.tenant_id.into(),
            visit.status.into(),
            visit.from_version.into(),
            visit.to_version.into(),
            visit.applied.into(),
            visit.seconds.into(),
            visit.sqlstate.into(),
            visit.error.into(),
            visit.place.into(),
        ],
        |_| Ok(()),
    )?;
    Ok(())
}

/// Returns the outcomes of a run's visits, in the order in which they ended.
pub fn visits(catalog: &Catalog, run: Uuid) -> Result<Vec<TenantResult>> {
    query(
        catalog.scope(),
        "SELECT tenant_id, slug, status, from_version, to_version, applied, duration, sqlstate, error
         FROM fluxbase_tenant.fleet_results WHERE run_id = $1 ORDER BY finished_at, tenant_id",
        &[run.into()],
        visit,
    )
}

fn visit(row: &Row) -> Result<TenantResult> {
    Ok(TenantResult {
        tenant_id: row.need(1)?,
        slug: row.need(2)?,
        status: row.need(3)?,
        from_version: row.get(4),
        to_version: row.get(5),
        applied: row.need(6)?,
        duration: row.need(7)?,
        sqlstate: row.get(8),
        error: row.get(9),
    })
}

/// Reports whether other transactions may have to wait for this one: whether it has a transaction id, or holds a lock
/// on a table or index that is neither a system catalog nor the extension's.
pub fn caller_is_waited_for(catalog: &Catalog) -> Result<bool> {
    any_row(
        catalog.scope(),
        "SELECT 1 FROM pg_locks l WHERE l.pid = pg_backend_pid() AND (l.locktype = 'transactionid' OR (
             l.locktype = 'relation' AND l.relation >= 16384 AND NOT EXISTS (
                 SELECT 1 FROM pg_class c JOIN pg_class t ON t.oid = coalesce(
                     (SELECT i.indrelid FROM pg_index i WHERE i.indexrelid = c.oid), c.oid)
                 WHERE c.oid = l.relation AND t.relnamespace = 'fluxbase_tenant'::regnamespace))) LIMIT 1",
        &[],
    )
}

/// Returns the progress of the runs that have not finished and have a live worker. This excludes runs that a crash
/// ended.
pub fn progress(catalog: &Catalog) -> Result<Vec<Progress>> {
    query(
        catalog.scope(),
        concat!(
            "SELECT r.id, r.started_at, r.workers, r.total, d.done, d.failed, d.percent,
                d.rate, CASE WHEN d.rate > 0 THEN make_interval(secs => round((r.total - d.done) / d.rate)) END,
                format('[%s%s] %s%%', repeat('#', (d.percent / 5)::int), repeat('.', 20 - (d.percent / 5)::int),
                       round(d.percent::numeric, 1))
         FROM fluxbase_tenant.fleet_runs r
         CROSS JOIN LATERAL (
             SELECT c.done, c.failed, CASE r.total WHEN 0 THEN 100 ELSE 100.0 * c.done / r.total END::float8 AS percent,
                    c.done / greatest(extract(epoch FROM clock_timestamp() - r.started_at), 0.001)::float8 AS rate
             FROM (SELECT count(*) AS done, count(*) FILTER (WHERE status = 'failed') AS failed
                   FROM fluxbase_tenant.fleet_results WHERE run_id = r.id) c) d
         WHERE r.finished_at IS NULL AND ",
            has_live_worker!(),
            " ORDER BY r.started_at"
        ),
        &[],
        |row| {
            Ok(Progress {
                run_id: row.need(1)?,
                started_at: row.need(2)?,
                workers: row.need(3)?,
                total: row.need(4)?,
                done: row.need(5)?,
                failed: row.need(6)?,
                percent: row.need(7)?,
                per_second: row.need(8)?,
                eta: row.get(9),
                bar: row.need(10)?,
            })
        },
    )
}
