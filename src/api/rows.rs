//! The row types that most functions return: the tenant row and the assignment row.

/// Defines functions that return tenant rows. The body yields `Result<impl IntoIterator<Item = Tenant>>`.
macro_rules! returns_tenants {
    ($($(#[$meta:meta])* fn $name:ident($($args:tt)*) $body:block)+) => {$(
        $(#[$meta])*
        fn $name($($args)*) -> crate::api::Result<
            TableIterator<'static, (
                name!(id, Uuid),
                name!(slug, String),
                name!(name, String),
                name!(schema_name, crate::pg::Name),
                name!(status, String),
                name!(is_default, bool),
                name!(metadata, crate::pg::Jsonb),
                name!(schema_version, Option<String>),
                name!(created_at, TimestampWithTimeZone),
                name!(updated_at, TimestampWithTimeZone),
                name!(deleted_at, Option<TimestampWithTimeZone>),
            )>,
        > {
            let tenants = crate::api::answer(|| $body)?;
            Ok(TableIterator::new(Vec::from_iter(tenants).into_iter().map(|t: crate::catalog::tenants::Tenant| (
                t.id, t.slug, t.name, crate::pg::Name(t.schema_name), t.status.as_str().to_string(), t.is_default,
                t.metadata, t.schema_version, t.created_at, t.updated_at, t.deleted_at,
            ))))
        }
    )+};
}

/// Defines functions that return assignment rows. The body yields `Result<impl IntoIterator<Item = Assignment>>`.
macro_rules! returns_assignments {
    ($($(#[$meta:meta])* fn $name:ident($($args:tt)*) $body:block)+) => {$(
        $(#[$meta])*
        fn $name($($args)*) -> crate::api::Result<
            TableIterator<'static, (
                name!(id, Uuid),
                name!(tenant_id, Uuid),
                name!(user_id, Uuid),
                name!(email, Option<String>),
                name!(role, String),
                name!(assigned_by, Option<Uuid>),
                name!(created_at, TimestampWithTimeZone),
            )>,
        > {
            let assignments = crate::api::answer(|| $body)?;
            Ok(TableIterator::new(Vec::from_iter(assignments).into_iter().map(
                |a: crate::catalog::members::Assignment| (
                    a.id, a.tenant_id, a.user_id, a.email, a.role.as_str().to_string(), a.assigned_by, a.created_at,
                ),
            )))
        }
    )+};
}

pub(super) use {returns_assignments, returns_tenants};
