//! Tenants: deletes, restores, suspends and repairs them.

use pgrx::datum::{Interval, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use super::rows::returns_tenants;
use super::{Result, answer, required};
use crate::access::{authorize, authorize_instance};
use crate::catalog::{self, Catalog};
use crate::{fleet, tenants};

returns_tenants! {
    /// Deletes a tenant permanently, with its schema, data, owner role and members.
    #[pg_extern(sql = false)]
    fn tenant_delete(tenant_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, Some(required("tenant_id", tenant_id)?), "delete a tenant")?;
        let tenant = tenants::delete(&catalog, permit)?;
        fleet::remove_after_commit(&catalog)?;
        Ok(Some(tenant))
    }

    /// Marks a tenant as deleted and keeps its data. Does nothing if it is deleted already.
    #[pg_extern(sql = false)]
    fn tenant_soft_delete(tenant_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, tenant_id, "delete this tenant")?;
        tenants::soft_delete(&catalog, permit).map(Some)
    }

    /// Restores a tenant after tenant_soft_delete().
    #[pg_extern(sql = false)]
    fn tenant_restore(tenant_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, Some(required("tenant_id", tenant_id)?), "restore a tenant")?;
        tenants::restore(&catalog, &permit).map(Some)
    }

    /// Returns the soft-deleted tenants, in the order of their deletion.
    #[pg_extern(sql = false)]
    fn tenant_list_deleted() {
        let catalog = Catalog::read()?;
        authorize_instance(&catalog, "list deleted tenants")?;
        catalog::tenants::list_deleted(&catalog)
    }

    /// Suspends a tenant: its data is accessible only to instance admins.
    #[pg_extern(sql = false)]
    fn tenant_suspend(tenant_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, Some(required("tenant_id", tenant_id)?), "suspend a tenant")?;
        tenants::set_suspended(&catalog, permit, true).map(Some)
    }

    /// Resumes a tenant after tenant_suspend().
    #[pg_extern(sql = false)]
    fn tenant_resume(tenant_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, Some(required("tenant_id", tenant_id)?), "resume a tenant")?;
        tenants::set_suspended(&catalog, permit, false).map(Some)
    }

    /// Deletes permanently the tenants that were soft-deleted longer ago than `older_than`.
    #[pg_extern(sql = false)]
    fn tenant_purge(older_than: Option<Interval>) {
        let older_than = required("older_than", older_than)?;
        let permit = authorize_instance(&Catalog::write()?, "purge tenants")?;
        let purged = fleet::purge(&permit, older_than)?;
        // This also retries what earlier deletions left behind.
        fleet::remove_after_commit(&Catalog::latest()?)?;
        Ok(purged)
    }
}

/// Repairs the catalog's grants and policies, and a tenant's grants, ownership, owner role and policies. Returns a row
/// for each repair.
#[pg_extern(sql = false)]
fn tenant_repair(
    tenant_id: Option<Uuid>,
) -> Result<TableIterator<'static, (name!(object, String), name!(problem, String))>> {
    let repaired = answer(|| {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, Some(required("tenant_id", tenant_id)?), "repair a tenant")?;
        tenants::repair(&catalog, &permit)
    })?;
    Ok(TableIterator::new(repaired.into_iter().map(|repair| (repair.object, repair.problem))))
}
