//! Deferrable constraints while a migration runs.
//!
//! A check that is deferred to the end of the transaction would run outside the sandbox, as the role that commits.
//! PostgreSQL therefore refuses to defer a check inside a sandbox. To let scripts write rows of tables with deferrable
//! foreign keys, the tenant's constraints are set to IMMEDIATE: their checks run at the end of each statement.

use crate::catalog::Catalog;
use crate::catalog::tenants::Tenant;
use crate::error::Result;
use crate::pg::query;

/// The tenant's deferrable constraints.
pub struct Deferrable {
    all: Vec<String>,
    initially_deferred: Vec<String>,
}

impl Deferrable {
    pub fn of(catalog: &Catalog, tenant: &Tenant) -> Result<Self> {
        // Finds the schema's tables through pg_depend, whose index makes this fast in a database of any size.
        let found: Vec<(String, bool)> = query(
            catalog.scope(),
            "SELECT DISTINCT format('%I.%I', n.nspname, con.conname), con.condeferred
             FROM pg_namespace n
             JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid
                             AND d.classid = 'pg_class'::regclass
             JOIN pg_constraint con ON con.conrelid = d.objid AND con.connamespace = n.oid
             WHERE n.nspname = $1::text::name AND con.condeferrable",
            &[tenant.schema_name.as_str().into()],
            |row| Ok((row.need(1)?, row.need(2)?)),
        )?;
        let initially_deferred = found.iter().filter(|(_, deferred)| *deferred).map(|(name, _)| name.clone()).collect();
        Ok(Deferrable { all: found.into_iter().map(|(name, _)| name).collect(), initially_deferred })
    }

    /// Reports whether the statement may have created or dropped a deferrable constraint, judging by its words. If it
    /// hides them, as a DO block with dynamic SQL can, PostgreSQL still refuses to defer the check.
    pub fn may_be_changed_by(&self, statement: &str) -> bool {
        let lower = statement.to_ascii_lowercase();
        let words: &[&str] = if self.all.is_empty() { &["defer"] } else { &["defer", "drop", "alter", "like"] };
        words.iter().any(|word| lower.contains(word))
    }

    /// Returns the command that makes all of them immediate.
    pub fn set_immediate(&self) -> Option<String> {
        set_constraints(&self.all, "IMMEDIATE")
    }

    /// Returns the command that defers those that are initially deferred, as they are declared.
    pub fn restore(&self) -> Option<String> {
        set_constraints(&self.initially_deferred, "DEFERRED")
    }
}

fn set_constraints(names: &[String], mode: &str) -> Option<String> {
    (!names.is_empty()).then(|| format!("SET CONSTRAINTS {} {mode}", names.join(", ")))
}
