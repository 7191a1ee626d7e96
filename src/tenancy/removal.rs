//! What a deleted tenant had outside its schema: rows of shared tables, and its owner role.
//!
//! Shared tables and what hangs on them are other people's. Nothing of theirs may run in the session that deletes, keep it
//! waiting or stop it: here only rows go whose removal runs no code, and only at once. A background worker looks at every
//! table after the commit, and removes what is left; until then nobody reaches it, for its tenant is gone.

use pgrx::Uuid;

use crate::catalog::shared_tables::{self, SharedTable};
use crate::catalog::{Catalog, removals};
use crate::error::Result;
use crate::identity::SandboxIdentity;
use crate::pg::sandbox::Sandbox;
use crate::pg::{attempt_any, execute};
use crate::schema;

/// How long the deleting session waits for a lock of somebody else's.
const PATIENCE: &str = "200ms";

/// After the tenant's row and schema are gone.
pub fn remove_what_is_elsewhere(catalog: &Catalog, tenant_id: Uuid) -> Result<()> {
    if !schema::drop_owner_role(catalog, tenant_id, PATIENCE)? {
        removals::request(catalog, tenant_id, None)?;
    }
    let mut left = shared_tables::list(catalog)?;
    for table in &left {
        removals::request(catalog, tenant_id, Some(table.oid))?;
    }
    // Rows that others refer to can go after those.
    loop {
        let before = left.len();
        let mut still_left = Vec::new();
        for table in left {
            if !remove_rows(catalog, &table, tenant_id)? {
                still_left.push(table);
            }
        }
        if still_left.is_empty() || still_left.len() == before {
            return Ok(());
        }
        left = still_left;
    }
}

/// False where that is left to the worker, as is whatever the server refuses.
fn remove_rows(catalog: &Catalog, table: &SharedTable, tenant_id: Uuid) -> Result<bool> {
    let removed = attempt_any(|| {
        let touched = shared_tables::touched_by_delete(catalog, table.oid)?.join(", ");
        execute(catalog.scope(), &format!("LOCK TABLE {touched} IN ROW EXCLUSIVE MODE NOWAIT"))?;
        // Under the lock, which keeps triggers from being added.
        if shared_tables::delete_runs_code(catalog, table.oid)? {
            return Ok(false);
        }
        let _nobody = SandboxIdentity::nobody()?;
        let sandbox = Sandbox::enter_unforced(table.owner, &[(c"row_security", "on"), (c"lock_timeout", PATIENCE)])?;
        let delete = format!("DELETE FROM {} WHERE {} = '{tenant_id}'", table.name, table.tenant_column);
        sandbox.run(&delete, "removing the rows of a deleted tenant")?;
        Ok(true)
    })?;
    Ok(removed == Some(true))
}
