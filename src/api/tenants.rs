//! Tenants: creates, reads and changes them.

use pgrx::datum::{TimestampWithTimeZone, Uuid};
use pgrx::prelude::*;

use super::rows::returns_tenants;
use super::{Result, answer, required};
use crate::access::{See, authorize, authorize_create, authorize_instance, authorize_user};
use crate::catalog::{self, Catalog};
use crate::fleet;
use crate::pg::{Jsonb, Name};
use crate::tenants::{self, CloneOptions, CreateOptions};

returns_tenants! {
    /// Creates a tenant with its schema, owner role, grants and migrations, in the caller's transaction.
    #[pg_extern(sql = false)]
    fn tenant_create(
        slug: Option<String>,
        name: Option<String>,
        metadata: Option<Jsonb>,
        id: Option<Uuid>,
        admin_user_id: Option<Uuid>
    ) {
        let catalog = Catalog::write()?;
        let permit = authorize_create(&catalog, id, admin_user_id)?;
        let tenant = tenants::create(&catalog, &permit, CreateOptions { slug, name, metadata })?;
        fleet::refill_after_commit();
        Ok(Some(tenant))
    }

    /// Creates a tenant like another one, by replaying the ledger of that one. Copies its rows if `with_data` is true.
    #[pg_extern(sql = false)]
    fn tenant_clone(
        source: Option<Uuid>,
        slug: Option<String>,
        name: Option<String>,
        with_data: Option<bool>
    ) {
        let catalog = Catalog::write()?;
        let (source, with_data) = (required("source", source)?, required("with_data", with_data)?);
        let permit = authorize(&catalog, Some(source), "clone a tenant")?;
        tenants::clone(&catalog, &permit, CloneOptions { slug, name, with_data }).map(Some)
    }

    /// Returns a tenant by id.
    #[pg_extern(sql = false)]
    fn tenant_get(tenant_id: Option<Uuid>) {
        let catalog = Catalog::read()?;
        authorize::<See>(&catalog, tenant_id, "see this tenant").map(|permit| Some(permit.into_tenant()))
    }

    /// Returns a tenant by slug.
    #[pg_extern(sql = false)]
    fn tenant_get_by_slug(slug: Option<String>) {
        let catalog = Catalog::read()?;
        tenants::find_by_slug(&catalog, &required("slug", slug)?).map(|permit| Some(permit.into_tenant()))
    }

    /// Returns all tenants that are not deleted, oldest first.
    #[pg_extern(sql = false)]
    fn tenant_list() {
        let catalog = Catalog::read()?;
        authorize_instance(&catalog, "list all tenants")?;
        catalog::tenants::list(&catalog)
    }

    /// Changes name and metadata. NULL leaves them as they are.
    #[pg_extern(sql = false)]
    fn tenant_update(
        tenant_id: Option<Uuid>,
        name: Option<String>,
        metadata: Option<Jsonb>
    ) {
        let catalog = Catalog::write()?;
        let permit = authorize(&catalog, tenant_id, "update this tenant")?;
        tenants::update(&catalog, &permit, name, metadata).map(Some)
    }

    /// Makes a tenant the default tenant, which cannot be deleted.
    #[pg_extern(sql = false)]
    fn tenant_set_default(tenant_id: Option<Uuid>) {
        let catalog = Catalog::write()?;
        let tenant_id = required("tenant_id", tenant_id)?;
        tenants::serialize_defaults(&catalog)?;
        let permit = authorize(&catalog, Some(tenant_id), "choose the default tenant")?;
        tenants::set_default(&catalog, &permit).map(Some)
    }
}

/// Returns the current user's tenants, with the user's role in each, oldest membership first.
#[pg_extern(sql = false)]
fn tenant_list_mine() -> Result<
    TableIterator<
        'static,
        (
            name!(id, Uuid),
            name!(slug, String),
            name!(name, String),
            name!(schema_name, Name),
            name!(status, String),
            name!(is_default, bool),
            name!(metadata, Jsonb),
            name!(schema_version, Option<String>),
            name!(created_at, TimestampWithTimeZone),
            name!(updated_at, TimestampWithTimeZone),
            name!(deleted_at, Option<TimestampWithTimeZone>),
            name!(my_role, String),
        ),
    >,
> {
    let mine = answer(|| {
        let catalog = Catalog::read()?;
        let permit = authorize_user(&catalog)?;
        catalog::tenants::list_of_user(&catalog, permit.user())
    })?;
    Ok(TableIterator::new(mine.into_iter().map(|(t, role)| {
        let (schema_name, status) = (Name(t.schema_name), t.status.as_str().to_string());
        (
            t.id,
            t.slug,
            t.name,
            schema_name,
            status,
            t.is_default,
            t.metadata,
            t.schema_version,
            t.created_at,
            t.updated_at,
            t.deleted_at,
            role,
        )
    })))
}
