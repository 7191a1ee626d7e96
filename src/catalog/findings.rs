//! What is wrong with an installation, as far as catalogs and settings show it. One query, put together from sql/check/.

use super::{Catalog, relations};
use crate::error::Result;
use crate::pg::{guc, query};
use crate::settings;

pub struct Finding {
    /// `error`: tenants are not kept apart. `warning`: they are, by what may change.
    pub severity: String,
    pub object: String,
    pub problem: String,
    pub fix: String,
}

impl Finding {
    /// What no catalog shows: whether the server still asks this library before it runs a query.
    pub fn check_is_bypassed() -> Self {
        Finding {
            severity: "warning".into(),
            object: "library fluxbase_tenant".into(),
            problem: "another library took ExecutorCheckPerms_hook and does not call the one before it".into(),
            fix: "Load fluxbase_tenant last; until then policies are checked row by row, which is slower.".into(),
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

pub fn list(catalog: &Catalog) -> Result<Vec<Finding>> {
    // To compile the query takes longer than to run it.
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
