//! What a deleted tenant had outside its schema: rows of shared tables, and its owner role.
//!
//! Shared tables and what hangs on them are other people's. Nothing of theirs may run in the session that deletes, keep it
//! waiting or stop it: here only rows go of tables that are superusers' or the caller's own, that nothing refers to, whose removal runs no code, and
//! only at once. A background worker looks at every table after the commit, and removes what is left; until then nobody reaches
//! it, for its tenant is gone.

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

/// How long the deleting session waits for a lock of somebody else's.
const LOCK_WAIT: &str = "200ms";

const LOCK_WAIT_FOR_ALL: Duration = Duration::from_secs(1);

/// Rows of one table that the deleting transaction removes.
const MAX_ROWS: u64 = 10_000;

/// Tables that the deleting transaction locks for the sake of one shared table.
const MAX_LOCKS: usize = 1000;

/// The worker drops it with its owner role.
pub fn leave_schema(catalog: &Catalog, tenant_id: Uuid) -> Result<()> {
    removals::request(catalog, tenant_id, None)
}

/// After the schema is gone.
pub fn remove_owner_role(catalog: &Catalog, tenant_id: Uuid) -> Result<()> {
    if schema::owner_role_is_burdened(catalog, tenant_id)? || !schema::drop_owner_role(catalog, tenant_id, LOCK_WAIT)? {
        removals::request(catalog, tenant_id, None)?;
    }
    Ok(())
}

/// After the tenant's row is gone.
pub fn remove_rows_elsewhere(catalog: &Catalog, tenant_id: Uuid) -> Result<()> {
    // Also one that a transaction's older snapshot does not see.
    let tables = shared_tables::list(&Catalog::latest()?)?;
    for table in &tables {
        removals::request(catalog, tenant_id, Some(table.oid))?;
    }
    let until = Instant::now() + LOCK_WAIT_FOR_ALL;
    for table in &tables {
        if Instant::now() > until {
            break;
        }
        remove_rows(catalog.caller_role(), table, tenant_id, until)?;
    }
    Ok(())
}

/// What it may not do, and whatever the server refuses, is left to the worker.
fn remove_rows(caller: pg_sys::Oid, table: &SharedTable, tenant_id: Uuid, until: Instant) -> Result<()> {
    attempt_any(|| {
        // By oid, and by what is committed now at every isolation level: names and triggers may change until there is a lock.
        let touched = shared_tables::touched_by_delete(&Catalog::latest()?, table.oid)?;
        // Members write the rows that a key looks for, and each may take a while.
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
        // A child can come under a table that is locked in this way.
        if parts.iter().any(|part| touched.iter().all(|one| one.table != part.oid)) {
            return Ok(());
        }
        let _nobody = SandboxIdentity::anonymous()?;
        for part in &parts {
            let _sandbox = Sandbox::enter_unforced(part.owner, &[(c"lock_timeout", LOCK_WAIT)])?;
            // Members may lock each row, and the server waits for one after another.
            let rows = Rows { until: Some(until), ..rows(table, part, tenant_id) };
            if rows.count(MAX_ROWS + 1)? > MAX_ROWS {
                return Err(Error::conflict("too many rows", "The worker removes them."));
            }
            // There are no others, as was just seen.
            rows.delete(&Triggers::OfKeysAlone, MAX_ROWS)?;
        }
        Ok(())
    })?;
    Ok(())
}

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
