//! Queries on the schemas of the database.

use pgrx::pg_sys;

use super::Catalog;
use crate::error::Result;
use crate::pg::{guc, query, roles};

/// Returns the part of the search_path `path` that is safe for code that runs as `role`: the schemas in which no role
/// except `role` and superusers can create objects or owns any. In any other schema, an untrusted role could place a
/// function that matches a call better than the one in pg_catalog, or a table with a trigger. For a superuser, no schema is
/// safe enough: too many kinds of objects are looked up by name to check them all.
///
/// Schemas whose names begin with pg_ are excluded: the temporary schemas of other sessions are owned by a superuser
/// although other roles create the objects in them, and PostgreSQL searches pg_catalog anyway.
pub fn trusted_path(catalog: &Catalog, path: &str, role: pg_sys::Oid) -> Result<String> {
    if roles::is_superuser(role) {
        return Ok("pg_catalog, pg_temp".into());
    }
    let own = roles::name(role);
    let names = guc::names_in_list(path)?;
    let names: Vec<_> = names.into_iter().map(|name| if name == "$user" { own.clone() } else { name }).collect();
    let mut trusted: Vec<String> = query(
        catalog.scope(),
        "SELECT quote_ident(n.nspname) FROM unnest($1::text[]) WITH ORDINALITY AS listed (name, place)
         JOIN pg_namespace n ON n.nspname = listed.name JOIN pg_roles o ON o.oid = n.nspowner
         WHERE n.nspname NOT LIKE 'pg\\_%' AND NOT EXISTS (
             SELECT 1 FROM pg_roles r WHERE NOT r.rolsuper AND r.oid <> $2 AND r.rolname <> 'pg_database_owner'
             AND (has_schema_privilege(r.oid, n.oid, 'CREATE') OR (NOT o.rolsuper AND pg_has_role(r.oid, o.oid, 'MEMBER'))))
         AND NOT EXISTS (
             SELECT 1 FROM (SELECT proowner, pronamespace FROM pg_proc UNION ALL SELECT oprowner, oprnamespace FROM pg_operator
                            UNION ALL SELECT relowner, relnamespace FROM pg_class UNION ALL SELECT typowner, typnamespace FROM pg_type
                            UNION ALL SELECT collowner, collnamespace FROM pg_collation UNION ALL SELECT cfgowner, cfgnamespace FROM pg_ts_config
                            UNION ALL SELECT dictowner, dictnamespace FROM pg_ts_dict UNION ALL SELECT conowner, connamespace FROM pg_conversion)
                 AS left_there (owner, schema) JOIN pg_roles r ON r.oid = left_there.owner
             WHERE left_there.schema = n.oid AND NOT r.rolsuper AND r.oid <> $2)
         ORDER BY place",
        &[names.into(), role.into()],
        |row| row.need(1),
    )?;
    trusted.push("pg_temp".into());
    Ok(trusted.join(", "))
}
