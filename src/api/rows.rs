//! The row types that most functions return: the tenant row and the member row.

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

/// Defines functions that return member rows. The body yields `Result<impl IntoIterator<Item = Member>>`.
macro_rules! returns_members {
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
            let members = crate::api::answer(|| $body)?;
            Ok(TableIterator::new(Vec::from_iter(members).into_iter().map(
                |m: crate::catalog::members::Member| (
                    m.id, m.tenant_id, m.user_id, m.email, m.role.as_str().to_string(), m.assigned_by, m.created_at,
                ),
            )))
        }
    )+};
}

pub(super) use {returns_members, returns_tenants};
