//! A tenant's schema migrated, rolled back and repaired.

use super::lifecycle::refuse_deleted;
use crate::access::{Instance, Permit};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::migrations::{self, Nontransactional, Outcome};
use crate::model::Status;
use crate::schema::{self, Repaired};

/// `skipped` is a tenant that is deleted: its schema stays as it was, and is migrated after tenant_restore().
pub fn migrate(catalog: &Catalog, permit: Permit<Instance>, target: Option<&str>) -> Result<(&'static str, Outcome)> {
    let user = permit.caller().user();
    let tenant = permit.into_tenant();
    if tenant.status == Status::Deleted {
        let from_version = tenant.schema_version.clone();
        return Ok(("skipped", Outcome { tenant, from_version, applied: 0, next: None }));
    }
    Ok(("migrated", migrations::migrate(catalog, tenant, target, user, Nontransactional::Refused)?))
}

pub fn rollback(catalog: &Catalog, permit: Permit<Instance>, target: &str) -> Result<Outcome> {
    refuse_deleted(permit.tenant())?;
    migrations::rollback(catalog, permit.into_tenant(), target)
}

/// What keeps the catalog's own rows apart is put back first.
pub fn repair(catalog: &Catalog, permit: &Permit<Instance>) -> Result<Vec<Repaired>> {
    let mut mended = schema::repair_catalog(catalog)?;
    mended.extend(schema::repair(catalog, permit.tenant())?);
    Ok(mended)
}
