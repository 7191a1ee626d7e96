//! The identity of a sandbox. Code in it acts as the tenant's service context, whatever the session's settings say.
//! Migrations run in one, and so does other code that works for a tenant.

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::Uuid;

use crate::error::Result;
use crate::model::ids;
use crate::pg::{backend, guc};
use crate::settings;

/// Reports whether a sandbox, instead of the settings or the database role, determines the caller.
pub fn is_sandboxed() -> bool {
    sandboxed_tenant().is_some()
}

/// Reports whether a sandbox of this tenant is active.
pub fn is_sandbox_of(tenant: Uuid) -> bool {
    sandboxed_tenant() == Some(tenant)
}

/// Returns the tenant of the active sandbox. Parallel workers read it from a setting, because they do not share this
/// backend's variables.
pub(super) fn sandboxed_tenant() -> Option<Uuid> {
    if backend::is_parallel_worker() { settings::sandbox() } else { SANDBOX.get() }
}

thread_local! {
    static SANDBOX: Cell<Option<Uuid>> = const { Cell::new(None) };
}

/// While this value lives, the caller is the tenant's service context, whatever the settings say. So a migration's SQL
/// does not act as the user who started the migration.
pub struct SandboxIdentity {
    previous: Option<Uuid>,
    _settings: Option<guc::Scope>,
}

impl SandboxIdentity {
    /// Assumes the identity and changes the settings to match. Both end when the value is dropped.
    pub fn assume(tenant: Uuid) -> Result<Self> {
        let scope = guc::Scope::open();
        for (name, value) in SandboxIdentity::settings(&tenant.to_string()) {
            scope.set(name, value)?;
        }
        Ok(SandboxIdentity { previous: SANDBOX.replace(Some(tenant)), _settings: Some(scope) })
    }

    /// Assumes the identity in a session whose settings already match.
    pub fn assume_in_session(tenant: Uuid) -> Self {
        SandboxIdentity { previous: SANDBOX.replace(Some(tenant)), _settings: None }
    }

    /// Returns the settings that match the identity. Parallel workers know only the settings: these make them the
    /// tenant's service context too, and disable foreign settings, which the script could set to a user's id.
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

    /// Assumes an identity that has access to no tenant, for another role's code: the service context of a tenant that
    /// does not exist.
    pub fn without_access() -> Result<Self> {
        SandboxIdentity::assume(ids::new())
    }
}

impl Drop for SandboxIdentity {
    fn drop(&mut self) {
        SANDBOX.set(self.previous);
    }
}
