//! Maps owner roles to tenants. Code that runs as a tenant's owner role works for that tenant: index expressions,
//! defaults and materialized views in a superuser's maintenance, SECURITY DEFINER functions, cascades of foreign keys.

use std::cell::Cell;

use pgrx::{Uuid, pg_sys};

use crate::catalog::changes;
use crate::model::ids;
use crate::pg::roles;

thread_local! {
    /// The last role looked up, the number of role changes at that time, and the role's tenant.
    static OWNED: Cell<(pg_sys::Oid, u64, Option<Uuid>)> = const { Cell::new((pg_sys::InvalidOid, 0, None)) };
}

/// Reports whether the role is the owner role of a tenant.
pub fn is_owner_role(role: pg_sys::Oid) -> bool {
    ids::of_owner_role(&roles::name(role)).is_some()
}

/// Returns the role's tenant if the role is both a tenant's owner role and the current role.
pub fn tenant_of(role: pg_sys::Oid) -> Option<Uuid> {
    if role == roles::current() { owned_by(role) } else { None }
}

/// Returns the tenant whose owner role this is, or `None`.
pub fn owned_by(role: pg_sys::Oid) -> Option<Uuid> {
    let changes = changes::of_roles();
    let (known_role, known_at, tenant) = OWNED.get();
    if known_role == role && known_at == changes {
        return tenant;
    }
    let tenant = ids::of_owner_role(&roles::name(role));
    if changes::of_roles() == changes {
        OWNED.set((role, changes, tenant));
    }
    tenant
}
