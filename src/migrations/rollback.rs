//! Rolls back migrations of one tenant, by running their down scripts.

use super::apply::{self, Outcome};
use super::script::Script;
use super::{lock, sandbox};
use crate::catalog::tenants::Tenant;
use crate::catalog::{Catalog, applied, migrations, unfinished, versions};
use crate::error::{Error, Result};

/// The target that rolls back everything except repeatable migrations, unless a migration has this version.
const EMPTY_SCHEMA: &str = "0";

/// Rolls back the migrations after `target`, newest first. The caller must have locked the tenant. Raises an error
/// before anything runs if one of them cannot be rolled back. Repeatable migrations are left as they are. The down
/// script of a nontransactional migration runs in this transaction too, without CONCURRENTLY and with the locks that
/// this implies: all or nothing matters more here.
pub fn rollback(catalog: &Catalog, tenant: Tenant, target: &str) -> Result<Outcome> {
    let after = match apply::registered_key(catalog, target) {
        Ok(key) => Some(key),
        Err(_) if target == EMPTY_SCHEMA => None,
        Err(error) => return Err(error),
    };
    if let Some(unfinished) = unfinished::get(catalog, tenant.id)? {
        return Err(Error::conflict(
            format!("migration version \"{}\" is unfinished", unfinished.version),
            "Finish it with tenant_migrate_all(), or remove it with tenant_migration_remove().",
        ));
    }
    lock::take(&tenant)?;
    let from_version = tenant.schema_version.clone();
    let mut undo = migrations::applied(catalog, tenant.id, after.as_deref())?;
    undo.retain(|migration| !migration.repeatable);
    let scripts = undo.iter().rev().map(Script::down).collect::<Result<Vec<_>>>()?;
    let without: Vec<&str> = undo.iter().filter(|m| m.down.is_none()).map(|m| m.version.as_str()).collect();
    if !without.is_empty() {
        return Err(Error::conflict(
            format!("there is no down script for migration version {}", without.join(", ")),
            "Write a new migration that reverts it.",
        ));
    }
    for (migration, script) in undo.iter().rev().zip(scripts.iter().flatten()) {
        sandbox::run(catalog, &tenant, script, 0..script.statements.len())?;
        applied::remove(catalog, tenant.id, &migration.version)?;
    }
    let applied = undo.len() as i32;
    let tenant = versions::set_schema_version(catalog, tenant.id)?.ok_or_else(Error::tenant_not_found)?;
    Ok(Outcome { tenant, from_version, applied, next: None })
}
