//! Instance admins: users who have all rights on all tenants.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use super::{Result, answer, required};
use crate::access::authorize_instance;
use crate::catalog::instance_admins::InstanceAdmin;
use crate::catalog::{self, Catalog};
use crate::people::instance_admins;

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
    /// Makes a user an instance admin. Returns the existing row if the user is one already.
    #[pg_extern(sql = false)]
    fn tenant_grant_instance_admin(user_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let permit = authorize_instance(&catalog, "grant instance admin")?;
        instance_admins::grant(&catalog, &permit, required("user_id", user_id)?)
    }

    /// Revokes instance admin from a user.
    #[pg_extern(sql = false)]
    fn tenant_revoke_instance_admin(user_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let permit = authorize_instance(&catalog, "revoke instance admin")?;
        instance_admins::revoke(&catalog, &permit, required("user_id", user_id)?).map(Some)
    }

    /// Returns the instance admins, oldest first.
    #[pg_extern(sql = false)]
    fn tenant_list_instance_admins() {
        let catalog = Catalog::read()?;
        authorize_instance(&catalog, "list instance admins")?;
        catalog::instance_admins::list(&catalog)
    }
}
