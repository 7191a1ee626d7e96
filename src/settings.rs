//! Every setting of the extension: name, context, default, typed reader.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};

use crate::error::Result;
use crate::ids;
use crate::pg::guc;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use pgrx::prelude::*;

pub const USER_ID: &CStr = c"fluxbase_tenant.user_id";
pub const TENANT_ID: &CStr = c"fluxbase_tenant.tenant_id";
/// The tenant that `tenant_set_current` chose for a user, and the user. Without it a choice that outlives its user's SET LOCAL
/// would turn the session into that tenant's service context, or be the next user's.
pub const CHOICE: &CStr = c"fluxbase_tenant.choice";

/// The search_path that `tenant_set_current` set, and the one that it found.
pub const PATHS: &CStr = c"fluxbase_tenant.search_paths";

#[derive(Clone, Copy, PartialEq, Eq, Debug, PostgresGucEnum)]
pub enum CreatePolicy {
    #[name = c"instance_admin"]
    InstanceAdmin,
    #[name = c"authenticated"]
    Authenticated,
}

/// Which tenant is current when none is named.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PostgresGucEnum)]
pub enum DefaultTenant {
    #[name = c"oldest_membership"]
    OldestMembership,
    #[name = c"none"]
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, PostgresGucEnum)]
pub enum SchemaNaming {
    #[name = c"slug"]
    Slug,
    #[name = c"id"]
    Id,
}

/// Settings that the extension keeps for itself.
const KEPT: GucFlags = GucFlags::NO_SHOW_ALL.union(GucFlags::DISALLOW_IN_FILE);

type Text = GucSetting<Option<CString>>;

static USER_ID_VALUE: Text = Text::new(Some(c""));
static TENANT_ID_VALUE: Text = Text::new(Some(c""));
static CHOICE_VALUE: Text = Text::new(Some(c""));
static PATHS_VALUE: Text = Text::new(Some(c""));
static USER_ID_SETTING: Text = Text::new(Some(USER_ID));
static TENANT_ID_SETTING: Text = Text::new(Some(TENANT_ID));
static SCHEMA_PREFIX: Text = Text::new(Some(c"tenant_"));
static CREATE_POLICY: GucSetting<CreatePolicy> = GucSetting::<CreatePolicy>::new(CreatePolicy::InstanceAdmin);
static DEFAULT_TENANT: GucSetting<DefaultTenant> = GucSetting::<DefaultTenant>::new(DefaultTenant::OldestMembership);
static SCHEMA_NAMING: GucSetting<SchemaNaming> = GucSetting::<SchemaNaming>::new(SchemaNaming::Slug);
static MAX_TENANTS: GucSetting<i32> = GucSetting::<i32>::new(0);
static SPARE_TENANTS: GucSetting<i32> = GucSetting::<i32>::new(0);

pub fn create_policy() -> CreatePolicy {
    CREATE_POLICY.get()
}

pub fn default_tenant() -> DefaultTenant {
    DEFAULT_TENANT.get()
}

pub fn schema_naming() -> SchemaNaming {
    SCHEMA_NAMING.get()
}

pub fn schema_prefix() -> String {
    text(&SCHEMA_PREFIX)
}

/// 0 means no limit.
pub fn max_tenants() -> i64 {
    MAX_TENANTS.get().into()
}

pub fn spare_tenants() -> i32 {
    SPARE_TENANTS.get()
}

/// Where else than from `fluxbase_tenant.user_id` the current user is read, as `setting` or `setting:claim`.
pub fn foreign_user_id_setting() -> Option<String> {
    foreign(&USER_ID_SETTING, USER_ID)
}

pub fn foreign_tenant_id_setting() -> Option<String> {
    foreign(&TENANT_ID_SETTING, TENANT_ID)
}

pub fn user_id_setting() -> String {
    text(&USER_ID_SETTING)
}

pub fn tenant_id_setting() -> String {
    text(&TENANT_ID_SETTING)
}

/// Another number after each change of a setting that says who is calling.
pub fn identity_changes() -> u64 {
    IDENTITY_CHANGES.get()
}

/// The user in `fluxbase_tenant.user_id` itself, wherever `user_id_setting` points.
pub fn user_id() -> Result<Option<pgrx::Uuid>> {
    with_bytes(&USER_ID_VALUE, |value| parse(USER_ID, value))
}

/// The tenant in `fluxbase_tenant.tenant_id` itself, wherever `tenant_id_setting` points.
pub fn tenant_id() -> Result<Option<pgrx::Uuid>> {
    with_bytes(&TENANT_ID_VALUE, |value| parse(TENANT_ID, value))
}

/// What `tenant_set_current` chose, and for whom.
#[derive(Clone, Copy)]
pub struct Choice {
    pub tenant: pgrx::Uuid,
    pub user: pgrx::Uuid,
}

impl Choice {
    pub fn kept() -> Option<Self> {
        with_bytes(&CHOICE_VALUE, |value| {
            let (tenant, user) = value.split_at_checked(UUID_LENGTH)?;
            Some(Choice { tenant: ids::from_ascii(tenant)?, user: ids::from_ascii(user)? })
        })
    }

    /// As the setting holds it.
    pub fn text(self) -> String {
        ids::text(self.tenant) + &ids::text(self.user)
    }
}

/// As `ids::text` writes one.
const UUID_LENGTH: usize = 36;

/// A search_path that `tenant_set_current` set, and the one that it found.
pub struct Paths {
    pub set: String,
    pub before: String,
}

