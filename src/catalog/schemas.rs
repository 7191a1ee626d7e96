//! Schemas of the database, in SQL on the server's catalogs.

use pgrx::pg_sys;

use super::Catalog;
use crate::error::Result;
use crate::pg::{guc, query, roles};

/// What is left of a search_path for code that runs as a role: schemas in which nobody else creates anything but superusers, or has left
/// functions. For a superuser none: too much is found by name. Others may put
/// functions there that fit a call better than the server's own. The temporary schemas of other sessions belong to a superuser by name
/// alone, and the server's own is searched in any case.
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
             SELECT 1 FROM (SELECT proowner, pronamespace FROM pg_proc UNION ALL SELECT oprowner, oprnamespace FROM pg_operator)
                 AS left_there (owner, schema) JOIN pg_roles r ON r.oid = left_there.owner
             WHERE left_there.schema = n.oid AND NOT r.rolsuper AND r.oid <> $2)
         ORDER BY place",
        &[names.into(), role.into()],
        |row| row.need(1),
    )?;
    trusted.push("pg_temp".into());
    Ok(trusted.join(", "))
}
