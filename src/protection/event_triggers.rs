//! The event triggers that give tenants' relations their policies when they are created, and keep them protected.

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

/// A relation in a tenant's schema that a command created or changed.
struct Relation {
    oid: pg_sys::Oid,
    name: QualifiedName,
    kind: char,
    tenant: pgrx::Uuid,
    /// Whether it has a policy named `tenant_isolation`, whatever its condition.
    has_policy: bool,
    /// Whether row-level security is enabled and forced, and the policy's condition is the right one.
    is_protected: bool,
    /// Whether fluxbase_tenant_user has SELECT on it.
    is_granted: bool,
    is_invoker_view: bool,
    /// Whether it is owned by the group role of which the owner roles of all tenants are members.
    is_owned_by_group: bool,
}

/// What a DDL command does to existing relations.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Alters a relation without moving it to another schema.
    AltersInPlace,
    /// Alters a relation in place, and attaches a partition to it or makes it an inheritance child.
    Attaches,
    /// Moves a relation to another schema.
    Moves,
    Other,
}

impl Command {
    fn is_in_place(self) -> bool {
        matches!(self, Command::AltersInPlace | Command::Attaches)
    }
}

/// Protects the relations that a DDL command created or changed. Called at the end of the command. A command that
/// alters an existing table in place does not add policies to a table without them, because a restored dump alters its
/// tables before it creates their policies.
pub fn after_command(command: Command) -> Result<()> {
    if OwnDdl::is_running() {
        return Ok(());
    }
    let caller_is_superuser = roles::is_superuser(roles::current());
    let catalog = Catalog::write()?;
    // Use the latest snapshot: the transaction's own may be older than a tenant or a shared table.
    let objects = objects(&Catalog::latest_after_command()?)?;
    if let Some(stray) = objects.stray.filter(|_| !caller_is_superuser) {
        return Err(Error::forbidden(
            format!("let the owner role of a tenant own relation {}", relation_name(stray)),
            "The relation is not in that tenant's schema. Create it in the tenant's schema, in a migration.",
        ));
    }
    if objects.tables {
        refuse_foreign_key_to_catalog(&catalog)?;
    }
    if !objects.of_tenants && !objects.partitions && command != Command::Moves {
        return Ok(());
    }
    let _own = OwnDdl::begin();
    let changed = changed_relations(&Catalog::latest_after_command()?)?;
    for relation in &changed {
        if relation.is_owned_by_group && !caller_is_superuser {
            return Err(Error::forbidden(
                format!("let role fluxbase_tenant_owner own relation {}", relation.name),
                "A relation in a tenant schema must be owned by that tenant's owner role.",
            ));
        }
        match relation.kind {
            'r' | 'p' if relation.has_policy || !command.is_in_place() => {
                ensure_protected(&catalog, relation, caller_is_superuser)?
            }
            'v' if !relation.is_invoker_view => {
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
            .try_for_each(|table| refuse_or_warn_of_move(table, caller_is_superuser))?;
    }
    if objects.partitions && command != Command::AltersInPlace {
        for (partition, column) in unprotected_partitions(&Catalog::latest_after_command()?)? {
            if let Some(partition) = LockedTable::lock(partition) {
                policies::protect_shared(&catalog, &partition, &column)?;
            }
        }
    }
    changed
        .iter()
        .filter(|relation| matches!(relation.kind, 'r' | 'p'))
        .try_for_each(|table| sequences::guard_defaults(&catalog, table.oid))
}

/// What a command's objects are, so that only the necessary checks run. The command may be on a table that has nothing
/// to do with tenants.
struct Objects {
    tables: bool,
    of_tenants: bool,
    partitions: bool,
    /// A relation that a tenant's owner role owns and that is not in that tenant's schema.
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
                catalogs::has_parents(object) || catalogs::relation_kind(object) == pg_sys::RELKIND_PARTITIONED_TABLE;
        } else {
            // A policy, whose table `changed_relations` looks up, or a schema.
            objects.of_tenants = true;
        }
    }
    Ok(objects)
}

/// Refuses a foreign key to the catalog. It would let locks on the referencing table block every change of a tenant.
fn refuse_foreign_key_to_catalog(catalog: &Catalog) -> Result<()> {
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
            format!("create a foreign key from table {table} to the catalog"),
            "A lock on the table would block every tenant. tenant_protect() rejects rows without a tenant, and \
             tenant_delete() removes the rows of a deleted tenant.",
        )),
    }
}

