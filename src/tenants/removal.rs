//! Removes what a deleted tenant has outside its schema: rows of shared tables, and its owner role.
//!
//! Shared tables and the tables that refer to them can belong to other roles, whose code must not run in the deleting
//! session, block it or make it fail. The session therefore deletes only rows of tables that a superuser or the calling
//! role owns, that no foreign key refers to, and whose deletion runs no code, and only if it gets the locks at once.
//! After the commit a background worker checks every table and removes what is left. Until then no caller can access
//! these rows, because their tenant no longer exists.

use std::time::{Duration, Instant};

use pgrx::{Uuid, pg_sys};

use crate::access::SandboxIdentity;
use crate::catalog::shared_tables::{self, Part, SharedTable};
use crate::catalog::{Catalog, removals};
use crate::error::{Error, Result};
use crate::pg::rows::{Rows, Triggers};
use crate::pg::sandbox::Sandbox;
use crate::pg::{attempt_any, locks};
use crate::schema;

/// Limit on each lock wait of the deleting session.
const LOCK_WAIT: &str = "200ms";

/// Limit on the time that the deleting session spends on all shared tables.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// Maximum number of rows that the deleting transaction removes from one table.
const MAX_ROWS: u64 = 10_000;

/// Maximum number of tables that the deleting transaction locks for one shared table.
const MAX_LOCKS: usize = 1000;

/// Leaves the schema to the removal worker, which drops it together with the owner role.
pub fn request_schema_removal(catalog: &Catalog, tenant_id: Uuid) -> Result<()> {
    removals::request(catalog, tenant_id, None)
}

/// Drops the owner role and what it owns, or leaves both to the removal worker.
pub fn remove_owner_role(catalog: &Catalog, tenant_id: Uuid) -> Result<()> {
    if schema::owner_role_has_many_grants(catalog, tenant_id)?
        || !schema::drop_owner_role(catalog, tenant_id, LOCK_WAIT)?
    {
        removals::request(catalog, tenant_id, None)?;
    }
    Ok(())
}

/// Deletes the tenant's rows of shared tables as far as possible, and requests the removal of the rest. Must be called
/// after the tenant's row has been deleted.
pub fn remove_shared_rows(catalog: &Catalog, tenant_id: Uuid) -> Result<()> {
    // Use the latest snapshot, because the transaction's own may not see a table that has been protected since.
    let tables = shared_tables::list(&Catalog::latest()?)?;
    for table in &tables {
        removals::request(catalog, tenant_id, Some(table.oid))?;
    }
    let until = Instant::now() + TIME_LIMIT;
    for table in &tables {
        if Instant::now() > until {
            break;
        }
        remove_rows(catalog.caller_role(), table, tenant_id, until)?;
    }
    Ok(())
}

/// Deletes the tenant's rows of one shared table. If that is not allowed here, or PostgreSQL raises an error, leaves
/// them to the removal worker.
fn remove_rows(caller: pg_sys::Oid, table: &SharedTable, tenant_id: Uuid, until: Instant) -> Result<()> {
    attempt_any(|| {
        // The table is identified by OID, and the catalogs are read with the latest snapshot at every isolation level,
        // because names and triggers can change until the locks are held.
        let touched = shared_tables::touched_by_delete(&Catalog::latest()?, table.oid)?;
        // For each deleted row PostgreSQL looks for rows that refer to it. Members write those rows, so each lookup may
        // have to wait.
        let is_referred_to = touched.iter().any(|one| one.by_key);
        let tables: Vec<_> = touched.iter().map(|one| one.table).collect();
        let are_trusted = |catalog: &Catalog| shared_tables::are_trusted(catalog, tables.clone(), caller);
        if is_referred_to
            || touched.len() > MAX_LOCKS
            || !are_trusted(&Catalog::latest()?)?
            || !locks::try_lock_for_writing(touched.iter().map(|one| one.table))
        {
            return Ok(());
        }
        let parts = {
            let locked = Catalog::latest()?;
            let is_same = shared_tables::touched_by_delete(&locked, table.oid)? == touched;
            if !is_same || !are_trusted(&locked)? || shared_tables::delete_runs_code(&locked, tables.clone())? {
                return Ok(());
            }
            shared_tables::parts(&locked, table)?
        };
        // These locks do not keep another transaction from attaching a child table.
        if parts.iter().any(|part| touched.iter().all(|one| one.table != part.oid)) {
            return Ok(());
        }
        let _no_access = SandboxIdentity::without_access()?;
        for part in &parts {
            // The policies would hide a deleted tenant's rows from the owner.
            let _sandbox = Sandbox::enter_unforced(part.owner, &[(c"lock_timeout", LOCK_WAIT)])?;
            // Each row may be locked by a member, and PostgreSQL waits for one row after another.
            let rows = Rows { until: Some(until), ..rows(table, part, tenant_id) };
            if rows.count(MAX_ROWS + 1)? > MAX_ROWS {
                return Err(Error::conflict("too many rows", "The removal worker deletes them."));
            }
            // The check above has found no other triggers.
            rows.delete(&Triggers::ForeignKeysOnly, MAX_ROWS)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Returns the rows of a deleted tenant in one part of a shared table.
pub fn rows<'a>(table: &'a SharedTable, part: &Part, tenant_id: Uuid) -> Rows<'a> {
    Rows {
        table: part.oid,
        owner: part.owner,
        column: &table.tenant_column,
        number: part.column,
        index: part.index,
        id: tenant_id,
        until: None,
    }
}
