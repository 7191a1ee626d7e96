//! The query of `tenant_check()`, which finds problems of the installation in system catalogs, the extension's
//! catalog and settings. It is assembled from the files in sql/check/.

use super::{Catalog, relations};
use crate::error::Result;
use crate::pg::{guc, query};
use crate::settings;

/// A row of `tenant_check()`.
pub struct Finding {
    /// `error`: tenants are not isolated, or the catalog has lost data. `warning`: one of these could happen.
    pub severity: String,
    pub object: String,
    pub problem: String,
    pub fix: String,
}

impl Finding {
    /// Returns the finding that PostgreSQL no longer calls the executor-start check, which no catalog shows.
    pub fn check_is_bypassed() -> Self {
        Finding {
            severity: "warning".into(),
            object: "library fluxbase_tenant".into(),
            problem: "another library replaced ExecutorCheckPerms_hook and does not call the previous hook".into(),
            fix: "Load fluxbase_tenant last. Until then, policies are evaluated for each row, which is slower.".into(),
        }
    }
}

const FINDINGS: &str = concat!(
    include_str!("../../sql/check/base.sql"),
    ", finding (severity, object, problem, fix) AS (\n",
    include_str!("../../sql/check/tenants.sql"),
    "UNION ALL\n",
    include_str!("../../sql/check/relations.sql"),
    "UNION ALL\n",
    include_str!("../../sql/check/shared_tables.sql"),
    "UNION ALL\n",
    include_str!("../../sql/check/catalog.sql"),
    "UNION ALL\n",
    include_str!("../../sql/check/bypasses.sql"),
    "UNION ALL\n",
    include_str!("../../sql/check/identity.sql"),
    "UNION ALL\n",
    include_str!("../../sql/check/installation.sql"),
    "UNION ALL\n",
    include_str!("../../sql/check/leftovers.sql"),
    ") SELECT severity, object, problem, fix FROM finding ORDER BY severity, object, problem"
);

/// Returns all findings, errors first.
pub fn list(catalog: &Catalog) -> Result<Vec<Finding>> {
    // JIT compilation of the query would take longer than its execution.
    let scope = guc::Scope::open();
    scope.set(c"jit", "off")?;
    query(
        catalog.scope(),
        FINDINGS,
        &[
            settings::user_id_setting().into(),
            settings::tenant_id_setting().into(),
            relations::extension_schema(catalog)?.into(),
        ],
        |row| Ok(Finding { severity: row.need(1)?, object: row.need(2)?, problem: row.need(3)?, fix: row.need(4)? }),
    )
}
