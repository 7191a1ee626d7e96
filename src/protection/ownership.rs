//! Gives what a superuser creates in a tenant's schema to the tenant's owner role, at the end of the command. Otherwise
//! the tenant's migrations could not change it: a partition that a job adds to a table, for example, would keep them
//! from altering the table.

use super::grants::TABLE_PRIVILEGES;
use super::own_ddl::OwnDdl;
use crate::catalog::Catalog;
use crate::catalog::owned_objects::misowned_by_command;
use crate::error::Result;
use crate::pg::sql::command;
use crate::pg::{execute, roles};

/// Gives the objects that the command has created to the owner role. Does so only for superusers: an object can contain
/// code, which would then run as the owner role.
pub fn after_any_command() -> Result<()> {
    if OwnDdl::is_running() || !roles::is_superuser(roles::current()) {
        return Ok(());
    }
    let misowned = misowned_by_command(&Catalog::latest_after_command()?)?;
    if misowned.is_empty() {
        return Ok(());
    }
    let catalog = Catalog::write()?;
    let _own = OwnDdl::begin();
    for object in &misowned {
        execute(catalog.scope(), &object.command)?;
        // The default privileges of the owner role apply only to what it creates itself.
        if let Some(view) = &object.view {
            let grant = command!("GRANT {} ON {} TO fluxbase_tenant_user", TABLE_PRIVILEGES, view);
            execute(catalog.scope(), &grant)?;
        }
    }
    Ok(())
}
