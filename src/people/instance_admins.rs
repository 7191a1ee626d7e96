//! Makes users instance admins, and ends that status.

use pgrx::Uuid;

use crate::access::InstancePermit;
use crate::catalog::Catalog;
use crate::catalog::instance_admins::{self, InstanceAdmin};
use crate::error::{Error, Result};

/// Makes a user an instance admin.
pub fn grant(catalog: &Catalog, permit: &InstancePermit, user_id: Uuid) -> Result<Option<InstanceAdmin>> {
    instance_admins::grant(catalog, user_id, permit.user())
}

/// Ends a user's status as an instance admin. Raises not_found if the user is not an instance admin.
pub fn revoke(catalog: &Catalog, _permit: &InstancePermit, user_id: Uuid) -> Result<InstanceAdmin> {
    instance_admins::revoke(catalog, user_id)?.ok_or(Error::NotFound { what: "instance admin" })
}
