//! The settings as the server knows them: name, context, description.

use std::ffi::{CStr, c_char, c_void};

use pgrx::guc::{GucContext, GucFlags, GucRegistry};
use pgrx::prelude::*;

use super::identity::{check_uuid, identity_assigned, set_loading, tenant_id_assigned, user_id_assigned};
use super::values::*;

/// Settings that the extension keeps for itself.
const KEPT: GucFlags = GucFlags::NO_SHOW_ALL.union(GucFlags::DISALLOW_IN_FILE);

pub fn define() {
    set_loading(true);
    let user = c"Current user of the application (uuid), empty for none.";
    define_uuid(USER_ID, user, &USER_ID_VALUE, user_id_assigned);
    define_uuid(TENANT_ID, c"Current tenant (uuid), empty for none.", &TENANT_ID_VALUE, tenant_id_assigned);
    set_loading(false);
    define_kept(CHOICE, c"What tenant_set_current() chose, and for which user; kept by the extension.", &CHOICE_VALUE);
    define_kept(SANDBOX, c"The tenant whose migration is running; kept by the extension.", &SANDBOX_VALUE);
    define_kept(PATHS, c"What tenant_set_current() did to search_path; kept by the extension.", &PATHS_VALUE);
    define_source(
        c"fluxbase_tenant.user_id_setting",
        c"Setting that the current user is read from.",
        c"A setting's name, or setting:claim for a claim of a setting that holds JSON, such as request.jwt.claims:sub.",
        &USER_ID_SETTING,
    );
    define_source(
        c"fluxbase_tenant.tenant_id_setting",
        c"Setting that the current tenant is read from where fluxbase_tenant.tenant_id is empty.",
        c"A setting's name, or setting:claim for a claim of a setting that holds JSON.",
        &TENANT_ID_SETTING,
    );
    GucRegistry::define_string_guc(
        c"fluxbase_tenant.schema_prefix",
        c"What the names of new tenant schemas begin with.",
        c"Existing schemas keep their names.",
        &SCHEMA_PREFIX,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"fluxbase_tenant.create_policy",
        c"Who may create tenants.",
        c"instance_admin, or authenticated for self-service sign-up by any current user.",
        &CREATE_POLICY,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"fluxbase_tenant.default_tenant",
        c"Which tenant is current when none is named.",
        c"oldest_membership, or none: whoever is admin of a tenant may add any user to it.",
        &DEFAULT_TENANT,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"fluxbase_tenant.schema_naming",
        c"What new tenant schemas are named after.",
        c"slug, or id where readers of pg_catalog must not see customers' slugs.",
        &SCHEMA_NAMING,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"fluxbase_tenant.max_tenants",
        c"Most tenants that may exist, deleted ones not counted; 0 for no limit.",
        c"",
        &MAX_TENANTS,
        0,
        i32::MAX,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"fluxbase_tenant.spare_tenants",
        c"How many tenants are kept ready for tenant_create().",
        c"A background worker makes up for each that is taken.",
        &SPARE_TENANTS,
        0,
        MAX_SPARES,
        GucContext::Suset,
        GucFlags::default(),
    );
    // SAFETY: called once from _PG_init with a static C string.
    unsafe { pg_sys::MarkGUCPrefixReserved(c"fluxbase_tenant".as_ptr()) };
}

fn define_kept(name: &'static CStr, short: &'static CStr, setting: &'static Text) {
    // SAFETY: identity_assigned is guarded, and does nothing with what it is given.
    unsafe {
        let assigned = Some(identity_assigned as _);
        GucRegistry::define_string_guc_with_hooks(
            name,
            short,
            c"",
            setting,
            GucContext::Suset,
            KEPT,
            None,
            assigned,
            None,
        );
    }
}

fn define_source(name: &'static CStr, short: &'static CStr, long: &'static CStr, setting: &'static Text) {
    let (context, flags) = (GucContext::Suset, GucFlags::default());
    // SAFETY: identity_assigned is guarded, and does nothing with what it is given.
    unsafe {
        let assigned = Some(identity_assigned as _);
        GucRegistry::define_string_guc_with_hooks(name, short, long, setting, context, flags, None, assigned, None);
    }
}

type Assigned = unsafe extern "C-unwind" fn(*const c_char, *mut c_void);

fn define_uuid(name: &'static CStr, short: &'static CStr, setting: &'static Text, assigned: Assigned) {
    // SAFETY: the hooks are guarded, and neither keep nor free what they are given.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            short,
            c"Superusers and roles granted SET on it may set it.",
            setting,
            GucContext::Suset,
            GucFlags::default(),
            Some(check_uuid),
            Some(assigned),
            None,
        );
    }
}
