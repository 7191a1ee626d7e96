//! Finds text in a spare tenant's schema that contains the spare's name, such as the name of an index, a constant in a
//! function, or a row of a settings table. PostgreSQL renames a schema, but not such text.

use crate::catalog::fingerprints::{self, Names};
use crate::catalog::tenants::Tenant;
use crate::catalog::{Catalog, taken};
use crate::error::Result;
use crate::model::owner_role;
use crate::pg::sql::{Literal, QualifiedName, command};
use crate::pg::{query, query_command};

/// Returns the first object found whose text or rows contain the name of the spare's schema or its slug.
pub fn object_with_own_name(catalog: &Catalog, spare: &Tenant) -> Result<Option<String>> {
    let slug = taken::spare_slug(spare.id);
    let schema = slug.replace('-', "_");
    let contains = |text: &str| text.contains(&slug) || text.contains(&schema);
    let names = Names { schema: spare.schema_name.clone(), owner: owner_role(spare.id), id: spare.id.to_string() };
    // In these descriptions, the schema's name is removed where it qualifies another name, which is how PostgreSQL prints
    // a reference, and is a placeholder elsewhere. The description of a function contains its search_path, which is
    // renamed with the schema.
    for thing in fingerprints::things(catalog, &names)? {
        let is_routine = ["function ", "procedure "].iter().any(|kind| thing.object.starts_with(kind));
        let has_placeholder = || !is_routine && Names::has_schema(&thing.definition);
        if !thing.object.starts_with("schema ")
            && (contains(&thing.object) || has_placeholder() || contains(&thing.definition))
        {
            return Ok(Some(names.put_back(&thing.object)));
        }
    }
    let routines: Vec<String> = query(
        catalog.scope(),
        "SELECT 'function ' || p.proname FROM pg_namespace n
         JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.classid = 'pg_proc'::regclass
         JOIN pg_proc p ON p.oid = d.objid
         WHERE n.nspname = $1::text::name AND (strpos(p.prosrc, $2) > 0 OR strpos(p.prosrc, $3) > 0) LIMIT 1",
        &[spare.schema_name.as_str().into(), slug.as_str().into(), schema.as_str().into()],
        |row| row.need(1),
    )?;
    match routines.into_iter().next() {
        Some(routine) => Ok(Some(routine)),
        None => table_with_rows(catalog, spare, &slug, &schema),
    }
}

/// Returns the first table that has a row with one of the names.
fn table_with_rows(catalog: &Catalog, spare: &Tenant, slug: &str, schema: &str) -> Result<Option<String>> {
    let tables: Vec<QualifiedName> = query(
        catalog.scope(),
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_namespace n
         JOIN pg_depend d ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.classid = 'pg_class'::regclass
         JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'm')
         WHERE n.nspname = $1::text::name AND (c.relkind = 'r' OR c.relispopulated)",
        &[spare.schema_name.as_str().into()],
        |row| row.need(1),
    )?;
    for table in tables {
        let find = command!(
            "SELECT 1 FROM ONLY {} AS row WHERE strpos(row::text, {}) > 0 OR strpos(row::text, {}) > 0 LIMIT 1",
            &table,
            Literal::new(slug),
            Literal::new(schema)
        );
        if !query_command(catalog.scope(), &find, |_| Ok(()))?.is_empty() {
            return Ok(Some(format!("table {table}")));
        }
    }
    Ok(None)
}
