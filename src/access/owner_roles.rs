//! Code that runs as a tenant's owner role is that tenant's: index expressions, defaults and materialized views under a
//! superuser's maintenance, SECURITY DEFINER functions, cascades of foreign keys.

use std::cell::Cell;

use pgrx::{Uuid, pg_sys};

use crate::catalog::changes;
use crate::model::ids;
use crate::pg::roles;

thread_local! {
    /// The role that was asked about last, and what roles were then.
    static OWNED: Cell<(pg_sys::Oid, u64, Option<Uuid>)> = const { Cell::new((pg_sys::InvalidOid, 0, None)) };
}

pub fn is_owner_role(role: pg_sys::Oid) -> bool {
    ids::of_owner_role(&roles::name(role)).is_some()
}

/// The tenant that code works for which runs as this role now.
pub fn tenant_of(role: pg_sys::Oid) -> Option<Uuid> {
    if role == roles::current() { owned_by(role) } else { None }
}

/// The tenant whose owner role this is.
pub fn owned_by(role: pg_sys::Oid) -> Option<Uuid> {
    let changes = changes::of_roles();
    let (known, then, tenant) = OWNED.get();
    if known == role && then == changes {
        return tenant;
    }
    let tenant = ids::of_owner_role(&roles::name(role));
    if changes::of_roles() == changes {
        OWNED.set((role, changes, tenant));
    }
    tenant
}