/// Refuses to drop the policy `tenant_isolation` of a table in a tenant schema, unless the table is dropped too. Called
/// after objects were dropped. The owner of a shared table may drop its policy.
pub fn after_drop() -> Result<()> {
    if OwnDdl::is_running() {
        return Ok(());
    }
    let caller_is_superuser = roles::is_superuser(roles::current());
    let catalog = Catalog::latest_after_command()?;
    let weakened: Vec<String> = query(
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
    weakened.iter().try_for_each(|table| refuse_or_warn_of_weakening(table, caller_is_superuser))
}

/// Adds the policies to a table without them. Refuses, or for a superuser warns, if a table's policy no longer protects
/// it.
fn ensure_protected(catalog: &Catalog, relation: &Relation, caller_is_superuser: bool) -> Result<()> {
    let table = TenantTable { oid: relation.oid, table: relation.name.clone(), tenant: relation.tenant };
    if !relation.has_policy {
        policies::protect(catalog, &table)?;
        grant(catalog, relation)?;
    } else if !relation.is_protected {
        refuse_or_warn_of_weakening(relation.name.as_str(), caller_is_superuser)?;
    }
    Ok(())
}

/// Grants the tables' privileges on a relation that has none. The default privileges of the owner role grant them on
/// what it creates, but not on what another role creates.
fn grant(catalog: &Catalog, relation: &Relation) -> Result<()> {
    if relation.is_granted {
        return Ok(());
    }
    let command = command!("GRANT {} ON {} TO fluxbase_tenant_user", TABLE_PRIVILEGES, &relation.name);
    execute(catalog.scope(), &command)
}

/// Refuses to move a table out of its tenant's schema, or warns a superuser.
fn refuse_or_warn_of_move(table: &str, caller_is_superuser: bool) -> Result<()> {
    if !caller_is_superuser {
        return Err(Error::forbidden(
            format!("move table {table} out of its tenant's schema"),
            "Copy the rows to another table as an instance admin instead.",
        ));
    }
    ereport!(
        WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        format!(
            "table {table} is no longer in its tenant's schema: \
             tenant_repair(), tenant_check() and tenant_delete() ignore it"
        )
    );
    Ok(())
}

/// Refuses to weaken the row-level security of a table, or warns a superuser.
fn refuse_or_warn_of_weakening(table: &str, caller_is_superuser: bool) -> Result<()> {
    if !caller_is_superuser {
        return Err(Error::forbidden(
            format!("weaken row-level security on table {table}"),
            "Row-level security isolates tenants. Add RESTRICTIVE policies, or replace the policy tenant_access.",
        ));
    }
    ereport!(
        WARNING,
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("row-level security on table {table} no longer isolates its tenant: tenant_repair() restores it")
    );
    Ok(())
}

/// Requires that the library is preloaded. Policies cannot apply to these relations. The executor-start check covers
/// them, but only in sessions that have loaded the library.
fn require_preload(relation: &Relation) -> Result<()> {
    for setting in ["shared_preload_libraries", "session_preload_libraries"] {
        let libraries = guc::get(setting)?.unwrap_or_default();
        if libraries.split(',').any(|library| library.trim().trim_matches('"') == "fluxbase_tenant") {
            return Ok(());
        }
    }
    let kind = if relation.kind == 'm' { "materialized view" } else { "foreign table" };
    Err(Error::conflict(
        format!("{kind} {} in a tenant schema requires that the library is preloaded", relation.name),
        "Row-level security does not apply to it. Add fluxbase_tenant to session_preload_libraries for all sessions.",
    ))
}

/// Returns the tables that the command moved out of their tenant's schema. Everything except their policy identifies
/// the tenant by the schema.
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

/// Returns the partitions and inheritance children of shared tables that the command created or attached and that lack
/// policies, with their tenant column. A query that names one of these does not evaluate its parent's policies.
fn unprotected_partitions(catalog: &Catalog) -> Result<Vec<(pg_sys::Oid, Ident)>> {
    query(
        catalog.scope(),
        "WITH RECURSIVE up (oid) AS (
             SELECT objid FROM pg_event_trigger_ddl_commands() WHERE classid = 'pg_class'::regclass
             UNION SELECT i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.oid),
         down (oid, attname) AS (
             SELECT up.oid, a.attname
             FROM up JOIN pg_policy p ON p.polrelid = up.oid AND p.polname = 'tenant_isolation'
             JOIN pg_depend f ON f.classid = 'pg_policy'::regclass AND f.objid = p.oid AND f.refclassid = 'pg_proc'::regclass
                             AND f.refobjid = 'fluxbase_tenant.accessible_tenant_ids()'::regprocedure
             JOIN pg_depend k ON k.classid = 'pg_policy'::regclass AND k.objid = p.oid AND k.refclassid = 'pg_class'::regclass
                             AND k.refobjid = up.oid AND k.refobjsubid > 0
             JOIN pg_attribute a ON a.attrelid = up.oid AND a.attnum = k.refobjsubid
             UNION SELECT i.inhrelid, down.attname FROM down JOIN pg_inherits i ON i.inhparent = down.oid)
         SELECT DISTINCT part.oid, down.attname
         FROM down JOIN pg_class part ON part.oid = down.oid AND part.relkind IN ('r', 'p') AND part.relpersistence <> 't'
         WHERE NOT EXISTS (SELECT 1 FROM pg_policy o WHERE o.polrelid = part.oid AND o.polname = 'tenant_isolation')",
        &[],
        |row| Ok((row.need(1)?, row.need(2)?)),
    )
}

/// Returns the tenants' relations that the command created or changed, also by creating or altering a policy.
fn changed_relations(catalog: &Catalog) -> Result<Vec<Relation>> {
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
        is_invoker_view: row.need(7)?,
        is_owned_by_group: row.need(8)?,
        oid: row.need(9)?,
    })
}
