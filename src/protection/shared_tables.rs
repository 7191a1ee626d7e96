//! Shared tables: tables outside the tenant schemas in which every row belongs to a tenant.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, Uuid, pg_sys};

use super::own_ddl::{OwnDdl, execute_pinned};
use super::policies;
use crate::access::{InstancePermit, SandboxIdentity, See, authorize};
use crate::catalog::shared_tables::{self, LooseKey};
use crate::catalog::{Catalog, relations, removals, tenants};
use crate::error::{Error, Result};
use crate::isolation::Pinned;
use crate::pg::sandbox::Sandbox;
use crate::pg::sql::{Command, Ident, command};
use crate::pg::{defaults, locks, roles};

/// One step of what `protect` or `unprotect` did.
pub struct Step {
    pub object: String,
    pub done: &'static str,
}

/// Makes a table a shared table. Does only what is missing, so that a second call does nothing. Existing rows without a
/// tenant are assigned to `existing_rows`.
pub fn protect(
    catalog: &Catalog,
    permit: &InstancePermit,
    relation: pg_sys::Oid,
    column: &str,
    existing_rows: Option<Uuid>,
) -> Result<Vec<Step>> {
    let table = owned_table(catalog, permit, relation, "protect this table")?;
    if let Some(parent) = relations::unprotected_parent(catalog, relation)? {
        return Err(Error::conflict(
            format!("table {} is a partition or child of table {parent}", table.locked.name),
            format!("Protect table {parent}, through which the rows can be read, too."),
        ));
    }
    let mut work = Work { catalog, table: &table, column: Ident::new(column), steps: Vec::new() };
    if existing_rows.is_some() {
        authorize::<See>(catalog, existing_rows, "assign rows to this tenant")?;
    }
    work.add_column(column, existing_rows)?;
    work.add_constraints(column)?;
    work.add_policies()?;
    work.refuse_unknown_tenants()?;
    work.register(column)?;
    for key in shared_tables::loose_keys(catalog, relation)? {
        warn_of_key(&key);
    }
    Ok(work.steps)
}

/// Makes a shared table an ordinary table again. Drops its policies and the column's default, and keeps the column and
/// its index.
pub fn unprotect(catalog: &Catalog, permit: &InstancePermit, relation: pg_sys::Oid) -> Result<Vec<Step>> {
    let table = owned_table(catalog, permit, relation, "unprotect this table")?;
    let mut steps = Vec::new();
    let is_listed = shared_tables::remove(catalog, relation)?;
    removals::forget(catalog, relation)?;
    let parts = relations::descendants(catalog, relation)?;
    for part in &parts {
        if policies::unprotect_shared(catalog, part)? {
            steps.push(Step { object: format!("table {}", part.name), done: "policies dropped" });
        }
    }
    if let Some(column) = relations::column_with_tenant_default(catalog, relation)? {
        let command = command!("ALTER TABLE {} ALTER COLUMN {} DROP DEFAULT", &table.locked.name, &column);
        execute_pinned(catalog, &table.locked, &command)?;
        steps.push(Step { object: format!("column {}.{column}", table.locked.name), done: "default dropped" });
    }
    if is_listed {
        steps.push(Step {
            object: format!("table {}", table.locked.name),
            done: "no longer registered as a shared table",
        });
    }
    Ok(steps)
}

/// Returns the table. Raises an error unless it is a table or a partitioned table outside the tenant schemas, and the
/// caller owns it. Owning the table is not enough: the permit is required because tenants' rows concern the whole
/// instance.
fn owned_table(
    catalog: &Catalog,
    _permit: &InstancePermit,
    relation: pg_sys::Oid,
    action: &str,
) -> Result<relations::Table> {
    let table = relations::table(catalog, relation)?.ok_or_else(|| {
        Error::invalid(
            "relation is not a table",
            "Specify a table or a partitioned table. A view is protected by the tables that it reads.",
        )
    })?;
    let caller = catalog.caller_role();
    if !roles::owns_relation(relation, caller) {
        return Err(Error::forbidden(action, "Ask the owner of the table."));
    }
    if table.tenant.is_some() {
        return Err(Error::conflict(
            format!("table {} is in a tenant schema", table.locked.name),
            "Tables in tenant schemas are protected when they are created.",
        ));
    }
    Ok(table)
}

