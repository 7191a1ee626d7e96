//! Sets and resets the current tenant of a session, and its search_path.

use pgrx::Uuid;
use pgrx::spi::quote_identifier;

use super::lifecycle::find_by_slug;
use crate::access::{Caller, Permit, See, authorize, require_usable_status};
use crate::catalog::Catalog;
use crate::catalog::tenants::Tenant;
use crate::error::Result;
use crate::model::ids;
use crate::pg::guc::{self, Lifetime};
use crate::settings::{self, CHOICE, Choice, PATHS, Paths, TENANT_ID};

/// Makes a tenant the current one, by slug or by id as text. This is unambiguous, because no slug can be read as a
/// uuid.
pub fn set_current_by_text(tenant: &str, lifetime: Lifetime) -> Result<Tenant> {
    match ids::parse(&"", tenant) {
        Ok(Some(id)) => set_current_by_id(id, lifetime),
        _ => set_current(|catalog| find_by_slug(catalog, tenant), lifetime),
    }
}

/// Makes a tenant the current one, by id.
pub fn set_current_by_id(tenant_id: Uuid, lifetime: Lifetime) -> Result<Tenant> {
    set_current(|catalog| authorize(catalog, Some(tenant_id), "use this tenant"), lifetime)
}

fn set_current(find: impl FnOnce(&Catalog) -> Result<Permit<See>>, lifetime: Lifetime) -> Result<Tenant> {
    // search_path is read and set outside the catalog's scope, which has its own search_path.
    let before = path_before()?;
    let permit = find(&Catalog::latest()?)?;
    let caller = permit.caller();
    let tenant = permit.into_tenant();
    require_usable_status(caller, &tenant)?;
    let paths = Paths { set: path_of(&tenant.schema_name, &before)?, before };
    // The tenant of a service context is set already, perhaps for the transaction only.
    if !matches!(caller, Caller::Service(_)) {
        settings::choose(Choice { tenant: tenant.id, user: caller.user() }, lifetime)?;
    }
    guc::set(PATHS, &paths.text(), lifetime)?;
    guc::set(c"search_path", &paths.set, lifetime)?;
    Ok(tenant)
}

/// Clears the current tenant, and restores the search_path.
pub fn reset_current() -> Result<()> {
    let before = path_before()?;
    for setting in [TENANT_ID, CHOICE, PATHS] {
        guc::set(setting, "", Lifetime::Session)?;
    }
    guc::set(c"search_path", &before, Lifetime::Session)
}

/// Returns the search_path from before `tenant_set_current()`, or the present one if it has been changed since.
fn path_before() -> Result<String> {
    let path = guc::get("search_path")?.unwrap_or_default();
    Ok(match Paths::kept() {
        Some(paths) if paths.set == path => paths.before,
        _ => path,
    })
}

/// Returns a search_path with the tenant's schema first and temporary objects last. Otherwise PostgreSQL would find a
/// temporary table that another user of the connection has left behind before a table of the tenant or a shared table.
fn path_of(schema: &str, before: &str) -> Result<String> {
    let is_temporary = |name: &String| name == "pg_temp" || name.starts_with("pg_temp_");
    let others = guc::names_in_list(before)?.into_iter().filter(|name| !is_temporary(name));
    let names = std::iter::once(schema.to_owned()).chain(others).map(quote_identifier);
    Ok(names.chain(["pg_temp".to_owned()]).collect::<Vec<_>>().join(", "))
}
