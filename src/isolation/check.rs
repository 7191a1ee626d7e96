//! Whether a query may start: every relation of a tenant in it must be within the caller's reach.

use std::cell::Cell;
use std::ffi::CString;

use pgrx::{Uuid, pg_sys};

use super::range_table::Use;
use super::tenant_of;
use crate::access::{self, owner_roles, security_definers};
use crate::catalog::{self, Catalog, changes, shared_tables};
use crate::error::{Error, Result};
use crate::model::ids;
use crate::pg::{catalogs, roles, security_context};
use crate::settings;

/// Answers about the relations of one query. Most use tables of one tenant, with the privileges of one role.
#[derive(Default)]
pub struct Look {
    reaches: Option<(pg_sys::Oid, Uuid, bool)>,
}

impl Look {
    pub fn reaches(&mut self, role: pg_sys::Oid, tenant: Uuid) -> Result<bool> {
        match self.reaches {
            Some((known, of, reaches)) if known == role && of == tenant => Ok(reaches),
            _ => Ok(self.reaches.insert((role, tenant, access::is_accessible(role, tenant)?)).2),
        }
    }
}

/// The first relation that is out of the caller's reach, by what others had committed when the server's messages were last
/// taken in.
pub fn inaccessible(uses: impl Iterator<Item = Use> + Clone) -> Result<Option<pg_sys::Oid>> {
    let current = roles::current();
    let unforced = roles::are_policies_unforced();
    if unforced
        && let Some(owned) = owner_roles::tenant_of(current)
        && !access::is_accessible_to_session(current, owned)?
    {
        return beyond_the_key(uses, owned);
    }
    let mut exempt: Vec<Uuid> = Vec::new();
    let mut look = Look::default();
    for Use { relation, role, is_by_view, is_unguarded } in uses {
        let named = role.is_some();
        let role = role.unwrap_or(current);
        if unforced && is_by_view && lacks_policies(relation, role) {
            return Ok(Some(relation));
        }
        if tenant_of::is_known_to_have_no_tenant(relation) {
            continue;
        }
        // Row-level security does not apply: to superusers and BYPASSRLS roles, and to the checks of foreign keys, which
        // the server runs as the table's owner.
        let is_exempt = bypasses_policies(role) || (unforced && roles::owns_relation(relation, role));
        if is_unguarded
            && named
            && !works_with_tenants(relation, role)
            && tenant_of::tenant_of_relation(relation)?.is_some()
        {
            return Ok(Some(relation));
        }
        // A child counts as its parent does: where a view of a superuser reads a partitioned table, so it reads the
        // partitions.
        if is_exempt && !(named && role != current) {
            continue;
        }
        let Some(tenant) = tenant_of::tenant_of_relation(relation)? else {
            continue;
        };
        if is_exempt {
            if catalogs::has_children(relation) {
                exempt.push(tenant);
            }
        } else if (named || !exempt.contains(&tenant)) && !look.reaches(role, tenant)? {
            return Ok(Some(relation));
        }
    }
    Ok(None)
}

/// Whether policies of the relation are to be forced on the role, which owns it, and are not.
fn lacks_policies(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    catalogs::has_forced_policies(relation) && !bypasses_policies(role) && roles::owns_relation(relation, role)
}

/// The server checks and follows a foreign key as the owner of the table that it comes to, in a session that may not reach that
/// tenant. Its own query uses that one table; what a trigger or a rule makes of it may use superusers' besides, and no stranger's.
fn beyond_the_key(uses: impl Iterator<Item = Use>, owned: Uuid) -> Result<Option<pg_sys::Oid>> {
    let mut is_used = false;
    for Use { relation, .. } in uses.filter(|used| used.role.is_some()) {
        let is_partition = || catalogs::is_partition(relation);
        match tenant_of::tenant_of_relation(relation)? {
            Some(tenant) if tenant == owned && (!is_used || is_partition()) => is_used = true,
            None if roles::is_superuser(catalogs::relation_owner(relation)) => {}
            _ => return Ok(Some(relation)),
        }
    }
    Ok(None)
}