struct Work<'a> {
    catalog: &'a Catalog,
    table: &'a relations::Table,
    column: Ident,
    steps: Vec<Step>,
}

impl Work<'_> {
    /// Runs a command as the table's owner, because a command that reads the table's rows, constraints or indexes may
    /// run the owner's code, which must not get more than the owner's privileges. Nor must that code act with the
    /// caller's identity, so the command runs as the service context of a tenant that does not exist.
    fn run(&mut self, command: &Command, object: String, done: &'static str) -> Result<()> {
        {
            let _pinned = Pinned::to(&self.table.locked);
            let _identity = SandboxIdentity::without_access()?;
            Sandbox::enter_unforced(self.table.owner, &[(c"row_security", "on")])?
                .run(command.as_str(), "protecting a table")?;
        }
        self.steps.push(Step { object, done });
        Ok(())
    }

    /// Counts rows as the table's owner, for the same reasons as `run`.
    fn count(&self, query: &Command) -> Result<i64> {
        let _pinned = Pinned::to(&self.table.locked);
        let _identity = SandboxIdentity::without_access()?;
        let _sandbox = Sandbox::enter_unforced(self.table.owner, &[(c"row_security", "on")])?;
        relations::count(self.catalog, query)
    }

    fn column_object(&self) -> String {
        format!("column {}.{}", self.table.locked.name, self.column)
    }

    fn add_column(&mut self, plain: &str, existing_rows: Option<Uuid>) -> Result<()> {
        let (table, column) = (&self.table.locked.name, &self.column);
        match relations::column_type(self.catalog, self.table.locked.oid, plain)? {
            None => {
                let rows = self.count(&command!("SELECT count(*) FROM {}", table))?;
                let command = match existing_rows {
                    _ if rows == 0 => command!("ALTER TABLE {} ADD COLUMN {} uuid NOT NULL", table, column),
                    // The default is a constant, so PostgreSQL rewrites no row and fires no trigger of the table.
                    // `add_constraints` replaces it.
                    Some(tenant) => {
                        command!("ALTER TABLE {} ADD COLUMN {} uuid NOT NULL DEFAULT '{}'", table, column, tenant)
                    }
                    None => return Err(rows_without_tenant(rows)),
                };
                self.run(&command, self.column_object(), "added")?;
            }
            Some(column_type) if column_type != pg_sys::UUIDOID => {
                return Err(Error::invalid(
                    format!("column {column} is not of type uuid"),
                    "Specify another column, or change its type to uuid.",
                ));
            }
            Some(_) => self.fill_column(existing_rows)?,
        }
        Ok(())
    }

    /// Refuses a table with rows of tenants that do not exist. Called while `add_policies` has locked the table. The
    /// policies reject such rows from then on. The tenants are locked, so that tenant_delete() waits until the table is
    /// registered and then deletes their rows in it.
    fn refuse_unknown_tenants(&self) -> Result<()> {
        let named = {
            let _pinned = Pinned::to(&self.table.locked);
            let _identity = SandboxIdentity::without_access()?;
            let _sandbox = Sandbox::enter_unforced(self.table.owner, &[(c"row_security", "on")])?;
            relations::named_tenants(self.catalog, &self.table.locked.name, &self.column)?
        };
        let known = tenants::existing_for_key_share(self.catalog, &named)?;
        match named.iter().find(|id| !known.contains(id)) {
            None => Ok(()),
            Some(id) => Err(Error::conflict(
                format!("rows of the table refer to tenant {id}, which does not exist"),
                "Delete these rows, or assign them to an existing tenant.",
            )),
        }
    }

    fn fill_column(&mut self, existing_rows: Option<Uuid>) -> Result<()> {
        let (table, column) = (&self.table.locked.name, &self.column);
        let rows = self.count(&command!("SELECT count(*) FROM {} WHERE {} IS NULL", table, column))?;
        if rows == 0 {
            return Ok(());
        }
        let tenant = existing_rows.ok_or_else(|| rows_without_tenant(rows))?;
        let tables: Vec<_> =
            relations::descendants(self.catalog, self.table.locked.oid)?.iter().map(|part| part.oid).collect();
        // CREATE TRIGGER waits for these locks.
        tables.iter().copied().for_each(locks::lock_for_writing);
        let triggers =
            shared_tables::triggers_of_other_roles(&Catalog::latest()?, tables.clone(), tables, self.table.owner)?;
        if let Some(trigger) = triggers.first() {
            return Err(Error::conflict(
                format!("trigger {} would run with the privileges of the table's owner", trigger.name),
                "Fill the column first, or drop or disable the trigger.",
            ));
        }
        let fill = command!("UPDATE {} SET {} = '{}' WHERE {} IS NULL", table, column, tenant, column);
        self.run(&fill, self.column_object(), "existing rows assigned to the tenant")
    }

    fn add_constraints(&mut self, plain: &str) -> Result<()> {
        let (table, column, oid) = (self.table.locked.name.clone(), self.column.clone(), self.table.locked.oid);
        if !relations::is_not_null(self.catalog, oid, plain)? {
            let command = command!("ALTER TABLE {} ALTER COLUMN {} SET NOT NULL", &table, &column);
            self.run(&command, self.column_object(), "set not null")?;
        }
        if relations::column_with_tenant_default(self.catalog, oid)?.as_ref() != Some(&column) {
            let call = defaults::call(relations::current_tenant_function(self.catalog)?);
            for part in relations::column_everywhere(self.catalog, oid, plain)? {
                if part.is_generated {
                    return Err(Error::invalid(
                        format!("column {column} is a generated column"),
                        "Specify another column. The tenant column cannot be generated.",
                    ));
                }
                // SAFETY: `call` is a function call that this function has created.
                unsafe { defaults::set(part.table, part.number, call)? };
            }
            self.steps.push(Step { object: self.column_object(), done: "default set to the current tenant" });
        }
        if !relations::has_index_on(self.catalog, oid, plain)? {
            // No sandbox is needed: PostgreSQL builds an index as the table's owner, whichever role runs the command.
            execute_pinned(self.catalog, &self.table.locked, &command!("CREATE INDEX ON {} ({})", table, column))?;
            self.steps.push(Step { object: self.column_object(), done: "index added" });
        }
        Ok(())
    }

    /// Registers the table as a shared table, whose rows are deleted with their tenant.
    fn register(&mut self, plain: &str) -> Result<()> {
        if shared_tables::put(self.catalog, self.table.locked.oid, plain)? {
            let object = format!("table {}", self.table.locked.name);
            self.steps.push(Step { object, done: "registered as a shared table" });
        }
        Ok(())
    }

    /// Adds policies to the table, its partitions and its children. A query that names one of these does not evaluate
    /// its parent's policies.
    fn add_policies(&mut self) -> Result<()> {
        let _own = OwnDdl::begin();
        for part in relations::descendants(self.catalog, self.table.locked.oid)? {
            if policies::protect_shared(self.catalog, &part, &self.column)? {
                self.steps.push(Step { object: format!("table {}", part.name), done: "policies added" });
            }
        }
        Ok(())
    }
}

/// Warns that a foreign key does not include the tenant column.
fn warn_of_key(key: &LooseKey) {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!(
            "foreign key {} of table {} does not include the tenant column: rows of one tenant can refer to another's",
            key.name, key.table
        ),
        "",
    )
    .set_hint(key.fix.clone())
    .report(PgLogLevel::WARNING);
}

fn rows_without_tenant(rows: i64) -> Error {
    Error::conflict(
        format!("{rows} rows have no tenant"),
        "Pass the tenant that they belong to as existing_rows, or fill the column first.",
    )
}
