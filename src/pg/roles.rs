//! Database roles: which one is current, and what a role owns, may do and is a member of.

use std::ffi::CStr;

use pgrx::prelude::*;

/// Returns the role whose privileges PostgreSQL checks: current_user.
pub fn current() -> pg_sys::Oid {
    GetUserId()
}

/// Returns the role that the session has set with SET ROLE, or that it logged in as. SECURITY DEFINER functions,
/// maintenance and the like change current_user, but not this role.
pub fn outer() -> pg_sys::Oid {
    GetOuterUserId()
}

/// Reports whether FORCE ROW LEVEL SECURITY is currently ignored, as in PostgreSQL's foreign-key checks.
pub fn are_policies_unforced() -> bool {
    InNoForceRLSOperation()
}

// SAFETY: matches PostgreSQL's declarations. pgrx's declarations add a guard against errors, which costs more than the
// call itself and which every query would pay for. These functions only read backend-local variables and raise no
// error.
unsafe extern "C" {
    safe fn GetUserId() -> pg_sys::Oid;
    safe fn GetOuterUserId() -> pg_sys::Oid;
    safe fn InNoForceRLSOperation() -> bool;
}

pub fn is_superuser(role: pg_sys::Oid) -> bool {
    // SAFETY: a lookup by OID, which returns false for unknown roles.
    unsafe { pg_sys::superuser_arg(role) }
}

/// Reports whether the role bypasses row-level security: superusers do, and roles with BYPASSRLS.
pub fn bypasses_policies(role: pg_sys::Oid) -> bool {
    // SAFETY: a lookup by OID.
    unsafe { pg_sys::has_bypassrls_privilege(role) }
}

/// Reports whether the role has the privileges of the role named `of`. Superusers count as members of every role. A
/// role that does not exist has no members.
pub fn is_member(role: pg_sys::Oid, of: &CStr) -> bool {
    by_name(of).is_some_and(|of| has_privileges_of(role, of))
}

/// Reports whether the role may set a parameter that is reserved for superusers: it is one, or was granted SET on the
/// parameter.
pub fn may_set(parameter: &CStr, role: pg_sys::Oid) -> bool {
    // SAFETY: a lookup by C string and OID.
    unsafe {
        pg_sys::pg_parameter_aclcheck(parameter.as_ptr(), role, pg_sys::ACL_SET as pg_sys::AclMode)
            == pg_sys::AclResult::ACLCHECK_OK
    }
}

pub fn has_privileges_of(role: pg_sys::Oid, of: pg_sys::Oid) -> bool {
    // SAFETY: a lookup by two OIDs.
    unsafe { pg_sys::has_privs_of_role(role, of) }
}

pub fn by_name(name: &CStr) -> Option<pg_sys::Oid> {
    // SAFETY: a lookup by C string, with missing_ok.
    let oid = unsafe { pg_sys::get_role_oid(name.as_ptr(), true) };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Reports whether the role has the TRIGGER or REFERENCES privilege on a relation.
pub fn may_depend_on(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    let either = (pg_sys::ACL_TRIGGER | pg_sys::ACL_REFERENCES) as pg_sys::AclMode;
    // SAFETY: a lookup by two OIDs.
    unsafe { pg_sys::pg_class_aclcheck(relation, role, either) == pg_sys::AclResult::ACLCHECK_OK }
}

/// Returns the role's name, or its OID as text if the role no longer exists.
pub fn name(role: pg_sys::Oid) -> String {
    // SAFETY: a lookup by OID. With missing_ok, the result is null or a newly allocated C string.
    unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        if name.is_null() { role.to_u32().to_string() } else { CStr::from_ptr(name).to_string_lossy().into_owned() }
    }
}

/// Reports whether the role owns a relation. Superusers count as owners of everything.
pub fn owns_relation(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    owns(pg_sys::RelationRelationId, relation, role)
}

/// Reports whether the role owns an object of one of these classes: relations, schemas, functions and types. Superusers
/// count as owners of everything.
pub fn owns(class: pg_sys::Oid, object: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: a lookup by two OIDs.
    #[cfg(feature = "pg15")]
    unsafe {
        match class {
            pg_sys::NamespaceRelationId => pg_sys::pg_namespace_ownercheck(object, role),
            pg_sys::ProcedureRelationId => pg_sys::pg_proc_ownercheck(object, role),
            pg_sys::TypeRelationId => pg_sys::pg_type_ownercheck(object, role),
            _ => pg_sys::pg_class_ownercheck(object, role),
        }
    }
    // SAFETY: a lookup by OIDs.
    #[cfg(not(feature = "pg15"))]
    unsafe {
        pg_sys::object_ownercheck(class, object, role)
    }
}
