//! Applies pending migrations to one tenant, in the caller's transaction.

use pgrx::Uuid;
use pgrx::spi::quote_identifier;

use super::constraints::Deferrable;
use super::script;
use super::version::Version;
use crate::catalog::migrations::Migration;
use crate::catalog::tenants::Tenant;
use crate::catalog::{Catalog, applied, migrations, relations, tenants};
use crate::error::{Error, Result};
use crate::identity::SandboxIdentity;
use crate::pg::sandbox::Sandbox;
use crate::schema;

pub struct Outcome {
    /// The tenant as it is afterwards.
    pub tenant: Tenant,
    pub from_version: Option<String>,
    pub applied: i32,
}

/// `tenant` is locked by the caller. DDL and ledger rows commit together or not at all.
pub fn migrate(catalog: &Catalog, tenant: Tenant, target: Option<&str>, by: Option<Uuid>) -> Result<Outcome> {
    let from_version = tenant.schema_version.clone();
    let up_to = target_key(catalog, target)?;
    let pending = migrations::pending(catalog, tenant.id, up_to.as_deref())?;
    if pending.is_empty() {
        return Ok(Outcome { tenant, from_version, applied: 0 });
    }
    for migration in &pending {
        run(catalog, &tenant, migration)?;
        applied::record(catalog, tenant.id, migration, by)?;
    }
    let tenant = tenants::set_schema_version(catalog, tenant.id)?.ok_or_else(Error::tenant_not_found)?;
    Ok(Outcome { tenant, from_version, applied: pending.len() as i32 })
}

/// The sort key of a target, which must be registered.
pub fn target_key(catalog: &Catalog, target: Option<&str>) -> Result<Option<String>> {
    target.map(|target| registered(catalog, target)).transpose()
}

fn registered(catalog: &Catalog, target: &str) -> Result<String> {
    let version = Version::parse(target)?;
    match migrations::by_sort_key(catalog, &version.sort_key)? {
        Some(_) => Ok(version.sort_key),
        None => Err(Error::invalid(
            format!("migration version \"{target}\" is not registered"),
            "See tenant_migration_list() for the versions that are.",
        )),
    }
}

fn run(catalog: &Catalog, tenant: &Tenant, migration: &Migration) -> Result<()> {
    let owner = schema::owner_role_oid(tenant)?.ok_or_else(|| {
        Error::conflict("the tenant's owner role does not exist", "Mend the tenant with tenant_repair().")
    })?;
    let statements = script::statements(&migration.up)?;
    let search_path =
        format!("{}, {}, pg_temp", quote_identifier(&tenant.schema_name), relations::extension_schema(catalog)?);
    let tenant_id = tenant.id.to_string();
    let mut constraints = Deferrable::of(catalog, tenant)?;
    let _identity = SandboxIdentity::assume(tenant.id);
    let sandbox = Sandbox::enter(
        owner,
        &[
            (c"search_path", &search_path),
            (c"row_security", "on"),
            (c"fluxbase_tenant.user_id", ""),
            (c"fluxbase_tenant.tenant_id", &tenant_id),
            // For parallel workers, which know the settings alone: a tenant chosen for a user is no service context.
            (c"fluxbase_tenant.chosen_tenant_id", ""),
        ],
    )?;
    let place = |position: usize| {
        format!(
            "migration version \"{}\" ({}), statement {position} of {}",
            migration.version,
            migration.name,
            statements.len()
        )
    };
    for (index, statement) in statements.iter().enumerate() {
        if let Some(command) = constraints.check_at_once() {
            sandbox.run(&command, &place(index + 1))?;
        }
        sandbox.run(statement, &place(index + 1))?;
        if mentions_deferral(statement) {
            constraints = Deferrable::of(catalog, tenant)?;
        }
    }
    if let Some(command) = constraints.as_declared() {
        sandbox.run(&command, &place(statements.len()))?;
    }
    drop(sandbox);
    schema::refuse_beyond_policies(catalog, tenant)
}

/// Whether the statement may have made or unmade a deferrable constraint. What hides the word, such as a DO block that
/// assembles it, meets the server's own refusal to defer a check.
fn mentions_deferral(statement: &str) -> bool {
    let lower = statement.to_ascii_lowercase();
    ["defer", "drop", "alter"].iter().any(|word| lower.contains(word))
}
