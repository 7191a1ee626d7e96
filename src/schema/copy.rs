//! The rows of one tenant's tables, copied into another's that were made by the same migrations.

use pgrx::spi::{quote_identifier, quote_literal};

use super::provision::owner_role_oid;
use crate::access::SandboxIdentity;
use crate::catalog::Catalog;
use crate::catalog::copying::{self, Copied};
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::model::owner_role;
use crate::pg::execute;
use crate::pg::sandbox::Sandbox;
use crate::protection::OwnDdl;

const PLACE: &str = "copying the rows of a tenant";

/// Rows, and where sequences are. Writers of the source wait meanwhile. What is evaluated on the way, such as a CHECK, runs
/// with the rights of the new tenant's owner, who can read the source until this is done; triggers and foreign keys do not
/// fire, for the rows are those of tables where they held.
pub fn copy_rows(catalog: &Catalog, source: &Tenant, target: &Tenant) -> Result<()> {
    let (from, to) = (source.schema_name.as_str(), target.schema_name.as_str());
    if let Some(lacking) = copying::lacking(catalog, from, to)? {
        return Err(Error::conflict(
            format!("{lacking} of the source is in none of its migrations"),
            "Register a migration that makes it, or clone without data; tenant_drift() says what differs.",
        ));
    }
    let tables = copying::tables(catalog, from, to)?;
    let owner = owner_role_oid(target)?.ok_or_else(|| Error::internal("a new tenant without an owner role"))?;
    let (reader, read) = (quote_identifier(owner_role(target.id)), quote_identifier(owner_role(source.id)));
    let triggers = copying::insistent_triggers(catalog, to)?;
    alter(owner, target, triggers.iter().map(|one| format!("ALTER TABLE {} DISABLE TRIGGER {}", one.table, one.name)))?;
    {
        let _own = OwnDdl::begin();
        execute(catalog.scope(), &format!("GRANT {read} TO {reader}"))?;
    }
    if !tables.is_empty() {
        let names: Vec<&str> = tables.iter().map(|table| table.source.as_str()).collect();
        execute(catalog.scope(), &format!("LOCK TABLE {} IN SHARE MODE", names.join(", ")))?;
        insert(owner, target, &tables)?;
    }
    set_sequences(owner, target, &copying::sequences(catalog, from, to)?)?;
    {
        let _own = OwnDdl::begin();
        execute(catalog.scope(), &format!("REVOKE {read} FROM {reader}"))?;
    }
    let restored =
        triggers.iter().map(|one| format!("ALTER TABLE {} ENABLE {} TRIGGER {}", one.table, one.mode, one.name));
    alter(owner, target, restored)?;
    refresh(catalog, owner, target)
}

/// As the owner: the server goes through the partitions of a table, and evaluates what is constant in its partition key.
fn alter(owner: pgrx::pg_sys::Oid, target: &Tenant, mut commands: impl Iterator<Item = String>) -> Result<()> {
    let _identity = SandboxIdentity::assume(target.id)?;
    let sandbox = Sandbox::enter_unforced(owner, &[(c"row_security", "on")])?;
    commands.try_for_each(|command| sandbox.run(&command, PLACE))
}

fn insert(owner: pgrx::pg_sys::Oid, target: &Tenant, tables: &[Copied]) -> Result<()> {
    let _identity = SandboxIdentity::assume(target.id)?;
    // The setting keeps triggers still, those of foreign keys among them, and is ours to set before rights are dropped.
    let sandbox = Sandbox::enter_unforced(owner, &[(c"row_security", "on"), (c"session_replication_role", "replica")])?;
    // Migrations may have brought rows of their own.
    let names: Vec<&str> = tables.iter().map(|table| table.target.as_str()).collect();
    sandbox.run(&format!("TRUNCATE {}", names.join(", ")), PLACE)?;
    for Copied { source, target, columns, values } in tables.iter().filter(|table| !table.columns.is_empty()) {
        let command = format!("INSERT INTO {target} ({columns}) OVERRIDING SYSTEM VALUE SELECT {values} FROM {source}");
        sandbox.run(&command, PLACE)?;
    }
    Ok(())
}

/// They go on where the source's are. By name, which may have come to mean a view since it was read.
fn set_sequences(owner: pgrx::pg_sys::Oid, target: &Tenant, sequences: &[(String, String)]) -> Result<()> {
    let _identity = SandboxIdentity::assume(target.id)?;
    let sandbox = Sandbox::enter_unforced(owner, &[(c"row_security", "on")])?;
    sequences.iter().try_for_each(|(source, target)| {
        let target = quote_literal(target);
        sandbox.run(&format!("SELECT setval({target}::regclass, last_value, is_called) FROM {source}"), PLACE)
    })
}

fn refresh(catalog: &Catalog, owner: pgrx::pg_sys::Oid, target: &Tenant) -> Result<()> {
    let views = copying::materialized_views(catalog, &target.schema_name)?;
    if views.is_empty() {
        return Ok(());
    }
    let _identity = SandboxIdentity::assume(target.id)?;
    let sandbox = Sandbox::enter(owner, &[(c"row_security", "on")])?;
    views.iter().try_for_each(|view| sandbox.run(&format!("REFRESH MATERIALIZED VIEW {view}"), PLACE))
}
