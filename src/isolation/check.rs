//! The rules of the executor-start check and of the other hooks: whether the caller can access a relation, a function
//! or a schema.

use std::cell::Cell;
use std::ffi::CString;

use pgrx::{Uuid, pg_sys};

use super::range_table::Use;
use super::tenant_of;
use crate::access::{self, owner_roles, security_definers};
use crate::catalog::{self, Catalog, changes, shared_tables};
use crate::error::{Error, Result};
use crate::pg::{catalogs, roles, security_context};
use crate::settings;

/// Caches the last answer about a tenant while the relations of one query are checked. Most queries use tables of one
/// tenant, with the privileges of one role.
#[derive(Default)]
pub struct AccessLookup {
    last: Option<(pg_sys::Oid, Uuid, bool)>,
}

impl AccessLookup {
    /// Reports whether the role can access the tenant.
    pub fn can_access(&mut self, role: pg_sys::Oid, tenant: Uuid) -> Result<bool> {
        match self.last {
            Some((of_role, to_tenant, can_access)) if of_role == role && to_tenant == tenant => Ok(can_access),
            _ => Ok(self.last.insert((role, tenant, access::is_accessible(role, tenant)?)).2),
        }
    }
}

/// Returns the first relation that the caller cannot access. Decides by what other transactions had committed when
/// invalidation messages were last processed.
pub fn inaccessible(uses: impl Iterator<Item = Use> + Clone) -> Result<Option<pg_sys::Oid>> {
    let current = roles::current();
    let unforced = roles::are_policies_unforced();
    if unforced
        && let Some(owned) = owner_roles::tenant_of_current(current)
        && !access::is_accessible_to_session(current, owned)?
    {
        return inaccessible_in_foreign_key_action(uses, owned);
    }
    let mut exempt: Vec<Uuid> = Vec::new();
    let mut lookup = AccessLookup::default();
    for Use { relation, role, is_by_view, cannot_have_policies } in uses {
        let is_named = role.is_some();
        let role = role.unwrap_or(current);
        if unforced && is_by_view && escapes_forced_policies(relation, role) {
            return Ok(Some(relation));
        }
        if tenant_of::is_known_to_have_no_tenant(relation) {
            continue;
        }
        // Row-level security does not apply to superusers, to roles with BYPASSRLS, and to the queries by which
        // PostgreSQL checks foreign keys as the table's owner.
        let is_exempt = bypasses_policies(role) || (unforced && roles::owns_relation(relation, role));
        if cannot_have_policies
            && is_named
            && !may_use_tenant_relations(relation, role)
            && tenant_of::tenant_of_relation(relation)?.is_some()
        {
            return Ok(Some(relation));
        }
        // An exempt role's own query needs no check. A view of an exempt role does: its tenants are noted below,
        // because the children of a table that the view reads have no role of their own.
        if is_exempt && !(is_named && role != current) {
            continue;
        }
        let Some(tenant) = tenant_of::tenant_of_relation(relation)? else {
            continue;
        };
        if is_exempt {
            if catalogs::has_children(relation) {
                exempt.push(tenant);
            }
        } else if (is_named || !exempt.contains(&tenant)) && !lookup.can_access(role, tenant)? {
            return Ok(Some(relation));
        }
    }
    Ok(None)
}

/// Reports whether `role` owns a relation whose policies are forced. Inside a foreign-key action, PostgreSQL does not
/// force them.
fn escapes_forced_policies(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    catalogs::has_forced_policies(relation) && !bypasses_policies(role) && roles::owns_relation(relation, role)
}

/// Returns the first relation, in the order of the range table, that code running as an owner role may not use inside a
/// foreign-key action. PostgreSQL checks and enforces a foreign key as the owner of the table that it accesses, in a
/// session that may not have access to that tenant. PostgreSQL's query uses one table of the tenant, followed by its
/// partitions. A trigger or a rule may add superusers' tables, but no other role's.
fn inaccessible_in_foreign_key_action(uses: impl Iterator<Item = Use>, owned: Uuid) -> Result<Option<pg_sys::Oid>> {
    let mut has_table = false;
    for Use { relation, .. } in uses.filter(|used| used.role.is_some()) {
        let is_partition = || catalogs::is_partition(relation);
        match tenant_of::tenant_of_relation(relation)? {
            Some(tenant) if tenant == owned && (!has_table || is_partition()) => has_table = true,
            None if roles::is_superuser(catalogs::relation_owner(relation)) => {}
            _ => return Ok(Some(relation)),
        }
    }
    Ok(None)
}

