//! Functions in the catalog's schema: what policies and the event trigger call.

use pgrx::prelude::*;

#[pg_schema]
mod fluxbase_tenant {
    use pgrx::datum::Uuid;
    use pgrx::prelude::*;

    use crate::access;
    use crate::api::{Result, answer};
    use crate::catalog::Catalog;
    use crate::schema::isolation;

    /// Whether the caller reaches the tenant's tables now; called by the policy tenant_isolation.
    #[pg_extern(stable, strict, parallel_safe, cost = 100)]
    fn reachable(tenant_id: Uuid) -> Result<bool> {
        answer(|| access::is_reachable(&Catalog::read()?, tenant_id))
    }

    /// The tenants whose catalog rows the caller sees; called by the catalog's policies.
    #[pg_extern(stable, parallel_safe, cost = 100)]
    fn visible_tenant_ids() -> Result<Vec<Uuid>> {
        answer(|| access::visible_tenant_ids(&Catalog::read()?))
    }

    #[pg_extern(sql = r#"
        CREATE FUNCTION fluxbase_tenant.after_ddl() RETURNS event_trigger
        VOLATILE PARALLEL UNSAFE LANGUAGE c AS '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
    "#)]
    fn after_ddl(_fcinfo: pg_sys::FunctionCallInfo) -> Result<()> {
        answer(isolation::after_ddl)
    }
}
