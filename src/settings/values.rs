//! The values of the settings, and functions that read them.

use std::ffi::{CStr, CString};

use pgrx::guc::{GucSetting, PostgresGucEnum};

use crate::error::Result;
use crate::model::ids;

pub const USER_ID: &CStr = c"fluxbase_tenant.user_id";
pub const TENANT_ID: &CStr = c"fluxbase_tenant.tenant_id";
/// A copy of the choice that belongs to the value of `TENANT_ID`, for parallel workers.
pub const CHOICE: &CStr = c"fluxbase_tenant.choice";

/// The tenant whose sandbox is active. It is a setting because settings are the only state that parallel workers
/// inherit.
pub const SANDBOX: &CStr = c"fluxbase_tenant.sandbox";

/// The search_path that `tenant_set_current` set, and the one that it replaced.
pub const PATHS: &CStr = c"fluxbase_tenant.search_paths";

#[derive(Clone, Copy, PartialEq, Eq, Debug, PostgresGucEnum)]
pub enum CreatePolicy {
    #[name = c"instance_admin"]
    InstanceAdmin,
    #[name = c"authenticated"]
    Authenticated,
}

/// Which tenant is current if the session names none.
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

/// The upper limit of `fluxbase_tenant.spare_tenants`.
pub const MAX_SPARES: i32 = 10_000;

pub(super) type Text = GucSetting<Option<CString>>;

pub(super) static USER_ID_VALUE: Text = Text::new(Some(c""));
pub(super) static TENANT_ID_VALUE: Text = Text::new(Some(c""));
pub(super) static CHOICE_VALUE: Text = Text::new(Some(c""));
pub(super) static SANDBOX_VALUE: Text = Text::new(Some(c""));
pub(super) static PATHS_VALUE: Text = Text::new(Some(c""));
pub(super) static USER_ID_SETTING: Text = Text::new(Some(USER_ID));
pub(super) static TENANT_ID_SETTING: Text = Text::new(Some(TENANT_ID));
pub(super) static SCHEMA_PREFIX: Text = Text::new(Some(c"tenant_"));
pub(super) static CREATE_POLICY: GucSetting<CreatePolicy> =
    GucSetting::<CreatePolicy>::new(CreatePolicy::InstanceAdmin);
pub(super) static DEFAULT_TENANT: GucSetting<DefaultTenant> =
    GucSetting::<DefaultTenant>::new(DefaultTenant::OldestMembership);
pub(super) static SCHEMA_NAMING: GucSetting<SchemaNaming> = GucSetting::<SchemaNaming>::new(SchemaNaming::Slug);
pub(super) static MAX_TENANTS: GucSetting<i32> = GucSetting::<i32>::new(0);
pub(super) static SPARE_TENANTS: GucSetting<i32> = GucSetting::<i32>::new(0);

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

/// Returns the maximum number of tenants. 0 means no limit.
pub fn max_tenants() -> i64 {
    MAX_TENANTS.get().into()
}

pub fn spare_tenants() -> i32 {
    SPARE_TENANTS.get()
}

/// Returns the source of the current user, as `setting` or `setting:claim`, or `None` if it is
/// `fluxbase_tenant.user_id`.
pub fn foreign_user_id_setting() -> Option<String> {
    foreign(&USER_ID_SETTING, USER_ID)
}

/// Returns the source of the current tenant, as `setting` or `setting:claim`, or `None` if it is
/// `fluxbase_tenant.tenant_id`.
pub fn foreign_tenant_id_setting() -> Option<String> {
    foreign(&TENANT_ID_SETTING, TENANT_ID)
}

pub fn user_id_setting() -> String {
    text(&USER_ID_SETTING)
}

pub fn tenant_id_setting() -> String {
    text(&TENANT_ID_SETTING)
}

/// Returns the user in `fluxbase_tenant.user_id`, regardless of `user_id_setting`.
pub fn user_id() -> Result<Option<pgrx::Uuid>> {
    with_bytes(&USER_ID_VALUE, |value| parse(USER_ID, value))
}

/// Returns the tenant in `fluxbase_tenant.tenant_id`, regardless of `tenant_id_setting`.
pub fn tenant_id() -> Result<Option<pgrx::Uuid>> {
    with_bytes(&TENANT_ID_VALUE, |value| parse(TENANT_ID, value))
}

/// Returns the value of `SANDBOX`.
pub fn sandbox() -> Option<pgrx::Uuid> {
    with_bytes(&SANDBOX_VALUE, ids::from_ascii)
}

/// A tenant, and the user that `tenant_set_current` chose it for, `None` for an instance admin without a user. It is
/// stored with the value of `TENANT_ID`. Without it, a choice that remains set after the user's SET LOCAL has ended
/// would turn the session into that tenant's service context, or would apply to the next user. The same holds for an
/// instance admin, who may switch to another role.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    pub tenant: pgrx::Uuid,
    pub user: Option<pgrx::Uuid>,
}

impl Choice {
    /// Returns the choice in `CHOICE`.
    pub(super) fn copied() -> Option<Self> {
        with_bytes(&CHOICE_VALUE, |value| {
            let (tenant, user) = value.split_at_checked(UUID_LENGTH)?;
            Some(Choice { tenant: ids::from_ascii(tenant)?, user: ids::from_ascii(user) })
        })
    }

    /// Formats the choice as `CHOICE` stores it: the uuids, without a separator.
    pub fn text(self) -> String {
        ids::text(self.tenant) + &self.user.map(ids::text).unwrap_or_default()
    }
}

/// The length of a uuid as `ids::text` formats it.
const UUID_LENGTH: usize = 36;

/// The value of `PATHS`: the search_path that `tenant_set_current` set, and the one that it replaced.
pub struct Paths {
    pub set: String,
    pub before: String,
}

impl Paths {
    /// Returns the stored paths, or `None` if there are none.
    pub fn kept() -> Option<Self> {
        let value = text(&PATHS_VALUE);
        let (length, paths) = value.split_once(' ')?;
        let (set, before) = paths.split_at_checked(length.parse().ok()?)?;
        Some(Paths { set: set.into(), before: before.into() })
    }

    /// Formats the paths as `PATHS` stores them: the length of the first, a space, and both paths.
    pub fn text(&self) -> String {
        format!("{} {}{}", self.set.len(), self.set, self.before)
    }
}

fn parse(name: &CStr, value: &[u8]) -> Result<Option<pgrx::Uuid>> {
    if value.is_empty() {
        return Ok(None);
    }
    // Format the name of the place only if there is an error to report.
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

/// Reads a setting without copying it, because identity is read at the start of every query.
fn with_bytes<T>(setting: &'static Text, read: impl FnOnce(&[u8]) -> T) -> T {
    // SAFETY: PostgreSQL keeps null or a C string in the variable. It changes the variable only when a setting is
    // assigned, which `read` does not do.
    let value = unsafe {
        let value = setting.as_ptr().read();
        if value.is_null() { &[] } else { CStr::from_ptr(value).to_bytes() }
    };
    read(value)
}
