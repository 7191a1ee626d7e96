//! Drift: compares tenant schemas with their ledgers.

use pgrx::datum::Uuid;
use pgrx::prelude::*;

use super::{Result, answer};
use crate::access::{authorize, authorize_instance};
use crate::catalog::Catalog;
use crate::drift;

/// Returns the differences between a tenant's schema and what it should be according to its ledger. The default is all
/// tenants.
#[pg_extern(sql = false)]
fn tenant_drift(
    tenant_id: Option<Uuid>,
) -> Result<
    TableIterator<
        'static,
        (
            name!(tenant_id, Uuid),
            name!(slug, String),
            name!(object, String),
            name!(problem, String),
            name!(expected, Option<String>),
            name!(found, Option<String>),
        ),
    >,
> {
    let drift = answer(|| {
        let catalog = Catalog::write()?;
        match tenant_id {
            Some(_) => drift::of_tenant(&catalog, &authorize(&catalog, tenant_id, "compare a tenant with its ledger")?),
            None => drift::of_fleet(&catalog, &authorize_instance(&catalog, "compare all tenants with their ledgers")?),
        }
    })?;
    Ok(TableIterator::new(
        drift.into_iter().map(|d| (d.tenant_id, d.slug, d.object, d.problem.to_string(), d.expected, d.found)),
    ))
}
