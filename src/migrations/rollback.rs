//! Undoes what was applied to one tenant, by the migrations' down scripts.

use super::apply::{self, Outcome};
use super::script::Script;
use super::{lock, sandbox};
use crate::catalog::tenants::Tenant;
use crate::catalog::{Catalog, applied, migrations, unfinished, versions};
use crate::error::{Error, Result};

/// The target that stands for an empty schema, where no migration has that version.
const NOTHING: &str = "0";

/// `tenant` is locked by the caller. Newest first, down to `target`, which stays; what cannot be undone is refused before
/// anything ran. Repeatable migrations stay as they are.
pub fn rollback(catalog: &Catalog, tenant: Tenant, target: &str) -> Result<Outcome> {
    let after = match apply::registered(catalog, target) {
        Ok(key) => Some(key),
        Err(_) if target == NOTHING => None,
        Err(error) => return Err(error),
    };
    if let Some(unfinished) = unfinished::get(catalog, tenant.id)? {
        return Err(Error::conflict(
            format!("migration version \"{}\" stopped half way", unfinished.version),
            "Finish it with tenant_migrate_all(), or take it back with tenant_migration_remove().",
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
            "Write a new migration that undoes it.",
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
