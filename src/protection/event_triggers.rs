//! What the event triggers do: relations of tenants are protected from their birth, and stay so.

use pgrx::prelude::*;

use super::grants::TABLE_PRIVILEGES;
use super::own_ddl::OwnDdl;
use super::policies::{self, TenantTable};
use super::sequences;
use crate::catalog::Catalog;
use crate::catalog::relations::LockedTable;
use crate::error::{Error, Result};
use crate::isolation::check::relation_name;
use crate::isolation::tenant_of;
use crate::model::ids;
use crate::pg::sql::{Ident, QualifiedName, command};
use crate::pg::{Row, catalogs, execute, guc, query, roles};

/// A relation in a tenant's schema that a command made or changed.
struct Relation {
    oid: pg_sys::Oid,
    name: QualifiedName,
    kind: char,
    tenant: pgrx::Uuid,
    /// Whether it has the policy `tenant_isolation`, whatever that says.
    has_policy: bool,
    /// Whether row-level security is on and forced, and the policy says what it must.
    is_protected: bool,
    is_granted: bool,
    invoker_view: bool,
    /// Owned by the group that the owner roles of all tenants are members of.
    given_to_all_owners: bool,
}

/// What a DDL command does to relations that were there before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Command {
    AltersInPlace,
    /// The same, and hangs a partition under a table.
    Attaches,
    /// Into another schema.
    Moves,
    Other,
}

impl Command {
    fn is_in_place(self) -> bool {
        matches!(self, Command::AltersInPlace | Command::Attaches)
    }
}

/// At the end of a DDL command. One that alters a table where it is protects nothing that was not protected: a restored
/// dump alters its tables before it creates the policies that they had.
pub fn after_command(command: Command) -> Result<()> {
    if OwnDdl::is_running() {
        return Ok(());
    }
    let caller_is_superuser = roles::is_superuser(roles::current());
    let catalog = Catalog::write()?;
    // Tenants and shared tables that a transaction's older snapshot does not see are there all the same.
    let objects = objects(&Catalog::latest_after_command()?)?;
    if let Some(stray) = objects.stray.filter(|_| !caller_is_superuser) {
        return Err(Error::forbidden(
            format!("give {} to the owner role of a tenant", relation_name(stray)),
            "It is in no schema of that tenant. A migration makes what it makes in the tenant's schema.",
        ));
    }
    if objects.tables {
        refuse_key_to_catalog(&catalog)?;
    }
    if !objects.of_tenants && !objects.partitions && command != Command::Moves {
        return Ok(());
    }
    let _own = OwnDdl::begin();
    let touched = touched(&Catalog::latest_after_command()?)?;
    for relation in &touched {
        if relation.given_to_all_owners && !caller_is_superuser {
            return Err(Error::forbidden(
                format!("give {} to the owners of all tenants", relation.name),
                "It belongs to the owner role of its tenant.",
            ));
        }
        match relation.kind {
            'r' | 'p' if relation.has_policy || !command.is_in_place() => {
                keep_protected(&catalog, relation, caller_is_superuser)?
            }
            'v' if !relation.invoker_view => {
                execute(catalog.scope(), &command!("ALTER VIEW {} SET (security_invoker = true)", &relation.name))?;
                grant(&catalog, relation)?;
            }
            'm' | 'f' => {
                require_preload(relation)?;
                if relation.is_granted {
                    execute(catalog.scope(), &command!("REVOKE ALL ON {} FROM fluxbase_tenant_user", &relation.name))?;
                }
            }
            _ => {}
        }
    }
    if command == Command::Moves {
        moved_out(&Catalog::latest_after_command()?)?
            .iter()
            .try_for_each(|table| refuse_or_tell(table, caller_is_superuser))?;
    }
    if objects.partitions && command != Command::AltersInPlace {
        for (partition, column) in bare_partitions(&Catalog::latest_after_command()?)? {
            if let Some(partition) = LockedTable::lock(partition) {
                policies::protect_shared(&catalog, &partition, &column)?;
            }
        }
    }
    touched
        .iter()
        .filter(|relation| matches!(relation.kind, 'r' | 'p'))
        .try_for_each(|table| sequences::guard_defaults(&catalog, table.oid))
}

/// Which looks at the command's objects are worth their cost: it may be one on any table of anybody's.
struct Objects {
    tables: bool,
    of_tenants: bool,
    partitions: bool,
    /// One that belongs to a tenant's owner role, and is not in its schema.
    stray: Option<pg_sys::Oid>,
}

