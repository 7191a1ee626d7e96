//! Table `tenants`: tenants, including deleted and spare ones.

use pgrx::datum::{Interval, TimestampWithTimeZone};
use pgrx::{Uuid, pg_sys};

use super::{Catalog, changes};
use crate::error::Result;
use crate::model::{Status, ids};
use crate::pg::scan::{self, Index, Key};
use crate::pg::{Jsonb, Name, Row, catalogs, execute_on_latest, query, roles};

/// A tenant, as the SQL functions return it.
pub struct Tenant {
    pub id: Uuid,
    pub slug: String,
    pub name: String,
    pub schema_name: String,
    pub status: Status,
    pub is_default: bool,
    pub metadata: Jsonb,
    pub schema_version: Option<String>,
    pub created_at: TimestampWithTimeZone,
    pub updated_at: TimestampWithTimeZone,
    pub deleted_at: Option<TimestampWithTimeZone>,
}

/// The values of a new row. The other columns have defaults.
pub struct NewTenant<'a> {
    pub id: Uuid,
    pub slug: &'a str,
    pub name: &'a str,
    pub schema_name: &'a str,
    pub metadata: Option<Jsonb>,
}

/// The columns that `tenant()` reads, in its order.
macro_rules! columns {
    () => {
        "t.id, t.slug, t.name, t.schema_name::text, t.status, t.is_default, t.metadata, t.schema_version, \
         t.created_at, t.updated_at, t.deleted_at"
    };
}

pub(super) use columns;

/// Appends a RETURNING clause with the columns that `tenant()` reads.
macro_rules! returning {
    ($statement:literal) => {
        concat!($statement, " RETURNING ", columns!())
    };
}

pub(super) fn tenant(row: &Row) -> Result<Tenant> {
    Ok(Tenant {
        id: row.need(1)?,
        slug: row.need(2)?,
        name: row.need(3)?,
        schema_name: row.need(4)?,
        status: Status::parse(&row.need::<String>(5)?)?,
        is_default: row.need(6)?,
        metadata: row.need(7)?,
        schema_version: row.get(8),
        created_at: row.need(9)?,
        updated_at: row.need(10)?,
        deleted_at: row.get(11),
    })
}

pub(super) const BY_ID: Index = Index { schema: c"fluxbase_tenant", table: c"tenants", index: c"tenants_pkey" };
pub(super) const BY_SCHEMA_NAME: Index =
    Index { schema: c"fluxbase_tenant", table: c"tenants", index: c"tenants_schema_name_key" };

/// Reads a tenant like `tenant()`, but from a row with the columns of the table itself.
fn stored_tenant(row: &Row) -> Result<Tenant> {
    Ok(Tenant {
        id: row.need(1)?,
        slug: row.need(2)?,
        name: row.need(3)?,
        schema_name: row.need::<Name>(4)?.0,
        status: Status::parse(&row.need::<String>(5)?)?,
        is_default: row.need(7)?,
        metadata: row.need(8)?,
        schema_version: row.get(9),
        created_at: row.need(11)?,
        updated_at: row.need(12)?,
        deleted_at: row.get(14),
    })
}

fn only(rows: Vec<Tenant>) -> Option<Tenant> {
    rows.into_iter().next()
}

/// Returns the tenant with the id, spare ones included.
pub fn by_id(catalog: &Catalog, id: Uuid) -> Result<Option<Tenant>> {
    scan::by_id(catalog.scope(), &BY_ID, id, stored_tenant)
}

/// Returns those of the ids that belong to an existing tenant.
pub fn existing(catalog: &Catalog, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    query(
        catalog.scope(),
        "SELECT id FROM fluxbase_tenant.tenants WHERE id = ANY ($1)",
        &[ids.to_vec().into()],
        |row| row.need(1),
    )
}

/// Returns those of the ids that exist, and keeps these tenants from being deleted until the end of the transaction.
pub fn existing_for_key_share(catalog: &Catalog, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    query(
        catalog.scope(),
        "SELECT id FROM fluxbase_tenant.tenants WHERE id = ANY ($1) ORDER BY id FOR KEY SHARE",
        &[ids.to_vec().into()],
        |row| row.need(1),
    )
}

/// Locks the row until the end of the transaction and returns it. Code that changes a tenant or its members must
/// acquire this lock first. Other transactions can still insert rows that refer to the tenant.
pub fn lock(catalog: &Catalog, id: Uuid) -> Result<Option<Tenant>> {
    query(
        catalog.scope(),
        concat!("SELECT ", columns!(), " FROM fluxbase_tenant.tenants t WHERE t.id = $1 FOR NO KEY UPDATE"),
        &[id.into()],
        tenant,
    )
    .map(only)
}