impl Paths {
    pub fn kept() -> Option<Self> {
        let value = text(&PATHS_VALUE);
        let (length, paths) = value.split_once(' ')?;
        let (set, before) = paths.split_at_checked(length.parse().ok()?)?;
        Some(Paths { set: set.into(), before: before.into() })
    }

    /// As the setting holds them.
    pub fn text(&self) -> String {
        format!("{} {}{}", self.set.len(), self.set, self.before)
    }
}

fn parse(name: &CStr, value: &[u8]) -> Result<Option<pgrx::Uuid>> {
    if value.is_empty() {
        return Ok(None);
    }
    // What a place is called is put together only where there is something to say of it.
    match ids::from_ascii(value) {
        Some(id) => Ok(Some(id)),
        None => ids::parse(&format_args!("setting \"{}\"", name.to_string_lossy()), &String::from_utf8_lossy(value)),
    }
}

fn foreign(setting: &'static Text, own: &CStr) -> Option<String> {
    with_bytes(setting, |value| (value != own.to_bytes()).then(|| String::from_utf8_lossy(value).into_owned()))
}

fn text(setting: &'static Text) -> String {
    with_bytes(setting, |value| String::from_utf8_lossy(value).into_owned())
}

/// Reads in place: identity is read at the start of every query.
fn with_bytes<T>(setting: &'static Text, read: impl FnOnce(&[u8]) -> T) -> T {
    // SAFETY: the server keeps null or a C string there, and changes it by SET alone, which does not run meanwhile.
    let value = unsafe {
        let value = setting.as_ptr().read();
        if value.is_null() { &[] } else { CStr::from_ptr(value).to_bytes() }
    };
    read(value)
}

pub fn define() {
    LOADING.set(true);
    let user = c"Current user of the application (uuid), empty for none.";
    define_uuid(USER_ID, user, &USER_ID_VALUE, user_id_assigned);
    define_uuid(TENANT_ID, c"Current tenant (uuid), empty for none.", &TENANT_ID_VALUE, tenant_id_assigned);
    LOADING.set(false);
    define_kept(CHOICE, c"What tenant_set_current() chose, and for which user; kept by the extension.", &CHOICE_VALUE);
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
        10_000,
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

/// What an identity setting is set to.
#[derive(Clone, Copy)]
pub enum Change {
    User(Option<pgrx::Uuid>),
    Tenant(Option<pgrx::Uuid>),
}

impl Change {
    /// Whether it is something else than what is set.
    pub fn is_another(self) -> bool {
        match self {
            Change::User(user) => user_id().is_ok_and(|before| before != user),
            Change::Tenant(tenant) => tenant_id().is_ok_and(|before| before != tenant),
        }
    }
}

/// See `on_identity_change`.
type Watcher = fn(Change);

thread_local! {
    static WATCHER: Cell<Option<Watcher>> = const { Cell::new(None) };
    static LOADING: Cell<bool> = const { Cell::new(false) };
    static IDENTITY_CHANGES: Cell<u64> = const { Cell::new(1) };
}

/// Called also where a value comes back at the end of a transaction or a function.
#[pg_guard]
unsafe extern "C-unwind" fn identity_assigned(_value: *const c_char, _extra: *mut c_void) {
    IDENTITY_CHANGES.set(IDENTITY_CHANGES.get() + 1);
    // Which schemas are searched depends on who is calling.
    guc::find_search_path_again();
}

#[pg_guard]
unsafe extern "C-unwind" fn user_id_assigned(value: *const c_char, extra: *mut c_void) {
    // SAFETY: as the server calls it.
    unsafe { assigned(Change::User, value, extra) };
}

#[pg_guard]
unsafe extern "C-unwind" fn tenant_id_assigned(value: *const c_char, extra: *mut c_void) {
    // SAFETY: as the server calls it.
    unsafe { assigned(Change::Tenant, value, extra) };
}

/// # Safety
/// What the server passes to assign hooks.
unsafe fn assigned(change: fn(Option<pgrx::Uuid>) -> Change, value: *const c_char, extra: *mut c_void) {
    // SAFETY: by the caller's promise null or a C string.
    let id = unsafe {
        identity_assigned(value, extra);
        if value.is_null() { None } else { ids::from_ascii(CStr::from_ptr(value).to_bytes()) }
    };
    if let Some(watcher) = WATCHER.get() {
        watcher(change(id));
    }
}

/// Has `watcher` told whenever one of the two identity settings is set, also where a value comes back. It must not fail.
pub fn on_identity_change(watcher: Watcher) {
    WATCHER.set(Some(watcher));
}

/// Refuses at SET what `ids::parse` would refuse at every later statement. What was set before the library was loaded
/// passes, to be refused by `ids::parse`: the server would replace it by no user at all.
#[pg_guard]
unsafe extern "C-unwind" fn check_uuid(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server passes the address of the new value, which is null or a C string.
    let value = unsafe { value.read() };
    if value.is_null() || LOADING.get() {
        return true;
    }
    // SAFETY: not null, and a C string by the contract of check hooks.
    let valid = match unsafe { CStr::from_ptr(value) }.to_str() {
        Ok(value) => ids::parse(&"", value).is_ok(),
        Err(_) => false,
    };
    if !valid {
        let code: c_int = PgSqlErrorCode::ERRCODE_INVALID_TEXT_REPRESENTATION as c_int;
        // SAFETY: meant to be called by check hooks before they return false; the string lives in the hook's context.
        unsafe {
            pg_sys::GUC_check_errcode(code);
            pg_sys::GUC_check_errhint_string =
                pg_sys::pstrdup(c"Write a uuid as 8-4-4-4-12 hexadecimal digits, or leave it empty for none.".as_ptr());
        }
    }
    valid
}
