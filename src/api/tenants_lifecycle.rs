//! Tenants: deleted, restored, suspended, mended.

use pgrx::datum::{Interval, TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use super::rows::returns_tenants;
use super::{Result, answer, required};
use crate::access::{authorize, authorize_instance};
use crate::catalog::{self, Catalog};
use crate::{fleet, tenants};

returns_tenants! {
    /// Deletes for good: schema, data, owner role, members.
    #[pg_extern(sql = false)]
    fn tenant_delete(tenant_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, Some(required("tenant_id", tenant_id)?), "delete a tenant")?;
        let tenant = tenants::delete(&catalog, permit)?;
        fleet::remove_after_commit(&catalog)?;
        Ok(Some(tenant))
    }

    /// Marks as deleted and keeps the data; again: the same success.
    #[pg_extern(sql = false)]
    fn tenant_soft_delete(tenant_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, tenant_id, "delete this tenant")?;
        tenants::soft_delete(&catalog, permit).map(Some)
    }

    /// Undoes tenant_soft_delete().
    #[pg_extern(sql = false)]
    fn tenant_restore(tenant_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, Some(required("tenant_id", tenant_id)?), "restore a tenant")?;
        tenants::restore(&catalog, &permit).map(Some)
    }

    /// The soft-deleted tenants, longest deleted first.
    #[pg_extern(sql = false)]
    fn tenant_list_deleted() {
        let catalog = Catalog::read()?;
        authorize_instance(&catalog, "list deleted tenants")?;
        catalog::tenants::list_deleted(&catalog)
    }

    /// Keeps everybody but instance admins from the tenant's data.
    #[pg_extern(sql = false)]
    fn tenant_suspend(tenant_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, Some(required("tenant_id", tenant_id)?), "suspend a tenant")?;
        tenants::set_suspended(&catalog, permit, true).map(Some)
    }

    /// Undoes tenant_suspend().
    #[pg_extern(sql = false)]
    fn tenant_resume(tenant_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, Some(required("tenant_id", tenant_id)?), "resume a tenant")?;
        tenants::set_suspended(&catalog, permit, false).map(Some)
    }

    /// Deletes for good what was soft-deleted longer ago than that.
    #[pg_extern(sql = false)]
    fn tenant_purge(older_than: Option<Interval>) {
        let older_than = required("older_than", older_than)?;
        let permit = authorize_instance(&Catalog::write()?, "purge tenants")?;
        let purged = fleet::purge(&permit, older_than)?;
        // Also what earlier deletions left.
        fleet::remove_after_commit(&Catalog::latest()?)?;
        Ok(purged)
    }
}

/// Puts back the catalog's grants and policies, and a tenant's grants, ownership, owner role and policies; a row for each thing.
#[pg_extern(sql = false)]
fn tenant_repair(
    tenant_id: Option<Uuid>,
) -> Result<TableIterator<'static, (name!(object, String), name!(problem, String))>> {
    let mended = answer(|| {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, Some(required("tenant_id", tenant_id)?), "repair a tenant")?;
        tenants::repair(&catalog, &permit)
    })?;
    Ok(TableIterator::new(mended.into_iter().map(|mend| (mend.object, mend.problem))))
}