/// Adds what the views among them read: LOCK TABLE locks that too.
pub fn with_what_views_read(uses: Vec<Use>) -> Result<Vec<Use>> {
    let mut all = Vec::new();
    for used @ Use { relation, .. } in uses {
        all.push(used);
        if catalogs::relation_kind(relation) == pg_sys::RELKIND_VIEW {
            let read = catalog::relations::read_by_view(&Catalog::latest()?, relation)?;
            all.extend(read.into_iter().map(|relation| Use { relation, ..used }));
        }
    }
    Ok(all)
}

/// Whether the caller reaches a relation whose use no plan shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    Granted,
    Refused,
    NoTenant,
}

pub fn reach_of(relation: pg_sys::Oid) -> Result<Reach> {
    changes::catch_up();
    let role = roles::current();
    Ok(match tenant_of::tenant_of_relation(relation)? {
        None => Reach::NoTenant,
        Some(tenant) if bypasses_policies(role) || access::is_accessible(role, tenant)? => Reach::Granted,
        Some(_) => Reach::Refused,
    })
}

/// What the server would ask of a grant on a relation that is granted to nobody.
fn works_with_tenants(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    roles::is_member(role, c"fluxbase_tenant_user") || roles::owns_relation(relation, role)
}

/// Whether a relation is a shared table, or a partition of one, that is not the role's own.
pub fn is_shared_with_others(relation: pg_sys::Oid, role: pg_sys::Oid) -> Result<bool> {
    Ok(catalogs::has_forced_policies(relation)
        && !bypasses_policies(role)
        && !roles::owns_relation(relation, role)
        && changes::generation().is_some()
        && shared_tables::is_protected(&Catalog::latest()?, relation)?)
}

/// Whether a function of the server's own is anybody's to call.
pub fn is_harmless(function: pg_sys::Oid) -> bool {
    tenant_of::is_servers_own(function)
        && function.to_u32() != pg_sys::F_PG_GET_OBJECT_ADDRESS
        && !catalogs::runs_queries(function)
}

/// For a role that is about to call it.
pub fn function_is_inaccessible(function: pg_sys::Oid, role: pg_sys::Oid) -> Result<bool> {
    function_is_inaccessible_to_code(function, role, security_context::calling_role())
}

fn function_is_inaccessible_to_code(function: pg_sys::Oid, role: pg_sys::Oid, code: pg_sys::Oid) -> Result<bool> {
    // It locks a schema by its name, asks for no privilege, and keeps the lock until the transaction ends.
    if function.to_u32() == pg_sys::F_PG_GET_OBJECT_ADDRESS {
        return Ok(changes::generation().is_some() && !bypasses_policies(role));
    }
    let tenant = tenant_of::tenant_of_function(function)?;
    match owner_roles::tenant_of(role) {
        Some(owned) if tenant == Some(owned) => Ok(false),
        // A cascade runs as the owner of the table that it comes to, in a session that may not reach the tenant: no code of
        // strangers comes with it.
        Some(owned) if tenant.is_none() && !tenant_of::is_servers_own(function) => {
            Ok(!roles::is_superuser(catalogs::function_owner(function))
                && !access::is_accessible_to_session(role, owned)?)
        }
        _ => tenant.map_or(Ok(false), |tenant| is_kept_from(tenant, role, code)),
    }
}

/// Whether the server would call a stranger's function as the owner of a table, to check or follow a foreign key: the cast of a type that
/// the stranger made for the other side of the key, or an operator.
pub fn is_brought_by_a_key(function: pg_sys::Oid) -> Result<bool> {
    if !roles::are_policies_unforced() {
        return Ok(false);
    }
    let owner = catalogs::function_owner(function);
    Ok(owner != roles::current()
        && !roles::is_superuser(owner)
        && catalog::relations::compares_or_casts(&Catalog::latest()?, function)?)
}

