//! Deferrable constraints while a migration runs.
//!
//! A check deferred to the end of the transaction would run as whoever commits, outside the sandbox, so the server
//! refuses to defer one inside. Setting the tenant's constraints to IMMEDIATE lets scripts with deferrable foreign keys
//! write rows; their checks then run at the end of each statement.

use crate::catalog::Catalog;
use crate::catalog::tenants::Tenant;
use crate::error::Result;
use crate::pg::query;

/// The tenant's constraints that can be deferred.
pub struct Deferrable {
    all: Vec<String>,
    initially_deferred: Vec<String>,
}

impl Deferrable {
    pub fn of(catalog: &Catalog, tenant: &Tenant) -> Result<Self> {
        // By way of pg_depend, whose index leads from a schema to its tables in a database of any size.
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

    /// Whether the statement may have made or unmade a deferrable constraint. What hides the word, such as a DO block that
    /// assembles it, meets the server's own refusal to defer a check.
    pub fn may_change_by(&self, statement: &str) -> bool {
        let lower = statement.to_ascii_lowercase();
        let words: &[&str] = if self.all.is_empty() { &["defer"] } else { &["defer", "drop", "alter", "like"] };
        words.iter().any(|word| lower.contains(word))
    }

    pub fn check_at_once(&self) -> Option<String> {
        set_constraints(&self.all, "IMMEDIATE")
    }

    pub fn as_declared(&self) -> Option<String> {
        set_constraints(&self.initially_deferred, "DEFERRED")
    }
}

fn set_constraints(names: &[String], mode: &str) -> Option<String> {
    (!names.is_empty()).then(|| format!("SET CONSTRAINTS {} {mode}", names.join(", ")))
}