/// Adds the relations that the views in the list read, because LOCK TABLE locks these too.
pub fn with_relations_read_by_views(uses: Vec<Use>) -> Result<Vec<Use>> {
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

/// Whether the caller can access a relation that is used without a plan.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RelationAccess {
    Granted,
    Denied,
    NoTenant,
}

/// Returns whether the current role can access the relation.
pub fn access_to(relation: pg_sys::Oid) -> Result<RelationAccess> {
    changes::catch_up();
    let role = roles::current();
    Ok(match tenant_of::tenant_of_relation(relation)? {
        None => RelationAccess::NoTenant,
        Some(tenant) if bypasses_policies(role) || access::is_accessible(role, tenant)? => RelationAccess::Granted,
        Some(_) => RelationAccess::Denied,
    })
}

/// Reports whether the role may use tenants' relations on which no privilege is granted: it is a member of
/// fluxbase_tenant_user or owns the relation. Replaces PostgreSQL's privilege check, which
/// `lift_policies::skip_select_checks` disables.
fn may_use_tenant_relations(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    roles::is_member(role, c"fluxbase_tenant_user") || roles::owns_relation(relation, role)
}

/// Reports whether a relation is a shared table, or a partition of one, that the role does not own.
pub fn is_shared_table_of_another_role(relation: pg_sys::Oid, role: pg_sys::Oid) -> Result<bool> {
    Ok(catalogs::has_forced_policies(relation)
        && !bypasses_policies(role)
        && !roles::owns_relation(relation, role)
        && changes::generation().is_some()
        && shared_tables::is_protected(&Catalog::latest()?, relation)?)
}

/// Reports whether every role may call this function without a check: it is built in, runs no queries, and is not
/// `pg_get_object_address()`.
pub fn is_harmless(function: pg_sys::Oid) -> bool {
    tenant_of::is_builtin(function)
        && function.to_u32() != pg_sys::F_PG_GET_OBJECT_ADDRESS
        && !catalogs::runs_queries(function)
}

/// Reports whether a function that the role is about to call is not accessible to it.
pub fn function_is_inaccessible(function: pg_sys::Oid, role: pg_sys::Oid) -> Result<bool> {
    function_is_inaccessible_to_code(function, role, security_context::calling_role())
}

/// Reports the same as `function_is_inaccessible`, for code that runs as the role `code`.
fn function_is_inaccessible_to_code(function: pg_sys::Oid, role: pg_sys::Oid, code: pg_sys::Oid) -> Result<bool> {
    // This function locks a schema by its name without checking a privilege, and holds the lock until the transaction
    // ends.
    if function.to_u32() == pg_sys::F_PG_GET_OBJECT_ADDRESS {
        return Ok(changes::generation().is_some() && !bypasses_policies(role));
    }
    let tenant = tenant_of::tenant_of_function(function)?;
    match owner_roles::tenant_of_current(role) {
        Some(owned) if tenant == Some(owned) => Ok(false),
        // A cascade runs as the owner of the table that it changes, in a session that may not have access to the
        // tenant. Such code may call no functions of untrusted roles.
        Some(owned) if tenant.is_none() && !tenant_of::is_builtin(function) => {
            Ok(!roles::is_superuser(catalogs::function_owner(function))
                && !access::is_accessible_to_session(role, owned)?)
        }
        _ => tenant.map_or(Ok(false), |tenant| is_denied(tenant, role, code)),
    }
}

/// Reports whether PostgreSQL would call another role's function as the owner of a table, in order to check or enforce
/// a foreign key. Such a function implements an operator, or a cast of a type that the other role has created and uses
/// in the referencing column.
pub fn is_untrusted_in_foreign_key_action(function: pg_sys::Oid) -> Result<bool> {
    if !roles::are_policies_unforced() {
        return Ok(false);
    }
    let owner = catalogs::function_owner(function);
    Ok(owner != roles::current()
        && !roles::is_superuser(owner)
        && catalog::relations::implements_cast_or_operator(&Catalog::latest()?, function)?)
}

