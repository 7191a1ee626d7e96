//! Who is calling, and for which tenant.

use std::cell::Cell;

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;
use pgrx::{PgLogLevel, Uuid, pg_sys};

use super::sandbox_identity::{is_sandboxed, sandboxed_tenant};
use super::{cache, claims, owner_roles, security_definers};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::model::Role;
use crate::pg::{backend, roles, security_context};
use crate::settings::{self, Choice, DefaultTenant};

/// The caller of a function or a query. Exactly one of these, decided in one place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caller {
    /// May do everything to every tenant; as a user, or as a database role without one.
    InstanceAdmin {
        user: Option<Uuid>,
    },
    /// A person of the application, who may do what the memberships say.
    User(Uuid),
    /// A trusted back end that works for one tenant.
    Service(Uuid),
    Anonymous,
}

impl Caller {
    /// The caller of a function that holds the catalog.
    pub fn current(catalog: &Catalog) -> Result<Self> {
        Caller::of(catalog.caller_role())
    }

    /// The caller where `role` is the database role whose privileges count.
    pub fn of(role: pg_sys::Oid) -> Result<Self> {
        Caller::of_code(role, security_context::calling_role())
    }

    /// The same where code of `code` is what runs.
    pub fn of_code(role: pg_sys::Oid, code: pg_sys::Oid) -> Result<Self> {
        if let Some(tenant) = sandboxed_tenant() {
            return Ok(if is_code_of(tenant) { Caller::Service(tenant) } else { Caller::Anonymous });
        }
        Caller::outside_sandbox(role, is_of_admins(role) && (code == roles::outer() || is_admin(code)))
    }

    /// The caller as the session is one, for code that runs as a tenant's owner role in it.
    pub fn of_session() -> Result<Self> {
        match sandboxed_tenant() {
            Some(tenant) => Ok(Caller::Service(tenant)),
            None => Caller::outside_sandbox(roles::outer(), is_of_admins(roles::outer())),
        }
    }

    fn outside_sandbox(role: pg_sys::Oid, is_of_admins: bool) -> Result<Self> {
        // Whoever is set as user is so for what the session does itself.
        if security_context::is_maintenance_of_others() && !roles::is_superuser(role) && !is_of_admins {
            return Ok(Caller::Anonymous);
        }
        if let Some(user) = user()? {
            return Ok(if cache::is_instance_admin(user)? {
                Caller::InstanceAdmin { user: Some(user) }
            } else {
                Caller::User(user)
            });
        }
        if roles::is_superuser(role) || is_of_admins {
            return Ok(Caller::InstanceAdmin { user: None });
        }
        Ok(match service_tenant()? {
            Some(tenant) => Caller::Service(tenant),
            None => Caller::Anonymous,
        })
    }

    /// Whether the own settings alone say so: no sandbox, no setting of others, not the database role.
    pub fn is_by_own_settings(self) -> bool {
        self.user().is_some() && !is_sandboxed() && !is_by_foreign_settings()
    }

    pub fn user(self) -> Option<Uuid> {
        match self {
            Caller::InstanceAdmin { user } => user,
            Caller::User(user) => Some(user),
            Caller::Service(_) | Caller::Anonymous => None,
        }
    }
}

/// Whether code that a sandbox runs is the tenant's own, or a superuser's. Others' code may come by: a migration's ANALYZE takes along
/// every table that its role may maintain, whoever put code into it.
fn is_code_of(tenant: Uuid) -> bool {
    let role = security_context::calling_role();
    owner_roles::owned_by(role) == Some(tenant) || roles::is_superuser(role)
}

fn is_admin(role: pg_sys::Oid) -> bool {
    roles::is_member(role, c"fluxbase_tenant_admin")
}

/// Whether the role whose privileges count and the session's own are members of fluxbase_tenant_admin. A view or a SECURITY DEFINER
/// function of such a role makes nobody an instance admin, and code of others that runs for an admin does not act as one. A superuser,
/// who counts as a member, may be maintaining the table of whoever calls.
fn is_of_admins(role: pg_sys::Oid) -> bool {
    !security_context::is_called_in_maintenance()
        && is_admin(role)
        && (role == roles::outer() || is_admin(roles::outer()))
        // A tenant's function was asked about as it began.
        && security_definers::are_all(|owner| is_admin(owner) || owner_roles::is_owner_role(owner))
}

/// Whether a setting that is not the extension's own says who is calling.
pub fn is_by_foreign_settings() -> bool {
    settings::foreign_user_id_setting().is_some() || settings::foreign_tenant_id_setting().is_some()
}

/// The current user, as set or claimed.
pub fn user() -> Result<Option<Uuid>> {
    if is_sandboxed() {
        return Ok(None);
    }
    match settings::foreign_user_id_setting() {
        None => settings::user_id(),
        Some(setting) => claims::read(&setting),
    }
}

/// The current tenant, as set or claimed; whether the caller may access it is not said.
pub fn tenant() -> Result<Option<Uuid>> {
    if let Some(tenant) = sandboxed_tenant() {
        return Ok(Some(tenant));
    }
    match settings::tenant_id()? {
        Some(tenant) if is_choice_of_another(tenant)? => Ok(None),
        Some(tenant) => Ok(Some(tenant)),
        None => settings::foreign_tenant_id_setting().map_or(Ok(None), |setting| claims::read(&setting)),
    }
}

/// Whether `tenant_set_current` chose the tenant for somebody else than the current user, who may not have it, or takes none that was not
/// chosen for them.
fn is_choice_of_another(tenant: Uuid) -> Result<bool> {
    let Some(choice) = Choice::kept().filter(|choice| choice.tenant == tenant) else {
        return Ok(false);
    };
    let Some(user) = user()?.filter(|user| *user != choice.user) else {
        return Ok(false);
    };
    let is_another =
        settings::default_tenant() == DefaultTenant::None || !is_active_member_or_instance_admin(user, tenant)?;
    if is_another {
        warn_of_choice();
    }
    Ok(is_another)
}

fn is_active_member_or_instance_admin(user: Uuid, tenant: Uuid) -> Result<bool> {
    let is_member = || Ok(cache::standing(Some(user), tenant)?.is_some_and(|known| known.gives_access(Role::Member)));
    if cache::is_instance_admin(user)? { Ok(true) } else { is_member() }
}

thread_local! {
    static WARNED: Cell<u64> = const { Cell::new(0) };
}

/// Once, until a setting that says who is calling changes.
fn warn_of_choice() {
    let changes = settings::identity_changes();
    // Workers of a parallel query would say it again.
    if WARNED.replace(changes) != changes && !backend::is_parallel_worker() {
        let message = "the current tenant was chosen for another user, and is none for this one";
        ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "")
            .set_hint("Choose one with tenant_set_current(), in the transaction that sets the user.")
            .report(PgLogLevel::WARNING);
    }
}

/// The tenant that a session without a user works for. One that `tenant_set_current` chose for a user is none: the
/// user's identity may have ended, with a SET LOCAL, before the choice did.
fn service_tenant() -> Result<Option<Uuid>> {
    let tenant = tenant()?;
    let is_chosen_for_a_user = |tenant: &Uuid| Choice::kept().is_some_and(|choice| choice.tenant == *tenant);
    Ok(tenant.filter(|tenant| !is_chosen_for_a_user(tenant)))
}
