//! Database roles: which one is calling, and what it is a member of.

use std::ffi::CStr;

use pgrx::prelude::*;

/// The role whose privileges count at this point: current_user.
pub fn current() -> pg_sys::Oid {
    GetUserId()
}

/// The role that the session has taken on with SET ROLE, or that it logged in as: current_user outside of views, SECURITY
/// DEFINER functions and the like.
pub fn outer() -> pg_sys::Oid {
    GetOuterUserId()
}

/// Whether policies that are forced on the owner do not apply at this point, as in the server's checks of foreign keys.
pub fn are_policies_unforced() -> bool {
    InNoForceRLSOperation()
}

// SAFETY: as the server declares them. pgrx's own declarations guard against errors, which costs more than the call where
// every query comes by; these functions read variables of the backend and raise none.
unsafe extern "C" {
    safe fn GetUserId() -> pg_sys::Oid;
    safe fn GetOuterUserId() -> pg_sys::Oid;
    safe fn InNoForceRLSOperation() -> bool;
}

pub fn is_superuser(role: pg_sys::Oid) -> bool {
    // SAFETY: a lookup by oid, false for unknown roles.
    unsafe { pg_sys::superuser_arg(role) }
}

/// Superusers do, and roles with BYPASSRLS.
pub fn bypasses_policies(role: pg_sys::Oid) -> bool {
    // SAFETY: a lookup by oid.
    unsafe { pg_sys::has_bypassrls_privilege(role) }
}

/// Superusers count as members of every role; an absent role has no members.
pub fn is_member(role: pg_sys::Oid, of: &CStr) -> bool {
    by_name(of).is_some_and(|of| has_privileges_of(role, of))
}

/// Whether the role may set a parameter that is for superusers otherwise.
pub fn may_set(parameter: &CStr, role: pg_sys::Oid) -> bool {
    // SAFETY: a lookup by C string and oid.
    unsafe {
        pg_sys::pg_parameter_aclcheck(parameter.as_ptr(), role, pg_sys::ACL_SET as pg_sys::AclMode)
            == pg_sys::AclResult::ACLCHECK_OK
    }
}

pub fn has_privileges_of(role: pg_sys::Oid, of: pg_sys::Oid) -> bool {
    // SAFETY: a lookup with two oids.
    unsafe { pg_sys::has_privs_of_role(role, of) }
}

pub fn by_name(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a lookup by C string; missing_ok.
    let oid = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Whether the role was granted TRIGGER or REFERENCES on a relation.
pub fn may_depend_on(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    let either = (pg_sys::ACL_TRIGGER | pg_sys::ACL_REFERENCES) as pg_sys::AclMode;
    // SAFETY: a lookup by two oids.
    unsafe { pg_sys::pg_class_aclcheck(relation, role, either) == pg_sys::AclResult::ACLCHECK_OK }
}

/// The role's name; its oid where it is gone.
pub fn name(role: pg_sys::Oid) -> String {
    // SAFETY: a lookup by oid; with missing_ok null, else a freshly allocated C string.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() { role.to_u32().to_string() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// Superusers count as owners of everything.
pub fn owns_relation(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    owns(pg_sys::RelationRelationId, relation, role)
}

/// The same for an object of a class: a relation, a schema, a function or a type.
pub fn owns(class: pg_sys::Oid, object: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: lookups by two oids.
    #[cfg(feature = "pg15")]
    unsafe {
        match class {
            pg_sys::NamespaceRelationId => pg_sys::pg_namespace_ownercheck(object, role),
            pg_sys::ProcedureRelationId => pg_sys::pg_proc_ownercheck(object, role),
            pg_sys::TypeRelationId => pg_sys::pg_type_ownercheck(object, role),
            _ => pg_sys::pg_class_ownercheck(object, role),
        }
    }
    // SAFETY: a lookup by oids.
    #[cfg(not(feature = "pg15"))]
    unsafe {
        pg_sys::object_ownercheck(class, object, role)
    }
}