/// Reports whether a SECURITY DEFINER function may not be called. When this is asked, the current role is already the
/// function's owner. So the role that is checked is that of its caller: the owner of the SECURITY DEFINER function that
/// called it, or the session's role. A function that a tenant's owner role owns belongs to that tenant, whichever
/// schema it is in.
pub fn definer_function_is_inaccessible(function: pg_sys::Oid, owner: pg_sys::Oid) -> Result<bool> {
    let role = security_definers::innermost_role().unwrap_or_else(roles::outer);
    if let Some(tenant) = owner_roles::tenant_of_owner_role(owner)
        && role != owner
        && (is_denied(tenant, role, role)? || !security_definers::may_begin(function, owner))
    {
        return Ok(true);
    }
    function_is_inaccessible_to_code(function, role, role)
}

fn is_denied(tenant: Uuid, role: pg_sys::Oid, code: pg_sys::Oid) -> Result<bool> {
    if bypasses_policies(role) {
        return Ok(false);
    }
    changes::catch_up();
    Ok(!access::is_accessible_to_code(role, code, tenant)?)
}

/// Reports whether the caller may not use names in a schema, because the schema belongs to a tenant that is not
/// accessible.
pub fn schema_is_inaccessible(schema: pg_sys::Oid) -> Result<bool> {
    let role = roles::current();
    match tenant_of::tenant_of_schema(schema)? {
        Some(tenant) if !bypasses_policies(role) => match access::is_accessible(role, tenant) {
            Ok(true) => Ok(false),
            // The schema's owner may name it without access, even if the answer failed, with a malformed setting for
            // example: a restore must be able to go on.
            _ if roles::owns(pg_sys::NamespaceRelationId, schema, role) => Ok(false),
            accessible => Ok(!accessible?),
        },
        _ => Ok(false),
    }
}

/// Reports whether a schema is skipped on the search_path, as if the role had no USAGE on it, because it is not
/// accessible. It is not skipped in two cases:
/// - The role may set the user. If it has forgotten to, an error about the object that it finds explains more than
///   "does not exist".
/// - Settings other than ours determine the caller. They change without notice, while PostgreSQL keeps the path that it
///   has resolved.
///
/// If the check fails, the schema is skipped.
pub fn is_hidden_from_path(schema: pg_sys::Oid) -> bool {
    let role = roles::current();
    let is_trusted = || access::is_by_foreign_settings() || roles::may_set(settings::USER_ID, role);
    schema_is_inaccessible(schema).unwrap_or(true) && !is_trusted()
}

/// Refuses EXPLAIN ANALYZE of CREATE TABLE AS or CREATE MATERIALIZED VIEW, because no event trigger fires for it. Only
/// a superuser may create a table in this way, outside the tenant schemas: a table in a tenant schema would lack its
/// policies, and other roles' relations may depend on anything, also by the OID of a parameter's type.
pub fn refuse_creation_by_explain(schema: pg_sys::Oid) -> Result<()> {
    if !roles::is_superuser(roles::current()) && changes::generation().is_some() {
        return Err(Error::forbidden(
            "create a table or materialized view with EXPLAIN ANALYZE",
            "Explain only the query, or create the relation without EXPLAIN.",
        ));
    }
    match tenant_of::tenant_of_schema(schema)? {
        None => Ok(()),
        Some(_) => Err(Error::forbidden(
            "create a table in a tenant schema with EXPLAIN ANALYZE",
            "Explain only the query, or create the table without EXPLAIN.",
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
    /// The last role looked up, the number of role changes at that time, and whether the role bypasses policies.
    static BYPASSES: Cell<(pg_sys::Oid, u64, bool)> = const { Cell::new((pg_sys::InvalidOid, 0, false)) };
}

/// Reports whether row-level security does not apply to the role: superusers and roles with BYPASSRLS.
pub fn bypasses_policies(role: pg_sys::Oid) -> bool {
    let changes = changes::of_roles();
    let (known_role, known_at, bypasses) = BYPASSES.get();
    if known_role == role && known_at == changes {
        return bypasses;
    }
    let bypasses = roles::bypasses_policies(role);
    if changes::of_roles() == changes {
        BYPASSES.set((role, changes, bypasses));
    }
    bypasses
}