/// Locks the row as `lock` does, but without waiting. Also returns `None` if another transaction has locked the row.
pub fn try_lock(catalog: &Catalog, id: Uuid) -> Result<Option<Tenant>> {
    query(
        catalog.scope(),
        concat!("SELECT ", columns!(), " FROM fluxbase_tenant.tenants t WHERE t.id = $1 FOR NO KEY UPDATE SKIP LOCKED"),
        &[id.into()],
        tenant,
    )
    .map(only)
}

/// Returns the id of the tenant with the slug. Ignores deleted tenants, because their slugs may be reused.
pub fn id_by_slug(catalog: &Catalog, slug: &str) -> Result<Option<Uuid>> {
    let found = query(
        catalog.scope(),
        "SELECT id FROM fluxbase_tenant.tenants WHERE slug = $1 AND deleted_at IS NULL",
        &[slug.into()],
        |row| row.need(1),
    )?;
    Ok(found.into_iter().next())
}

/// Returns all tenants that are neither deleted nor spare, oldest first.
pub fn list(catalog: &Catalog) -> Result<Vec<Tenant>> {
    query(
        catalog.scope(),
        concat!(
            "SELECT ",
            columns!(),
            " FROM fluxbase_tenant.tenants t WHERE t.deleted_at IS NULL AND NOT t.spare ORDER BY t.created_at, t.id"
        ),
        &[],
        tenant,
    )
}

/// Returns the soft-deleted tenants, longest deleted first.
pub fn list_deleted(catalog: &Catalog) -> Result<Vec<Tenant>> {
    query(
        catalog.scope(),
        concat!(
            "SELECT ",
            columns!(),
            " FROM fluxbase_tenant.tenants t WHERE t.deleted_at IS NOT NULL ORDER BY t.deleted_at, t.id"
        ),
        &[],
        tenant,
    )
}

/// Returns the tenants that were soft-deleted longer than `age` ago, longest deleted first.
pub fn list_deleted_before(catalog: &Catalog, age: Interval) -> Result<Vec<Tenant>> {
    query(
        catalog.scope(),
        concat!(
            "SELECT ",
            columns!(),
            " FROM fluxbase_tenant.tenants t WHERE t.deleted_at < now() - $1 ORDER BY t.deleted_at, t.id"
        ),
        &[age.into()],
        tenant,
    )
}

/// Returns a user's tenants that are not deleted, each with the user's role, oldest membership first.
pub fn list_of_user(catalog: &Catalog, user: Uuid) -> Result<Vec<(Tenant, String)>> {
    query(
        catalog.scope(),
        concat!(
            "SELECT ",
            columns!(),
            ", m.role FROM fluxbase_tenant.members m JOIN fluxbase_tenant.tenants t ON t.id = m.tenant_id
             WHERE m.user_id = $1 AND t.deleted_at IS NULL ORDER BY m.created_at, m.id"
        ),
        &[user.into()],
        |row| Ok((tenant(row)?, row.need(12)?)),
    )
}

/// Inserts a tenant. Returns `None` if the slug, the id or the schema name is in use, including if a transaction that
/// this one waited for has inserted it.
pub fn insert(catalog: &Catalog, new: NewTenant) -> Result<Option<Tenant>> {
    changes::announce();
    query(
        catalog.scope(),
        returning!(
            "INSERT INTO fluxbase_tenant.tenants AS t (id, slug, name, schema_name, metadata)
             VALUES ($1, $2, $3, $4::text::name, coalesce($5, '{}'))
             ON CONFLICT DO NOTHING"
        ),
        &[new.id.into(), new.slug.into(), new.name.into(), new.schema_name.into(), new.metadata.into()],
        tenant,
    )
    .map(only)
}

/// Changes the name and the metadata. `None` leaves a value unchanged.
pub fn update(catalog: &Catalog, id: Uuid, name: Option<&str>, metadata: Option<Jsonb>) -> Result<Option<Tenant>> {
    query(
        catalog.scope(),
        returning!(
            "UPDATE fluxbase_tenant.tenants t SET name = coalesce($2, name), metadata = coalesce($3, metadata),
             updated_at = now() WHERE t.id = $1"
        ),
        &[id.into(), name.into(), metadata.into()],
        tenant,
    )
    .map(only)
}

pub fn mark_deleted(catalog: &Catalog, id: Uuid) -> Result<Option<Tenant>> {
    changes::announce();
    query(
        catalog.scope(),
        returning!("UPDATE fluxbase_tenant.tenants t SET deleted_at = now(), updated_at = now() WHERE t.id = $1"),
        &[id.into()],
        tenant,
    )
    .map(only)
}

pub fn mark_restored(catalog: &Catalog, id: Uuid) -> Result<Option<Tenant>> {
    changes::announce();
    query(
        catalog.scope(),
        returning!("UPDATE fluxbase_tenant.tenants t SET deleted_at = NULL, updated_at = now() WHERE t.id = $1"),
        &[id.into()],
        tenant,
    )
    .map(only)
}

