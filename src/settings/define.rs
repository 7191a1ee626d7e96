//! Defines the settings: name, context and description.

use std::ffi::{CStr, c_char, c_void};

use pgrx::guc::{GucContext, GucFlags, GucRegistry};
use pgrx::prelude::*;

use super::identity::{
    check_tenant_id, check_uuid, identity_assigned, set_loading, tenant_id_assigned, user_id_assigned,
};
use super::values::*;

/// Flags of the settings in which the extension keeps its own state.
const INTERNAL: GucFlags = GucFlags::NO_SHOW_ALL.union(GucFlags::DISALLOW_IN_FILE);

/// Defines all settings. Called once per backend, from _PG_init.
pub fn define() {
    set_loading(true);
    let user = c"Sets the current user: a uuid, or empty for none.";
    define_uuid(USER_ID, user, &USER_ID_VALUE, check_uuid, user_id_assigned);
    define_uuid(
        TENANT_ID,
        c"Sets the current tenant: a uuid, or empty for none.",
        &TENANT_ID_VALUE,
        check_tenant_id,
        tenant_id_assigned,
    );
    set_loading(false);
    let choice = c"The tenant that tenant_set_current() chose, and the user it was chosen for. For internal use.";
    let sandbox = c"The tenant whose migration is running. For internal use.";
    let paths = c"The search_path before and after tenant_set_current(). For internal use.";
    define_internal(CHOICE, choice, &CHOICE_VALUE);
    define_internal(SANDBOX, sandbox, &SANDBOX_VALUE);
    define_internal(PATHS, paths, &PATHS_VALUE);
    define_source(
        c"fluxbase_tenant.user_id_setting",
        c"Names the setting from which the current user is read.",
        c"The name of a setting, or setting:claim for a claim in a JSON setting, such as request.jwt.claims:sub.",
        &USER_ID_SETTING,
    );
    define_source(
        c"fluxbase_tenant.tenant_id_setting",
        c"Names the setting from which the current tenant is read if fluxbase_tenant.tenant_id is empty.",
        c"The name of a setting, or setting:claim for a claim in a JSON setting.",
        &TENANT_ID_SETTING,
    );
    GucRegistry::define_string_guc(
        c"fluxbase_tenant.schema_prefix",
        c"Sets the prefix of the names of new tenant schemas.",
        c"Existing schemas keep their names.",
        &SCHEMA_PREFIX,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"fluxbase_tenant.create_policy",
        c"Sets who may create tenants.",
        c"instance_admin: only instance admins. authenticated: also any current user, for self-service sign-up.",
        &CREATE_POLICY,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"fluxbase_tenant.default_tenant",
        c"Sets which tenant is current if the session names none.",
        c"oldest_membership or none. Admins may add any user to their tenant: use none if users do not trust each other.",
        &DEFAULT_TENANT,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"fluxbase_tenant.schema_naming",
        c"Sets whether new tenant schemas are named after the slug or the id.",
        c"Use id if roles that can read pg_catalog must not see the slugs of customers.",
        &SCHEMA_NAMING,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"fluxbase_tenant.max_tenants",
        c"Sets the maximum number of tenants.",
        c"Deleted tenants do not count. 0 means no limit.",
        &MAX_TENANTS,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"fluxbase_tenant.spare_tenants",
        c"Sets the number of spare tenants kept ready for tenant_create().",
        c"A background worker replaces each spare tenant that is used.",
        &SPARE_TENANTS,
        0,
        MAX_SPARES,
        GucContext::Suset,
        GucFlags::default(),
    );
    // SAFETY: called once, from _PG_init, with a static C string.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"fluxbase_tenant".as_ptr()) };
}

fn define_internal(name: &'static CStr, short: &'static CStr, setting: &'static Text) {
    // SAFETY: identity_assigned is guarded by pg_guard and does not use the pointers that it is passed.
    unsafe {
        let assigned = Some(identity_assigned as _);
        GucRegistry::define_string_guc_with_hooks(
            name,
            short,
            c"",
            setting,
            GucContext::Suset,
            INTERNAL,
            None,
            assigned,
            None,
        );
    }
}

fn define_source(name: &'static CStr, short: &'static CStr, long: &'static CStr, setting: &'static Text) {
    let (context, flags) = (GucContext::Suset, GucFlags::default());
    // SAFETY: identity_assigned is guarded by pg_guard and does not use the pointers that it is passed.
    unsafe {
        let assigned = Some(identity_assigned as _);
        GucRegistry::define_string_guc_with_hooks(name, short, long, setting, context, flags, None, assigned, None);
    }
}

type Check = unsafe extern "C-unwind" fn(*mut *mut c_char, *mut *mut c_void, pg_sys::GucSource::Type) -> bool;
type Assigned = unsafe extern "C-unwind" fn(*const c_char, *mut c_void);

fn define_uuid(name: &'static CStr, short: &'static CStr, setting: &'static Text, check: Check, assigned: Assigned) {
    // SAFETY: the hooks are guarded by pg_guard, and neither keep nor free the pointers that they are passed, apart from
    // the extra data that the check hook returns.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            short,
            c"Superusers, and roles that have been granted SET on this setting, can set it.",
            setting,
            GucContext::Suset,
            GucFlags::default(),
            Some(check),
            Some(assigned),
            None,
        );
    }
}
