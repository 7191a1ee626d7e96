//! The session: the current user, the current tenant, and functions for use in policies.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use super::rows::returns_tenants;
use super::{Result, answer, required};
use crate::access::{self, Caller};
use crate::catalog::{Catalog, changes};
use crate::model::Role;
use crate::pg::guc::Lifetime;
use crate::pg::roles;
use crate::tenants::current;

returns_tenants! {
    /// Makes a tenant the current one, by slug or by id as text. Puts its schema first in search_path.
    #[pg_extern(sql = false)]
    fn tenant_set_current(tenant: Option<String>, is_local: Option<bool>) {
        let lifetime = Lifetime::from_is_local(required("is_local", is_local)?);
        current::set_current_by_text(&required("tenant", tenant)?, lifetime).map(Some)
    }

    /// Makes a tenant the current one, by id.
    #[pg_extern(sql = false)]
    fn tenant_set_current_by_id(tenant: Option<Uuid>, is_local: Option<bool>) {
        let lifetime = Lifetime::from_is_local(required("is_local", is_local)?);
        current::set_current_by_id(required("tenant", tenant)?, lifetime).map(Some)
    }

    /// Returns the current tenant, or no row if there is none.
    #[pg_extern(sql = false)]
    fn tenant_current() {
        access::current_tenant(&Catalog::read()?)
    }
}

/// Resets the current tenant to none, and search_path to its value before tenant_set_current().
#[pg_extern(sql = false)]
fn tenant_reset_current() -> Result<()> {
    answer(current::reset_current)
}

/// Returns the id of the current tenant, or NULL if there is none.
#[pg_extern(sql = false)]
fn tenant_current_id() -> Result<Option<Uuid>> {
    answer(|| Ok(access::current_tenant(&Catalog::read()?)?.map(|tenant| tenant.id)))
}

/// Returns the id of the current user, or NULL if there is none.
#[pg_extern(sql = false)]
fn tenant_current_user_id() -> Result<Option<Uuid>> {
    answer(access::user)
}

/// Reports whether the caller has access to the tenant's data.
#[pg_extern(sql = false)]
fn tenant_has_access(tenant_id: Uuid) -> Result<bool> {
    changes::catch_up();
    answer(|| access::has_access(roles::current(), tenant_id, Role::Member))
}

/// Reports whether the caller has access to the tenant's data, with at least this role in the tenant.
#[pg_extern(sql = false)]
fn tenant_has_role(tenant_id: Uuid, role: &str) -> Result<bool> {
    changes::catch_up();
    answer(|| {
        let role = Role::parse(role)?;
        access::has_access(roles::current(), tenant_id, role)
    })
}

/// Reports whether the caller is an instance admin.
#[pg_extern(sql = false)]
fn tenant_is_instance_admin() -> Result<bool> {
    answer(|| Ok(matches!(Caller::of(roles::current())?, Caller::InstanceAdmin { .. })))
}
