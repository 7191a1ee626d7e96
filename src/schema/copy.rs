//! Copies the rows of one tenant's tables into the tables of another tenant, which were created by the same migrations.

use std::ffi::CStr;

use pgrx::{Uuid, pg_sys};

use super::provision::owner_role_oid;
use crate::access::SandboxIdentity;
use crate::catalog::Catalog;
use crate::catalog::copying::{self, Copied};
use crate::catalog::tenants::Tenant;
use crate::error::{Error, Result};
use crate::model::{ids, owner_role};
use crate::pg::sandbox::Sandbox;
use crate::pg::sql::{Command, Ident, List, Literal, QualifiedName, command};
use crate::pg::{execute, query_command};
use crate::protection::OwnDdl;

const PLACE: &str = "copying the rows of a tenant";
const ROW_SECURITY: &[(&CStr, &str)] = &[(c"row_security", "on")];

/// Copies the rows and the positions of sequences, while transactions that write to the source wait. The source is read
/// as its owner role and the target is written to as its own, so that code that PostgreSQL evaluates for the rows, such
/// as a cast or a CHECK, can access only its own tenant. Triggers do not fire and foreign keys are not checked, because
/// the rows satisfy them already.
pub fn copy_rows(catalog: &Catalog, source: &Tenant, target: &Tenant) -> Result<()> {
    let (from, to) = (source.schema_name.as_str(), target.schema_name.as_str());
    if let Some(lacking) = copying::lacking(catalog, from, to)? {
        return Err(Error::conflict(
            format!("{lacking} of the source was not created by a migration"),
            "Register a migration that creates it, or clone without data. tenant_drift() shows the differences.",
        ));
    }
    let temporary = Ident::new(format!("rows_of_{}", ids::hex(target.id)));
    let tables = copying::tables(catalog, from, to, &temporary)?;
    let (source, target) = (Side::of(source)?, Side::of(target)?);
    let triggers = copying::always_firing_triggers(catalog, to)?;
    let disabled = triggers.iter().map(|one| command!("ALTER TABLE {} DISABLE TRIGGER {}", &one.table, &one.name));
    target.alter(disabled)?;
    for Copied { source, only, .. } in &tables {
        execute(catalog.scope(), &command!("LOCK TABLE {}{} IN SHARE MODE", only, source))?;
    }
    if !tables.is_empty() {
        // Migrations may have inserted rows.
        let targets = List(tables.iter().map(|table| &table.target).collect());
        target.write(&command!("TRUNCATE {}", targets))?;
    }
    for rows in tables.iter().filter_map(|table| table.rows.as_ref()) {
        let _own = OwnDdl::begin();
        execute(catalog.scope(), &rows.create)?;
        execute(catalog.scope(), &command!("GRANT INSERT ON pg_temp.{} TO {}", &temporary, &source.role))?;
        execute(catalog.scope(), &command!("GRANT SELECT ON pg_temp.{} TO {}", &temporary, &target.role))?;
        source.read(&rows.read)?;
        target.write(&rows.write)?;
        execute(catalog.scope(), &command!("DROP TABLE pg_temp.{}", &temporary))?;
    }
    for (from, to) in copying::sequences(catalog, from, to)? {
        if let Some((value, is_called)) = source.position(catalog, &from)? {
            target.set_position(&to, value, is_called)?;
        }
    }
    let restored =
        triggers.iter().map(|one| command!("ALTER TABLE {} ENABLE {} TRIGGER {}", &one.table, one.mode, &one.name));
    target.alter(restored)?;
    target.refresh(catalog, to)
}

/// One of the two tenants. Its commands run as its owner role, in a sandbox with its identity.
struct Side {
    tenant: Uuid,
    owner: pg_sys::Oid,
    role: Ident,
}

impl Side {
    fn of(tenant: &Tenant) -> Result<Self> {
        let owner = owner_role_oid(tenant)?.ok_or_else(|| Error::internal("tenant has no owner role"))?;
        Ok(Side { tenant: tenant.id, owner, role: Ident::new(owner_role(tenant.id)) })
    }

    /// Runs `act` with the policies of the tenant's tables unforced.
    fn act<T>(&self, settings: &[(&CStr, &str)], act: impl FnOnce(&Sandbox) -> Result<T>) -> Result<T> {
        let _identity = SandboxIdentity::assume(self.tenant)?;
        act(&Sandbox::enter_unforced(self.owner, settings)?)
    }

    /// Runs ALTER TABLE as the owner role. For a partitioned table, PostgreSQL visits the partitions and evaluates
    /// constant expressions in the partition key, which must not run as a superuser.
    fn alter(&self, mut commands: impl Iterator<Item = Command>) -> Result<()> {
        self.act(ROW_SECURITY, |sandbox| commands.try_for_each(|command| sandbox.run(command.as_str(), PLACE)))
    }

    fn read(&self, command: &Command) -> Result<()> {
        self.act(ROW_SECURITY, |sandbox| sandbox.run(command.as_str(), PLACE))
    }

    /// Runs a command that writes to the tenant's tables. No triggers fire, not even those of foreign keys. The owner
    /// role is not allowed to set session_replication_role, so it is set before the switch to that role.
    fn write(&self, command: &Command) -> Result<()> {
        let settings = [(c"row_security", "on"), (c"session_replication_role", "replica")];
        self.act(&settings, |sandbox| sandbox.run(command.as_str(), PLACE))
    }

    /// Reads a sequence by name. If another transaction has replaced it by a view since it was looked up, that view
    /// runs as the owner role.
    fn position(&self, catalog: &Catalog, sequence: &QualifiedName) -> Result<Option<(i64, bool)>> {
        let query = command!("SELECT last_value, is_called FROM {}", sequence);
        let rows =
            self.act(ROW_SECURITY, |_| query_command(catalog.scope(), &query, |row| Ok((row.need(1)?, row.need(2)?))))?;
        Ok(rows.into_iter().next())
    }

    fn set_position(&self, sequence: &QualifiedName, value: i64, is_called: bool) -> Result<()> {
        let sequence = Literal::new(sequence.as_str());
        let command = command!("SELECT pg_catalog.setval({}::regclass, {}, {})", sequence, value, is_called);
        self.act(ROW_SECURITY, |sandbox| sandbox.run(command.as_str(), PLACE))
    }

    /// Refreshes the materialized views. Policies are forced, as for every REFRESH.
    fn refresh(&self, catalog: &Catalog, schema: &str) -> Result<()> {
        let views = copying::materialized_views(catalog, schema)?;
        if views.is_empty() {
            return Ok(());
        }
        let _identity = SandboxIdentity::assume(self.tenant)?;
        let sandbox = Sandbox::enter(self.owner, ROW_SECURITY)?;
        views
            .iter()
            .map(|view| command!("REFRESH MATERIALIZED VIEW {}", view))
            .try_for_each(|command| sandbox.run(command.as_str(), PLACE))
    }
}
