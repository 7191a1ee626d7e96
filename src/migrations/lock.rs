//! The migration lock, which lets only one session at a time migrate a tenant. A row lock ends with its transaction,
//! but a nontransactional migration has many transactions: this lock can be held across them.

use super::sandbox::owner;
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::pg::locks::ObjectLock;

/// Acquires the migration lock until the end of the transaction. Raises conflict instead of waiting: the caller holds
/// the tenant's row lock, and the session that holds the migration lock may be waiting for that.
pub fn take(tenant: &Tenant) -> Result<()> {
    if ObjectLock::of_migrations(owner(tenant)?).try_take() {
        return Ok(());
    }
    Err(Error::conflict(
        format!("tenant \"{}\" is being migrated by another session", tenant.slug),
        "Wait until that session has finished. tenant_migration_progress() shows the fleet runs.",
    ))
}
