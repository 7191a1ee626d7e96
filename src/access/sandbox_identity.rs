//! The identity of a migration's SQL, and of other code that works for a tenant: the tenant's service context.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::Uuid;

use crate::error::Result;
use crate::model::ids;
use crate::pg::{backend, guc};
use crate::settings;

/// Whether it is a sandbox, and not a setting or a role, that says who is calling.
pub fn is_sandboxed() -> bool {
    sandboxed_tenant().is_some()
}

/// Whether a migration's SQL is running, for this tenant.
pub fn is_sandbox_of(tenant: Uuid) -> bool {
    sandboxed_tenant() == Some(tenant)
}

/// The tenant that a sandbox works for, in its parallel workers too.
pub(super) fn sandboxed_tenant() -> Option<Uuid> {
    if backend::is_parallel_worker() { settings::sandbox() } else { SANDBOX.get() }
}

thread_local! {
    static SANDBOX: Cell<Option<Uuid>> = const { Cell::new(None) };
}

/// While it lives, the caller is the tenant's service context whatever the settings say, so that SQL of a migration
/// does not act with the identity of whoever asked for it.
pub struct SandboxIdentity {
    previous: Option<Uuid>,
    _settings: Option<guc::Scope>,
}

impl SandboxIdentity {
    pub fn assume(tenant: Uuid) -> Result<Self> {
        let scope = guc::Scope::open();
        for (name, value) in SandboxIdentity::settings(&tenant.to_string()) {
            scope.set(name, value)?;
        }
        Ok(SandboxIdentity { previous: SANDBOX.replace(Some(tenant)), _settings: Some(scope) })
    }

    /// Where the settings that go with it are the session's already.
    pub fn assume_in_session(tenant: Uuid) -> Self {
        SandboxIdentity { previous: SANDBOX.replace(Some(tenant)), _settings: None }
    }

    /// What goes with it, for parallel workers, which know the settings alone: the tenant's service context, and no setting
    /// of others that the script could give a user's id.
    pub fn settings(tenant: &str) -> [(&CStr, &str); 6] {
        let (user_id, tenant_id) = ("fluxbase_tenant.user_id", "fluxbase_tenant.tenant_id");
        [
            (c"fluxbase_tenant.user_id_setting", user_id),
            (c"fluxbase_tenant.tenant_id_setting", tenant_id),
            (settings::USER_ID, ""),
            (settings::CHOICE, ""),
            (settings::SANDBOX, tenant),
            (settings::TENANT_ID, tenant),
        ]
    }

    /// For code of others that works for no tenant: the service context of one that does not exist.
    pub fn anonymous() -> Result<Self> {
        SandboxIdentity::assume(ids::new())
    }
}

impl Drop for SandboxIdentity {
    fn drop(&mut self) {
        SANDBOX.set(self.previous);
    }
}
