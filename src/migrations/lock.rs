//! One session at a time migrates a tenant. A row lock ends with its transaction, and some migrations have many; this is
//! a lock that a session can hold from one transaction to the next.

use super::sandbox::owner;
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::pg::locks::ObjectLock;

/// Until the end of the transaction. Never waits: who comes here holds the tenant's row, and who holds this lock may be
/// waiting for that.
pub fn take(tenant: &Tenant) -> Result<()> {
    if ObjectLock::of_migrations(owner(tenant)?).try_take() {
        return Ok(());
    }
    Err(Error::conflict(
        format!("tenant \"{}\" is being migrated by another session", tenant.slug),
        "Wait until that has ended: see tenant_migration_progress().",
    ))
}
