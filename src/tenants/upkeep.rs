//! Migrates, rolls back and repairs a tenant's schema.

use super::lifecycle::refuse_deleted;
use crate::access::{Instance, Permit, Repair};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::migrations::{self, Nontransactional, Outcome};
use crate::model::Status;
use crate::schema::{self, Repaired};

/// Applies the pending migrations, and returns the status with the outcome. A deleted tenant is `skipped`: its schema
/// is left as it is, and can be migrated after tenant_restore().
pub fn migrate(catalog: &Catalog, permit: Permit<Instance>, target: Option<&str>) -> Result<(&'static str, Outcome)> {
    let user = permit.caller().user();
    let tenant = permit.into_tenant();
    if tenant.status == Status::Deleted {
        let from_version = tenant.schema_version.clone();
        return Ok(("skipped", Outcome { tenant, from_version, applied: 0, next: None }));
    }
    Ok(("migrated", migrations::migrate(catalog, tenant, target, user, Nontransactional::Refused)?))
}

/// Rolls back the migrations after `target`.
pub fn rollback(catalog: &Catalog, permit: Permit<Instance>, target: &str) -> Result<Outcome> {
    refuse_deleted(permit.tenant())?;
    migrations::rollback(catalog, permit.into_tenant(), target)
}

/// Repairs the catalog's policies and grants, then the tenant's schema. Returns what was repaired.
pub fn repair(catalog: &Catalog, permit: &Permit<Repair>) -> Result<Vec<Repaired>> {
    let mut repaired = schema::repair_catalog(catalog)?;
    repaired.extend(schema::repair(catalog, permit.tenant())?);
    Ok(repaired)
}
