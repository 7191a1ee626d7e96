//! Isolation: shared tables, and the audit of the installation.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::{Result, answer, required};
use crate::access::authorize_instance;
use crate::catalog::Catalog;
use crate::catalog::findings::{self, Finding};
use crate::isolation;
use crate::protection::shared_tables;

/// Makes a table a shared table, with a tenant column and policies. Returns a row for each step.
#[pg_extern(sql = false)]
fn tenant_protect(
    relation: Option<pg_sys::Oid>,
    tenant_column: Option<&core::ffi::CStr>,
    existing_rows: Option<Uuid>,
) -> Result<TableIterator<'static, (name!(object, String), name!(done, String))>> {
    let steps = answer(|| {
        let catalog = Catalog::write()?;
        let column = required("tenant_column", tenant_column)?.to_string_lossy().into_owned();
        let relation = required("relation", relation)?;
        let permit = authorize_instance(&catalog, "protect this table")?;
        shared_tables::protect(&catalog, &permit, relation, &column, existing_rows)
    })?;
    Ok(TableIterator::new(steps.into_iter().map(|step| (step.object, step.done.to_string()))))
}

/// Drops the policies of a shared table. Returns a row for each step.
#[pg_extern(sql = false)]
fn tenant_unprotect(
    relation: Option<pg_sys::Oid>,
) -> Result<TableIterator<'static, (name!(object, String), name!(done, String))>> {
    let steps = answer(|| {
        let catalog = Catalog::write()?;
        let relation = required("relation", relation)?;
        let permit = authorize_instance(&catalog, "unprotect this table")?;
        shared_tables::unprotect(&catalog, &permit, relation)
    })?;
    Ok(TableIterator::new(steps.into_iter().map(|step| (step.object, step.done.to_string()))))
}

/// Audits the installation. Returns a row for each finding, most severe first.
#[pg_extern(sql = false)]
fn tenant_check() -> Result<
    TableIterator<
        'static,
        (name!(severity, String), name!(object, String), name!(problem, String), name!(fix, String)),
    >,
> {
    let findings = answer(|| {
        let catalog = Catalog::read()?;
        authorize_instance(&catalog, "audit the installation")?;
        let mut findings = findings::list(&catalog)?;
        if !isolation::in_force() {
            findings.insert(0, Finding::check_is_bypassed());
        }
        Ok(findings)
    })?;
    Ok(TableIterator::new(findings.into_iter().map(|f| (f.severity, f.object, f.problem, f.fix))))
}
