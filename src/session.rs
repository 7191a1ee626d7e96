//! The current tenant of a session, and the search_path that goes with it.

use pgrx::Uuid;
use pgrx::spi::quote_identifier;

use crate::access::{Access, Need, authorize, require_data_access};
use crate::catalog::Catalog;
use crate::catalog::tenants::Tenant;
use crate::error::Result;
use crate::pg::guc::{self, Lifetime};
use crate::settings::{self, CHOSEN_TENANT_ID, PATH_SET, TENANT_ID};
use crate::{ids, tenancy};

/// No slug can be read as a uuid, so the text decides.
pub fn set_current_by_text(tenant: &str, lifetime: Lifetime) -> Result<Tenant> {
    match ids::parse(&"", tenant) {
        Ok(Some(id)) => set_current_by_id(id, lifetime),
        _ => set_current(|catalog| tenancy::find_by_slug(catalog, tenant), lifetime),
    }
}

pub fn set_current_by_id(tenant_id: Uuid, lifetime: Lifetime) -> Result<Tenant> {
    set_current(|catalog| authorize(catalog, Need::See, Some(tenant_id), "use this tenant"), lifetime)
}

fn set_current(find: impl FnOnce(&Catalog) -> Result<Access>, lifetime: Lifetime) -> Result<Tenant> {
    // Read and set outside the catalog's scope, which has a search_path of its own.
    let before = path_before()?;
    let Access { tenant, caller, .. } = find(&Catalog::latest()?)?;
    require_data_access(caller, &tenant)?;
    let id = ids::text(tenant.id);
    let schema = quote_identifier(&tenant.schema_name);
    let path = if before.is_empty() { schema } else { format!("{schema}, {before}") };
    guc::set(TENANT_ID, &id, lifetime)?;
    guc::set(CHOSEN_TENANT_ID, if caller.user().is_some() { &id } else { "" }, lifetime)?;
    guc::set(PATH_SET, &path, lifetime)?;
    guc::set(c"search_path", &path, lifetime)?;
    Ok(tenant)
}

pub fn reset_current() -> Result<()> {
    let before = path_before()?;
    for setting in [TENANT_ID, CHOSEN_TENANT_ID, PATH_SET] {
        guc::set(setting, "", Lifetime::Session)?;
    }
    guc::set(c"search_path", &before, Lifetime::Session)
}

/// The search_path without what `tenant_set_current` put in front; as it is, where somebody changed it since.
fn path_before() -> Result<String> {
    let path = guc::get("search_path")?.unwrap_or_default();
    Ok(if !path.is_empty() && path == settings::path_set() { without_first(&path).to_string() } else { path })
}

/// The path behind the identifier that `set_current` put in front of it, as the server quotes identifiers.
fn without_first(path: &str) -> &str {
    let after = match path.strip_prefix('"') {
        None => path.find(',').map(|end| &path[end..]),
        // Inside, a quote is doubled.
        Some(quoted) => quoted.replace("\"\"", "  ").find('"').map(|end| &quoted[end + 1..]),
    };
    after.and_then(|rest| rest.strip_prefix(", ")).unwrap_or("")
}
