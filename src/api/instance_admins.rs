//! Instance admins: users who may do everything to every tenant.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use super::{Result, answer, required};
use crate::access::require_instance_admin;
use crate::catalog::Catalog;
use crate::catalog::instance_admins::{self, InstanceAdmin};
use crate::error::Error;

macro_rules! returns_instance_admins {
    ($($(#[$meta:meta])* fn $name:ident($($args:tt)*) $body:block)+) => {$(
        $(#[$meta])*
        fn $name($($args)*) -> Result<
            TableIterator<'static, (
                name!(user_id, Uuid),
                name!(granted_by, Option<Uuid>),
                name!(created_at, TimestampWithTimeZone),
            )>,
        > {
            let admins = answer(|| $body)?;
            Ok(TableIterator::new(Vec::from_iter(admins).into_iter().map(
                |admin: InstanceAdmin| (admin.user_id, admin.granted_by, admin.created_at),
            )))
        }
    )+};
}

returns_instance_admins! {
    /// Makes a user instance admin; again: the same row.
    #[pg_extern(volatile, parallel_unsafe, cost = 1000)]
    fn tenant_grant_instance_admin(user_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let caller = require_instance_admin(&catalog, "grant instance admin")?;
        instance_admins::grant(&catalog, required("user_id", user_id)?, caller.user())
    }

    /// Ends a user's being instance admin.
    #[pg_extern(volatile, parallel_unsafe, cost = 1000)]
    fn tenant_revoke_instance_admin(user_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        require_instance_admin(&catalog, "revoke instance admin")?;
        instance_admins::revoke(&catalog, required("user_id", user_id)?)?
            .ok_or(Error::NotFound { what: "instance admin" })
            .map(Some)
    }

    /// The instance admins, oldest first.
    #[pg_extern(stable, parallel_safe, cost = 100)]
    fn tenant_list_instance_admins() {
        let catalog = Catalog::read()?;
        require_instance_admin(&catalog, "list instance admins")?;
        instance_admins::list(&catalog)
    }
}