fn objects(catalog: &Catalog) -> Result<Objects> {
    let found: Vec<(pg_sys::Oid, pg_sys::Oid)> = query(
        catalog.scope(),
        "SELECT classid, objid FROM pg_event_trigger_ddl_commands() WHERE classid IS NOT NULL",
        &[],
        |row| Ok((row.need(1)?, row.need(2)?)),
    )?;
    let mut objects = Objects { tables: false, of_tenants: false, partitions: false, stray: None };
    for (class, object) in found {
        if class == pg_sys::RelationRelationId {
            objects.tables = true;
            let tenant = tenant_of::tenant_of_relation(object)?;
            objects.of_tenants |= tenant.is_some();
            let owner = ids::of_owner_role(&roles::name(catalogs::relation_owner(object)));
            if owner.is_some() && owner != tenant {
                objects.stray = Some(object);
            }
            objects.partitions |=
                catalogs::is_partition(object) || catalogs::relation_kind(object) == pg_sys::RELKIND_PARTITIONED_TABLE;
        } else {
            // A policy, whose table the larger query looks up, or a schema.
            objects.of_tenants = true;
        }
    }
    Ok(objects)
}

/// A key to the catalog would make the owner of the table, and what hangs on it, part of every change of a tenant.
fn refuse_key_to_catalog(catalog: &Catalog) -> Result<()> {
    let found: Vec<String> = query(
        catalog.scope(),
        "SELECT c.conrelid::regclass::text FROM pg_event_trigger_ddl_commands() d
         JOIN pg_constraint c ON c.conrelid = d.objid AND c.contype = 'f'
         JOIN pg_class t ON t.oid = c.confrelid AND t.relnamespace = 'fluxbase_tenant'::regnamespace
         WHERE d.classid = 'pg_class'::regclass LIMIT 1",
        &[],
        |row| row.need(1),
    )?;
    match found.into_iter().next() {
        None => Ok(()),
        Some(table) => Err(Error::forbidden(
            format!("let table {table} refer to the catalog"),
            "Whoever locks the table would stop every tenant. tenant_protect() keeps out rows without a tenant, and \
             tenant_delete() removes those of a deleted one.",
        )),
    }
}

/// After objects were dropped: `tenant_isolation` goes with its table or not at all.
pub fn after_drop() -> Result<()> {
    if OwnDdl::is_running() {
        return Ok(());
    }
    let caller_is_superuser = roles::is_superuser(roles::current());
    let catalog = Catalog::latest_after_command()?;
    let bared: Vec<String> = query(
        catalog.scope(),
        "SELECT format('%I.%I', n.nspname, c.relname)
         FROM pg_event_trigger_dropped_objects() d
         JOIN fluxbase_tenant.tenants t ON t.schema_name = d.address_names[1]::name
         JOIN pg_namespace n ON n.nspname = t.schema_name
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = d.address_names[2]::name
         WHERE d.object_type = 'policy' AND d.address_names[3] = 'tenant_isolation'",
        &[],
        |row| row.need(1),
    )?;
    bared.iter().try_for_each(|table| refuse_or_warn(table, caller_is_superuser))
}

fn keep_protected(catalog: &Catalog, relation: &Relation, caller_is_superuser: bool) -> Result<()> {
    let table = TenantTable { oid: relation.oid, table: relation.name.clone(), tenant: relation.tenant };
    if !relation.has_policy {
        policies::protect(catalog, &table)?;
        grant(catalog, relation)?;
    } else if !relation.is_protected {
        refuse_or_warn(relation.name.as_str(), caller_is_superuser)?;
    }
    Ok(())
}

/// What the owner role creates is granted by its default privileges; what others do is not.
fn grant(catalog: &Catalog, relation: &Relation) -> Result<()> {
    if relation.is_granted {
        return Ok(());
    }
    let command = command!("GRANT {} ON {} TO fluxbase_tenant_user", TABLE_PRIVILEGES, &relation.name);
    execute(catalog.scope(), &command)
}

fn refuse_or_tell(table: &str, caller_is_superuser: bool) -> Result<()> {
    if !caller_is_superuser {
        return Err(Error::forbidden(
            format!("move {table} out of its tenant's schema"),
            "Copy what is to be elsewhere with an instance admin's rights.",
        ));
    }
    ereport!(
        WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        format!(
            "{table} left its tenant's schema: tenant_repair(), tenant_check() and tenant_delete() no longer know it"
        )
    );
    Ok(())
}

fn refuse_or_warn(table: &str, caller_is_superuser: bool) -> Result<()> {
    if !caller_is_superuser {
        return Err(Error::forbidden(
            format!("weaken row-level security on {table}"),
            "It keeps tenants apart: add RESTRICTIVE policies of your own, or replace tenant_access.",
        ));
    }
    ereport!(
        WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("row-level security on {table} no longer keeps other tenants out; tenant_repair() puts it back")
    );
    Ok(())
}