/// The same for a SECURITY DEFINER function, which runs as its owner already: it is called by the session's role, or by another such
/// function's owner. What a tenant's owner role owns is that tenant's wherever it is.
pub fn definer_function_is_inaccessible(function: pg_sys::Oid, owner: pg_sys::Oid) -> Result<bool> {
    let role = security_definers::running().unwrap_or_else(roles::outer);
    if let Some(tenant) = ids::of_owner_role(&roles::name(owner))
        && role != owner
        && (is_kept_from(tenant, role, role)? || !security_definers::may_begin(function, owner))
    {
        return Ok(true);
    }
    function_is_inaccessible_to_code(function, role, role)
}

fn is_kept_from(tenant: Uuid, role: pg_sys::Oid, code: pg_sys::Oid) -> Result<bool> {
    if bypasses_policies(role) {
        return Ok(false);
    }
    changes::catch_up();
    Ok(!access::is_accessible_to_code(role, code, tenant)?)
}

/// Whether the caller may use names in a schema: it is no tenant's, or a tenant's within reach.
pub fn schema_is_inaccessible(schema: pg_sys::Oid) -> Result<bool> {
    let role = roles::current();
    match tenant_of::tenant_of_schema(schema)? {
        Some(tenant) if !bypasses_policies(role) => match access::is_accessible(role, tenant) {
            Ok(true) => Ok(false),
            _ if roles::owns(pg_sys::NamespaceRelationId, schema, role) => Ok(false),
            accessible => Ok(!accessible?),
        },
        _ => Ok(false),
    }
}

/// Whether a schema on the search_path is not searched, as without USAGE. For roles that may say who the user is it stays there:
/// what they forgot is told better by what they find. So it does where settings of others say who is calling, which change
/// unnoticed while the path that was found is kept.
pub fn drops_from_path(schema: pg_sys::Oid) -> bool {
    let role = roles::current();
    let is_trusted = || access::is_by_foreign_settings() || roles::may_set(settings::USER_ID, role);
    schema_is_inaccessible(schema).unwrap_or(true) && !is_trusted()
}

/// A table that event triggers do not hear of would lack its policies, and a materialized view may hang on anything.
pub fn refuse_unheard_creation(schema: pg_sys::Oid, is_materialized_view: bool) -> Result<()> {
    let role = roles::current();
    let is_owner_role = owner_roles::tenant_of(role).is_some();
    if is_owner_role || (is_materialized_view && !roles::is_superuser(role)) {
        return Err(Error::forbidden(
            "create a table or materialized view with EXPLAIN ANALYZE",
            "Explain the query alone, or create it without EXPLAIN.",
        ));
    }
    match tenant_of::tenant_of_schema(schema)? {
        None => Ok(()),
        Some(_) => Err(Error::forbidden(
            "create a table in a tenant schema with EXPLAIN ANALYZE",
            "Explain the query alone, or create the table without EXPLAIN.",
        )),
    }
}

pub fn relation_name(relation: pg_sys::Oid) -> String {
    text(catalogs::relation_name(relation))
}

pub fn schema_name(schema: pg_sys::Oid) -> String {
    text(catalogs::schema_name(schema))
}

pub fn function_name(function: pg_sys::Oid) -> String {
    text(catalogs::function_name(function))
}

fn text(name: Option<CString>) -> String {
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

thread_local! {
    /// The role that was asked about last, and what roles were then.
    static BYPASSES: Cell<(pg_sys::Oid, u64, bool)> = const { Cell::new((pg_sys::InvalidOid, 0, false)) };
}

pub fn bypasses_policies(role: pg_sys::Oid) -> bool {
    let changes = changes::of_roles();
    let (known, then, bypasses) = BYPASSES.get();
    if known == role && then == changes {
        return bypasses;
    }
    let bypasses = roles::bypasses_policies(role);
    if changes::of_roles() == changes {
        BYPASSES.set((role, changes, bypasses));
    }
    bypasses
}
