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

/// Returns the tenant if the role is the current role and a tenant's owner role. Code that runs as another role does
/// not run as the owner role, whatever privileges count.
pub fn tenant_of_current(role: pg_sys::Oid) -> Option<Uuid> {
    if role == roles::current() { tenant_of_owner_role(role) } else { None }
}

/// Returns the tenant whose owner role this is, or `None`.
pub fn tenant_of_owner_role(role: pg_sys::Oid) -> Option<Uuid> {
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
