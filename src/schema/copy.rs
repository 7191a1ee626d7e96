//! Copies the rows of one tenant's tables into the tables of another tenant, which were created by the same migrations.

use super::provision::owner_role_oid;
use crate::access::SandboxIdentity;
use crate::catalog::Catalog;
use crate::catalog::copying::{self, Copied};
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::model::owner_role;
use crate::pg::execute;
use crate::pg::sandbox::Sandbox;
use crate::pg::sql::{Command, Ident, List, Literal, QualifiedName, command};
use crate::protection::OwnDdl;

const PLACE: &str = "copying the rows of a tenant";

/// Copies the rows and the positions of sequences, while transactions that write to the source wait. Code that is
/// evaluated for the rows, such as a CHECK, runs with the privileges of the new tenant's owner role, which can read the
/// source until the end of the copy. Triggers do not fire and foreign keys are not checked, because the rows satisfy
/// them already.
pub fn copy_rows(catalog: &Catalog, source: &Tenant, target: &Tenant) -> Result<()> {
    let (from, to) = (source.schema_name.as_str(), target.schema_name.as_str());
    if let Some(lacking) = copying::lacking(catalog, from, to)? {
        return Err(Error::conflict(
            format!("{lacking} of the source was not created by a migration"),
            "Register a migration that creates it, or clone without data; tenant_drift() shows the differences.",
        ));
    }
    let tables = copying::tables(catalog, from, to)?;
    let owner = owner_role_oid(target)?.ok_or_else(|| Error::internal("a new tenant without an owner role"))?;
    let (reader, read) = (Ident::new(owner_role(target.id)), Ident::new(owner_role(source.id)));
    let triggers = copying::always_firing_triggers(catalog, to)?;
    let disabled = triggers.iter().map(|one| command!("ALTER TABLE {} DISABLE TRIGGER {}", &one.table, &one.name));
    alter(owner, target, disabled)?;
    {
        let _own = OwnDdl::begin();
        execute(catalog.scope(), &command!("GRANT {} TO {}", &read, &reader))?;
    }
    if !tables.is_empty() {
        for Copied { source, only, .. } in &tables {
            execute(catalog.scope(), &command!("LOCK TABLE {}{} IN SHARE MODE", only, source))?;
        }
        insert(owner, target, &tables)?;
    }
    set_sequences(owner, target, &copying::sequences(catalog, from, to)?)?;
    {
        let _own = OwnDdl::begin();
        execute(catalog.scope(), &command!("REVOKE {} FROM {}", &read, &reader))?;
    }
    let restored =
        triggers.iter().map(|one| command!("ALTER TABLE {} ENABLE {} TRIGGER {}", &one.table, one.mode, &one.name));
    alter(owner, target, restored)?;
    refresh(catalog, owner, target)
}

/// Runs the commands as the owner role. For a partitioned table PostgreSQL visits the partitions and evaluates constant
/// expressions in the partition key, which must not run as a superuser.
fn alter(owner: pgrx::pg_sys::Oid, target: &Tenant, mut commands: impl Iterator<Item = Command>) -> Result<()> {
    let _identity = SandboxIdentity::assume(target.id)?;
    let sandbox = Sandbox::enter_unforced(owner, &[(c"row_security", "on")])?;
    commands.try_for_each(|command| sandbox.run(command.as_str(), PLACE))
}

fn insert(owner: pgrx::pg_sys::Oid, target: &Tenant, tables: &[Copied]) -> Result<()> {
    let _identity = SandboxIdentity::assume(target.id)?;
    // session_replication_role suppresses triggers, also those of foreign keys. The owner role is not allowed to set
    // it, so it is set before the switch to that role.
    let sandbox = Sandbox::enter_unforced(owner, &[(c"row_security", "on"), (c"session_replication_role", "replica")])?;
    // Migrations may have inserted rows.
    let targets = List(tables.iter().map(|table| &table.target).collect());
    sandbox.run(command!("TRUNCATE {}", targets).as_str(), PLACE)?;
    tables.iter().filter_map(|table| table.insert.as_ref()).try_for_each(|insert| sandbox.run(insert.as_str(), PLACE))
}

/// Sets the sequences to the positions of the source's. Runs as the owner role, because the source is read by name, and
/// a view may have taken that name since it was looked up.
fn set_sequences(
    owner: pgrx::pg_sys::Oid,
    target: &Tenant,
    sequences: &[(QualifiedName, QualifiedName)],
) -> Result<()> {
    let _identity = SandboxIdentity::assume(target.id)?;
    let sandbox = Sandbox::enter_unforced(owner, &[(c"row_security", "on")])?;
    sequences.iter().try_for_each(|(source, target)| {
        let target = Literal::new(target.as_str());
        let command = command!("SELECT setval({}::regclass, last_value, is_called) FROM {}", target, source);
        sandbox.run(command.as_str(), PLACE)
    })
}

fn refresh(catalog: &Catalog, owner: pgrx::pg_sys::Oid, target: &Tenant) -> Result<()> {
    let views = copying::materialized_views(catalog, &target.schema_name)?;
    if views.is_empty() {
        return Ok(());
    }
    let _identity = SandboxIdentity::assume(target.id)?;
    let sandbox = Sandbox::enter(owner, &[(c"row_security", "on")])?;
    views
        .iter()
        .map(|view| command!("REFRESH MATERIALIZED VIEW {}", view))
        .try_for_each(|command| sandbox.run(command.as_str(), PLACE))
}
