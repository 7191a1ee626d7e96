//! Determines who is calling and which tenant is current.

use std::cell::Cell;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{PgLogLevel, Uuid, pg_sys};

use super::sandbox_identity::{is_sandboxed, sandboxed_tenant};
use super::{cache, claims, owner_roles, security_definers};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::pg::{backend, roles, security_context};
use crate::settings;

/// The caller of a function or a query. Every caller is exactly one of these, and only this module decides which.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// May do everything with every tenant. `user` is `None` if the database role, not a user, makes the caller an
    /// instance admin.
    InstanceAdmin { user: Option<Uuid> },
    /// A user of the application, whose rights depend on their memberships.
    User(Uuid),
    /// A service context: a trusted back end that works for this tenant, without a user.
    Service(Uuid),
    /// No user and no tenant.
    Anonymous,
}

impl Caller {
    /// Returns the caller of a function that has opened the catalog.
    pub fn current(catalog: &Catalog) -> Result<Self> {
        Caller::of(catalog.caller_role())
    }

    /// Returns the caller, judged by the privileges of this database role.
    pub fn of(role: pg_sys::Oid) -> Result<Self> {
        Caller::of_code(role, security_context::calling_role())
    }

    /// Returns the caller. `role` is the database role whose privileges PostgreSQL checks, and `code` the one as which
    /// the code runs. They differ where a view's owner is checked, for example. An instance admin by role needs both:
    /// the role must act as an admin, and the code must be the session's own or an admin's.
    pub fn of_code(role: pg_sys::Oid, code: pg_sys::Oid) -> Result<Self> {
        if let Some(tenant) = sandboxed_tenant() {
            return Ok(if is_code_of(tenant) { Caller::Service(tenant) } else { Caller::Anonymous });
        }
        Caller::outside_sandbox(role, acts_as_admin(role, false) && (code == roles::outer() || is_admin(code)))
    }

    /// Returns the caller as the session's role and settings determine it. For code that runs in the session as a
    /// tenant's owner role.
    pub fn of_session() -> Result<Self> {
        match sandboxed_tenant() {
            Some(tenant) => Ok(Caller::Service(tenant)),
            None => Caller::outside_sandbox(roles::outer(), acts_as_admin(roles::outer(), true)),
        }
    }

    fn outside_sandbox(role: pg_sys::Oid, acts_as_admin: bool) -> Result<Self> {
        // The current user was set for what the session itself does, not for another role's code that its ANALYZE or
        // REINDEX runs.
        if security_context::is_maintenance_of_others() && !roles::is_superuser(role) && !acts_as_admin {
            return Ok(Caller::Anonymous);
        }
        if let Some(user) = user()? {
            return Ok(if cache::is_instance_admin(user)? {
                Caller::InstanceAdmin { user: Some(user) }
            } else {
                Caller::User(user)
            });
        }
        if roles::is_superuser(role) || acts_as_admin {
            return Ok(Caller::InstanceAdmin { user: None });
        }
        // The tenant of an instance admin's session is not a service context for another role's code.
        if is_admin(roles::outer()) {
            return Ok(Caller::Anonymous);
        }
        Ok(match service_tenant()? {
            Some(tenant) => Caller::Service(tenant),
            None => Caller::Anonymous,
        })
    }

    /// Reports whether only the extension's own identity settings determine this caller: not a sandbox, not a foreign
    /// setting, not the database role.
    pub fn is_by_own_settings(self) -> bool {
        self.user().is_some() && !is_sandboxed() && !is_by_foreign_settings()
    }

    /// Returns the caller's user, if there is one.
    pub fn user(self) -> Option<Uuid> {
        match self {
            Caller::InstanceAdmin { user } => user,
            Caller::User(user) => Some(user),
            Caller::Service(_) | Caller::Anonymous => None,
        }
    }
}

/// Reports whether the code that runs in a sandbox belongs to the sandbox's tenant or to a superuser. A sandbox can run
/// another role's code: ANALYZE in a migration processes every table that the owner role may maintain, and such a table
/// can have any role's functions in its indexes.
fn is_code_of(tenant: Uuid) -> bool {
    let role = security_context::calling_role();
    owner_roles::tenant_of_owner_role(role) == Some(tenant) || roles::is_superuser(role)
}

