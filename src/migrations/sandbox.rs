//! Runs statements of a migration as its tenant: as the owner role, with its schema first, as its service context.

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

/// Statements that have to run outside a transaction run inside as far as they can: without CONCURRENTLY, or not at all.
pub fn run(catalog: &Catalog, tenant: &Tenant, script: &Script, range: Range<usize>) -> Result<()> {
    let owner = owner(tenant)?;
    let search_path = search_path(catalog, tenant)?;
    let mut constraints = Deferrable::of(catalog, tenant)?;
    let watch = Watch::begin();
    // Queries may do anything, by way of functions, and are not counted by the watch.
    let only_commands =
        script.statements[range.clone()].iter().all(|statement| statement.is_command && !statement.is_single);
    let commands = range.len();
    let _identity = SandboxIdentity::assume(tenant.id)?;
    let mut settings = vec![(c"search_path", search_path.as_str()), (c"row_security", "on")];
    if tenant.status == Status::Suspended {
        // Parallel workers, which know the settings alone, would find it closed.
        settings.push((c"max_parallel_workers_per_gather", "0"));
    }
    let sandbox = Sandbox::enter(owner, &settings)?;
    let last = script.place(range.end.saturating_sub(1));
    for index in range {
        let (statement, place) = (&script.statements[index], script.place(index));
        if let Some(command) = constraints.check_at_once() {
            sandbox.run(&command, &place)?;
        }
        if statement.is_single {
            sandbox.run_in_transaction(&statement.text, &place)?;
        } else {
            sandbox.run(&statement.text, &place)?;
        }
        if constraints.may_change_by(&statement.text) {
            constraints = Deferrable::of(catalog, tenant)?;
        }
    }
    if let Some(command) = constraints.as_declared() {
        sandbox.run(&command, &last)?;
    }
    drop(sandbox);
    if !only_commands || watch.may_have_granted(commands) {
        grants::refuse_beyond_policies(catalog, tenant)
    } else {
        Ok(())
    }
}

pub fn owner(tenant: &Tenant) -> Result<pgrx::pg_sys::Oid> {
    schema::owner_role_oid(tenant)?.ok_or_else(|| {
        Error::conflict("the tenant's owner role does not exist", "Repaired the tenant with tenant_repair().")
    })
}

pub fn search_path(catalog: &Catalog, tenant: &Tenant) -> Result<String> {
    Ok(format!("{}, {}, pg_temp", quote_identifier(&tenant.schema_name), relations::extension_schema(catalog)?))
}
