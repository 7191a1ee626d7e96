//! Runs statements of a migration for a tenant: as the owner role, in the tenant's service context, with the tenant's
//! schema first in search_path.

use std::ops::Range;

use pgrx::spi::quote_identifier;

use super::constraints::Deferrable;
use super::script::Script;
use crate::access::SandboxIdentity;
use crate::catalog::tenants::Tenant;
use crate::catalog::{Catalog, relations};
use crate::error::{Error, Result};
use crate::model::Status;
use crate::pg::sandbox::Sandbox;
use crate::protection::{Watch, grants};
use crate::schema;

/// Runs a range of the script's statements in the current transaction. Of the commands that PostgreSQL refuses in a
/// transaction block, VACUUM, REINDEX and CLUSTER are skipped, and the others run without CONCURRENTLY.
pub fn run(catalog: &Catalog, tenant: &Tenant, script: &Script, range: Range<usize>) -> Result<()> {
    let owner = owner(tenant)?;
    let search_path = search_path(catalog, tenant)?;
    let mut constraints = Deferrable::of(catalog, tenant)?;
    let watch = Watch::begin();
    // A query can call functions that grant privileges, and the watch counts commands only.
    let only_commands =
        script.statements[range.clone()].iter().all(|statement| statement.is_command && !statement.is_single);
    let commands = range.len();
    let _identity = SandboxIdentity::assume(tenant.id)?;
    let mut settings = vec![(c"search_path", search_path.as_str()), (c"row_security", "on")];
    if tenant.status == Status::Suspended {
        // Parallel workers know only the settings, by which a suspended tenant is not accessible.
        settings.push((c"max_parallel_workers_per_gather", "0"));
    }
    let sandbox = Sandbox::enter(owner, &settings)?;
    let last = script.place(range.end.saturating_sub(1));
    for index in range {
        let (statement, place) = (&script.statements[index], script.place(index));
        if let Some(command) = constraints.set_immediate() {
            sandbox.run(&command, &place)?;
        }
        if statement.is_single {
            sandbox.run_in_transaction(&statement.text, &place)?;
        } else {
            sandbox.run(&statement.text, &place)?;
        }
        if constraints.may_be_changed_by(&statement.text) {
            constraints = Deferrable::of(catalog, tenant)?;
        }
    }
    if let Some(command) = constraints.restore() {
        sandbox.run(&command, &last)?;
    }
    drop(sandbox);
    if !only_commands || watch.may_have_granted(commands) {
        grants::refuse_beyond_policies(catalog, tenant)
    } else {
        Ok(())
    }
}

/// Returns the tenant's owner role. Raises conflict if it does not exist.
pub fn owner(tenant: &Tenant) -> Result<pgrx::pg_sys::Oid> {
    schema::owner_role_oid(tenant)?.ok_or_else(|| {
        Error::conflict("the tenant's owner role does not exist", "Repair the tenant with tenant_repair().")
    })
}

/// Returns the search_path for the tenant's migrations.
pub fn search_path(catalog: &Catalog, tenant: &Tenant) -> Result<String> {
    Ok(format!("{}, {}, pg_temp", quote_identifier(&tenant.schema_name), relations::extension_schema(catalog)?))
}