fn is_admin(role: pg_sys::Oid) -> bool {
    roles::is_member(role, c"fluxbase_tenant_admin")
}

/// Reports whether `role`, whose privileges count, acts as an instance admin: both it and the session's role must be
/// members of fluxbase_tenant_admin. So a view or a SECURITY DEFINER function of such a role does not make the role
/// that uses it an instance admin, and another role's code that an instance admin's command runs does not act as an
/// instance admin. Always false in code called in maintenance: otherwise, since a superuser counts as a member, a
/// superuser's ANALYZE would make the functions of the table's owner instance admins. `through_owner_role` is whether
/// the answer is for a tenant's function, which runs as the owner role and is checked when it begins
/// (`check::definer_function_is_inaccessible`).
fn acts_as_admin(role: pg_sys::Oid, through_owner_role: bool) -> bool {
    !security_context::is_called_in_maintenance()
        && is_admin(role)
        && (role == roles::outer() || is_admin(roles::outer()))
        && security_definers::all_owners(|owner| {
            is_admin(owner) || (through_owner_role && owner_roles::is_owner_role(owner))
        })
}

/// Reports whether a setting that does not belong to the extension determines the user or the tenant.
pub fn is_by_foreign_settings() -> bool {
    settings::foreign_user_id_setting().is_some() || settings::foreign_tenant_id_setting().is_some()
}

/// Returns the current user, from the extension's setting or from a claim.
pub fn user() -> Result<Option<Uuid>> {
    if is_sandboxed() {
        return Ok(None);
    }
    match settings::foreign_user_id_setting() {
        None => settings::user_id(),
        Some(setting) => claims::read(&setting),
    }
}

/// Returns the current tenant, from the extension's setting or from a claim. Does not check whether the caller may
/// access it.
pub fn tenant() -> Result<Option<Uuid>> {
    if let Some(tenant) = sandboxed_tenant() {
        return Ok(Some(tenant));
    }
    let Some(tenant) = settings::tenant_id()? else {
        return claimed_tenant();
    };
    match settings::choice() {
        Some(choice) if choice.user != user()? => {
            // It was chosen for another user, and counts as if it had not been.
            let claimed = claimed_tenant()?;
            if claimed.is_none() && user()?.is_some() {
                warn_of_ignored_choice();
            }
            Ok(claimed)
        }
        _ => Ok(Some(tenant)),
    }
}

fn claimed_tenant() -> Result<Option<Uuid>> {
    settings::foreign_tenant_id_setting().map_or(Ok(None), |setting| claims::read(&setting))
}

thread_local! {
    static WARNED: Cell<u64> = const { Cell::new(0) };
}

/// Warns once. Warns again only after an identity setting has changed.
fn warn_of_ignored_choice() {
    let changes = settings::identity_changes();
    // Parallel workers would repeat the warning.
    if WARNED.replace(changes) != changes && !backend::is_parallel_worker() {
        let message = "the current tenant was chosen for another user and is ignored";
        ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "")
            .set_hint("Choose a tenant with tenant_set_current() in the transaction that sets the user.")
            .report(PgLogLevel::WARNING);
    }
}

/// Returns the tenant of a session without a user. A tenant that `tenant_set_current` chose for a user or an instance
/// admin does not count: the user, set with SET LOCAL, may be unset before the choice is, and the instance admin may
/// switch to another role. A tenant in a token without a user does not count either.
fn service_tenant() -> Result<Option<Uuid>> {
    match settings::tenant_id()? {
        Some(tenant) if settings::choice().is_none() => Ok(Some(tenant)),
        _ if is_user_expected_in_claims() => Ok(None),
        _ => claimed_tenant(),
    }
}

/// Reports whether the user is read from a claim too. Then a tenant without a user is a token without a user.
fn is_user_expected_in_claims() -> bool {
    settings::foreign_user_id_setting().is_some_and(|setting| setting.contains(':'))
}
