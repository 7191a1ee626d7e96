//! Lets a removal worker act as the owner of a table, so that the owner's triggers can run. The owner is also the
//! session user, so code that runs at the commit has the owner's privileges only. The security context keeps the code
//! from switching to another role and from leaving anything behind in the session.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use pgrx::pg_sys;

use super::transaction::{Attempted, transaction};
use crate::access::SandboxIdentity;
use crate::catalog::{Catalog, schemas};
use crate::error::Result;
use crate::pg::guc::{self, Lifetime};
use crate::pg::sandbox::Sandbox;
use crate::pg::sql::command;
use crate::pg::{Deadline, context, locks, roles};

pub const LOCK_TIMEOUT: &str = "5s";
/// Time limit of one transaction.
pub const TRANSACTION_LIMIT: Duration = Duration::from_secs(60);
const PLACE: &str = "removing the rows of a deleted tenant";

pub struct TableOwner {
    role: pg_sys::Oid,
    /// The session user to restore.
    previous_user: String,
    search_path: Rc<str>,
}

/// The search_path of each table owner, computed once per removal. A removal can concern thousands of tables, and the
/// computation checks the privileges of every role of the cluster.
#[derive(Default)]
pub struct Paths {
    known: RefCell<HashMap<pg_sys::Oid, Rc<str>>>,
}

impl Paths {
    fn of(&self, role: pg_sys::Oid) -> Result<Rc<str>> {
        if let Some(path) = self.known.borrow().get(&role) {
            return Ok(path.clone());
        }
        // Based on the database's search_path, which the owners' code expects.
        let path = guc::get("search_path")?.unwrap_or_default();
        let path: Rc<str> = schemas::trusted_path(&Catalog::latest()?, &path, role)?.into();
        self.known.borrow_mut().insert(role, path.clone());
        Ok(path)
    }
}

impl TableOwner {
    /// Makes the owner the session user, until `end`.
    pub fn begin(role: pg_sys::Oid, paths: &Paths) -> Attempted<Self> {
        let (previous_user, search_path) = transaction(|| Ok((roles::name(roles::current()), paths.of(role)?)))?;
        transaction(|| guc::set(c"session_authorization", &roles::name(role), Lifetime::Session))?;
        Ok(TableOwner { role, previous_user, search_path })
    }

    /// Runs a transaction: `prepare` as the bootstrap superuser, and `run`, which gets its result, as the owner and
    /// with access to no tenant.
    pub fn act<P, T>(&self, prepare: impl FnOnce() -> Result<P>, run: impl FnOnce(P) -> Result<T>) -> Attempted<T> {
        let _deadline = Deadline::after(TRANSACTION_LIMIT);
        transaction(|| {
            guc::set(c"lock_timeout", LOCK_TIMEOUT, Lifetime::Transaction)?;
            let prepared = prepare()?;
            let catalog = Catalog::write()?;
            // A deferred trigger would run after the end of the security context.
            crate::pg::execute(catalog.scope(), &command!("SET CONSTRAINTS ALL IMMEDIATE"))?;
            let _no_access = SandboxIdentity::without_access()?;
            let settings =
                [(c"row_security", "on"), (c"lock_timeout", LOCK_TIMEOUT), (c"search_path", &*self.search_path)];
            // The policies would hide a deleted tenant's rows from the owner.
            let _sandbox = Sandbox::enter_unforced(self.role, &settings)?;
            context::at(PLACE, || run(prepared))
        })
    }

    pub fn end(self) -> Attempted<()> {
        locks::release_advisory();
        transaction(|| guc::set(c"session_authorization", &self.previous_user, Lifetime::Session))
    }
}