/// Policies cannot cover these; the check at the start of queries does, in backends that have loaded the library.
fn require_preload(relation: &Relation) -> Result<()> {
    for setting in ["shared_preload_libraries", "session_preload_libraries"] {
        let libraries = guc::get(setting)?.unwrap_or_default();
        if libraries.split(',').any(|library| library.trim().trim_matches('"') == "fluxbase_tenant") {
            return Ok(());
        }
    }
    let kind = if relation.kind == 'm' { "materialized view" } else { "foreign table" };
    Err(Error::conflict(
        format!("{kind} {} in a tenant schema needs the library preloaded", relation.name),
        "Row-level security does not cover it. Add fluxbase_tenant to session_preload_libraries, for all sessions.",
    ))
}

/// Tables that left their tenant's schema, by which everything but their policy knows them.
fn moved_out(catalog: &Catalog) -> Result<Vec<String>> {
    query(
        catalog.scope(),
        "SELECT DISTINCT format('%I.%I', n.nspname, c.relname)
         FROM pg_event_trigger_ddl_commands() d
         JOIN pg_class c ON c.oid = d.objid JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = 'tenant_isolation'
         JOIN pg_depend f ON f.classid = 'pg_policy'::regclass AND f.objid = p.oid AND f.refclassid = 'pg_proc'::regclass
                         AND f.refobjid = 'fluxbase_tenant.accessible(uuid)'::regprocedure
         WHERE d.classid = 'pg_class'::regclass
           AND NOT EXISTS (SELECT 1 FROM fluxbase_tenant.tenants t WHERE t.schema_name = n.nspname)",
        &[],
        |row| row.need(1),
    )
}

/// Partitions of shared tables that the command made or attached, with the tenant column: a query that names a
/// partition does not ask its parent's policies.
fn bare_partitions(catalog: &Catalog) -> Result<Vec<(pg_sys::Oid, Ident)>> {
    query(
        catalog.scope(),
        "SELECT DISTINCT part.oid, a.attname
         FROM pg_event_trigger_ddl_commands() d
         JOIN pg_class c ON c.oid = d.objid AND (c.relispartition OR c.relkind = 'p')
         CROSS JOIN LATERAL (SELECT pg_partition_root(c.oid) AS oid) root
         JOIN pg_policy p ON p.polrelid = root.oid AND p.polname = 'tenant_isolation'
         JOIN pg_depend f ON f.classid = 'pg_policy'::regclass AND f.objid = p.oid AND f.refclassid = 'pg_proc'::regclass
                         AND f.refobjid = 'fluxbase_tenant.accessible_tenant_ids()'::regprocedure
         JOIN pg_depend k ON k.classid = 'pg_policy'::regclass AND k.objid = p.oid AND k.refclassid = 'pg_class'::regclass
                         AND k.refobjid = root.oid AND k.refobjsubid > 0
         JOIN pg_attribute a ON a.attrelid = root.oid AND a.attnum = k.refobjsubid
         CROSS JOIN LATERAL pg_partition_tree(root.oid) tree
         JOIN pg_class part ON part.oid = tree.relid AND part.relkind IN ('r', 'p')
         WHERE d.classid = 'pg_class'::regclass AND NOT EXISTS (
             SELECT 1 FROM pg_policy o WHERE o.polrelid = part.oid AND o.polname = 'tenant_isolation')",
        &[],
        |row| Ok((row.need(1)?, row.need(2)?)),
    )
}

fn touched(catalog: &Catalog) -> Result<Vec<Relation>> {
    query(
        catalog.scope(),
        "SELECT DISTINCT format('%I.%I', n.nspname, c.relname), c.relkind::text, t.id, p.policy IS NOT NULL,
                p.in_force AND p.tenant_id = t.id,
                has_table_privilege('fluxbase_tenant_user', c.oid, 'SELECT'),
                coalesce(c.reloptions && '{security_invoker=true,security_invoker=on,security_invoker=1}', false),
                c.relowner = 'fluxbase_tenant_owner'::regrole, c.oid
         FROM pg_event_trigger_ddl_commands() d
         JOIN pg_class c ON c.oid = CASE WHEN d.classid = 'pg_policy'::regclass
                                         THEN (SELECT polrelid FROM pg_policy WHERE oid = d.objid) ELSE d.objid END
         JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN fluxbase_tenant.tenants t ON t.schema_name = n.nspname
         LEFT JOIN fluxbase_tenant.isolation_policies p ON p.relation = c.oid
         WHERE d.classid IN ('pg_class'::regclass, 'pg_policy'::regclass) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
        &[],
        relation,
    )
}

fn relation(row: &Row) -> Result<Relation> {
    Ok(Relation {
        name: row.need(1)?,
        kind: row.need::<String>(2)?.chars().next().unwrap_or(' '),
        tenant: row.need(3)?,
        has_policy: row.need(4)?,
        is_protected: row.get(5).unwrap_or(false),
        is_granted: row.need(6)?,
        invoker_view: row.need(7)?,
        given_to_all_owners: row.need(8)?,
        oid: row.need(9)?,
    })
}