pub fn mark_suspended(catalog: &Catalog, id: Uuid, suspended: bool) -> Result<Option<Tenant>> {
    changes::announce();
    query(
        catalog.scope(),
        returning!(
            "UPDATE fluxbase_tenant.tenants t SET suspended_at = CASE WHEN $2 THEN now() END, updated_at = now()
             WHERE t.id = $1"
        ),
        &[id.into(), suspended.into()],
        tenant,
    )
    .map(only)
}

/// Makes a tenant the default one. This takes two statements: within a single one, the unique index could see two
/// defaults.
pub fn set_default(catalog: &Catalog, id: Uuid) -> Result<Option<Tenant>> {
    query(
        catalog.scope(),
        "UPDATE fluxbase_tenant.tenants SET is_default = false, updated_at = now() WHERE is_default AND id <> $1",
        &[id.into()],
        |_| Ok(()),
    )?;
    query(
        catalog.scope(),
        returning!(
            "UPDATE fluxbase_tenant.tenants t SET is_default = true,
             updated_at = CASE WHEN is_default THEN updated_at ELSE now() END WHERE t.id = $1"
        ),
        &[id.into()],
        tenant,
    )
    .map(only)
}

/// Deletes a tenant and all rows of the catalog that refer to it. It deletes the tenant's row first, which waits for
/// transactions that have locked it to insert rows that refer to it. The other statements use the latest snapshot, so
/// they see those rows at every isolation level.
pub fn delete(catalog: &Catalog, id: Uuid) -> Result<()> {
    changes::announce();
    query(catalog.scope(), "DELETE FROM fluxbase_tenant.tenants WHERE id = $1", &[id.into()], |_| Ok(()))?;
    for of_tenant in [
        "DELETE FROM fluxbase_tenant.members WHERE tenant_id = $1",
        "DELETE FROM fluxbase_tenant.applied_migrations WHERE tenant_id = $1",
        "DELETE FROM fluxbase_tenant.unfinished_migrations WHERE tenant_id = $1",
        "DELETE FROM fluxbase_tenant.fleet_results WHERE tenant_id = $1",
    ] {
        execute_on_latest(catalog.scope(), of_tenant, &[id.into()])?;
    }
    Ok(())
}

pub fn id_exists(catalog: &Catalog, id: Uuid) -> Result<bool> {
    Ok(by_id(catalog, id)?.is_some())
}

/// Waits for all other open transactions that have called this function, and makes later callers wait for this
/// transaction.
pub fn serialize_default_changes(catalog: &Catalog) -> Result<()> {
    query(catalog.scope(), "UPDATE fluxbase_tenant.tenant_limit SET changes = changes + 1", &[], |_| Ok(()))?;
    Ok(())
}

/// Returns the tenant that owns the schema, as committed now. If the tenant has been deleted and its schema still
/// exists, returns the deleted tenant's id, taken from the name of the owner role. Runs no SQL.
pub fn of_schema(schema: pg_sys::Oid) -> Result<Option<Uuid>> {
    let Some(name) = catalogs::schema_name(schema) else {
        return Ok(None);
    };
    let tenant = scan::committed(&BY_SCHEMA_NAME, &[Key::name(4, &name)?], |row| row.need(1))?;
    Ok(tenant.or_else(|| ids::of_owner_role(&roles::name(catalogs::schema_owner(schema)))))
}

/// Returns the status of a tenant, as committed now. Runs no SQL.
pub fn status(id: Uuid) -> Result<Option<Status>> {
    scan::committed(&BY_ID, &[Key::uuid(1, id)?], |row| Status::parse(&row.need::<String>(5)?))
}

/// Returns the ids of all tenants except spare ones.
pub fn ids(catalog: &Catalog) -> Result<Vec<Uuid>> {
    query(catalog.scope(), "SELECT id FROM fluxbase_tenant.tenants WHERE NOT spare", &[], |row| row.need(1))
}

/// Returns the ids of the active tenants of which the user is a member.
pub fn active_ids_of_user(catalog: &Catalog, user: Uuid) -> Result<Vec<Uuid>> {
    query(
        catalog.scope(),
        "SELECT t.id FROM fluxbase_tenant.members m JOIN fluxbase_tenant.tenants t ON t.id = m.tenant_id
         WHERE m.user_id = $1 AND t.status = 'active'",
        &[user.into()],
        |row| row.need(1),
    )
}

/// Returns the id of the tenant that a slug or an id, as text, identifies. Deleted tenants are found only by id.
pub fn id_of(catalog: &Catalog, slug_or_id: &str) -> Result<Option<Uuid>> {
    let rows = query(
        catalog.scope(),
        "SELECT id FROM fluxbase_tenant.tenants
         WHERE ((slug = $1 AND deleted_at IS NULL) OR id::text = lower($1)) AND NOT spare",
        &[slug_or_id.into()],
        |row| row.need(1),
    )?;
    Ok(rows.into_iter().next())
}
