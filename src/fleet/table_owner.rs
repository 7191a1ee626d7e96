//! A worker that acts as the owner of a table, whose triggers may run: the owner is the user of the session too, whose rights are all
//! there are at the commit, and the security context refuses to leave it, or to leave anything behind.

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
/// How long one transaction may take.
const LIMIT: Duration = Duration::from_secs(60);
const PLACE: &str = "removing the rows of a deleted tenant";

pub struct TableOwner {
    role: pg_sys::Oid,
    /// The user of the session otherwise.
    before: String,
    search_path: Rc<str>,
}

/// The search_path for each owner of one removal. There may be thousands of tables, and of roles that are asked about.
#[derive(Default)]
pub struct Paths {
    known: RefCell<HashMap<pg_sys::Oid, Rc<str>>>,
}

impl Paths {
    fn of(&self, role: pg_sys::Oid) -> Result<Rc<str>> {
        if let Some(path) = self.known.borrow().get(&role) {
            return Ok(path.clone());
        }
        // That of the database, which the code of owners expects.
        let path = guc::get("search_path")?.unwrap_or_default();
        let path: Rc<str> = schemas::trusted_path(&Catalog::latest()?, &path, role)?.into();
        self.known.borrow_mut().insert(role, path.clone());
        Ok(path)
    }
}

impl TableOwner {
    /// Until `end`.
    pub fn begin(role: pg_sys::Oid, paths: &Paths) -> Attempted<Self> {
        let (before, search_path) = transaction(|| Ok((roles::name(roles::current()), paths.of(role)?)))?;
        transaction(|| guc::set(c"session_authorization", &roles::name(role), Lifetime::Session))?;
        Ok(TableOwner { role, before, search_path })
    }

    /// A transaction in which, after `prepare`, nobody but the owner acts.
    pub fn act<P, T>(&self, prepare: impl FnOnce() -> Result<P>, run: impl FnOnce(P) -> Result<T>) -> Attempted<T> {
        let _deadline = Deadline::after(LIMIT);
        transaction(|| {
            guc::set(c"lock_timeout", LOCK_TIMEOUT, Lifetime::Transaction)?;
            let prepared = prepare()?;
            let catalog = Catalog::write()?;
            // Nothing is deferred to where the security context has ended.
            crate::pg::execute(catalog.scope(), &command!("SET CONSTRAINTS ALL IMMEDIATE"))?;
            let _nobody = SandboxIdentity::anonymous()?;
            let settings =
                [(c"row_security", "on"), (c"lock_timeout", LOCK_TIMEOUT), (c"search_path", &*self.search_path)];
            let _sandbox = Sandbox::enter_unforced(self.role, &settings)?;
            context::at(PLACE, || run(prepared))
        })
    }

    pub fn end(self) -> Attempted<()> {
        locks::release_advisory();
        transaction(|| guc::set(c"session_authorization", &self.before, Lifetime::Session))
    }
}
