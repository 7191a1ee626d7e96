//! Locks on roles and on the extension, of the kind that lets others use them and only keeps its like out.

use std::ffi::CStr;
use std::time::Duration;

use pgrx::prelude::*;

use super::{Unwaited, attempt, guc};
use crate::error::{Error, Result};

const MODE: pg_sys::LOCKMODE = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;

/// Advisory locks that a script took for the session, which has other scripts to run.
pub fn release_advisory() {
    // SAFETY: as pg_advisory_unlock_all() does.
    unsafe { pg_sys::LockReleaseSession(pg_sys::USER_LOCKMETHOD as pg_sys::LOCKMETHODID) };
}

/// Waits for the transactions that are writing to a table, and not for those that begin to meanwhile; for lock_timeout at
/// most with each.
pub fn wait_for_writers(table: pg_sys::Oid) {
    let tag = pg_sys::LOCKTAG {
        // SAFETY: reads a variable of the backend.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: table.to_u32(),
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    // SAFETY: the tag of a relation, in a transaction that holds no lock on it.
    unsafe { pg_sys::WaitForLockers(tag, pg_sys::ShareLock as pg_sys::LOCKMODE, false) };
}

/// # Safety
/// In a transaction.
unsafe fn catalog_table(name: &CStr) -> pg_sys::Oid {
    // SAFETY: lookups by C string; an error if there is no such schema, InvalidOid if there is no such table.
    unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(c"fluxbase_tenant".as_ptr(), false)) }
}

pub struct ObjectLock(pg_sys::LOCKTAG);

impl ObjectLock {
    pub fn of_role(role: pg_sys::Oid) -> Self {
        // A role belongs to no database.
        ObjectLock::of(pg_sys::InvalidOid, pg_sys::AuthIdRelationId, role)
    }

    pub fn of_extension() -> Self {
        // SAFETY: a lookup by C string, an error if there is none; reads a variable of the backend.
        let (extension, database) =
            unsafe { (pg_sys::get_extension_oid(c"fluxbase_tenant".as_ptr(), false), pg_sys::MyDatabaseId) };
        ObjectLock::of(database, pg_sys::ExtensionRelationId, extension)
    }

    /// Of a background worker, by its leader's number and its own.
    pub fn of_worker(leader: u32, number: u32) -> Result<Self> {
        let number = u16::try_from(number).map_err(|_| Error::internal("too many workers"))?;
        // SAFETY: as above; the table is not locked as an object by anybody else.
        let (table, database) = unsafe { (catalog_table(c"fleet_runs"), pg_sys::MyDatabaseId) };
        let mut lock = ObjectLock::of(database, table, leader.into());
        lock.0.locktag_field4 = number;
        Ok(lock)
    }

    /// Held by whoever removes what deleted tenants left.
    pub fn of_removals() -> Self {
        // SAFETY: as above; the oid of a table of ours, which is locked as an object by nobody else.
        let (table, database) = unsafe { (catalog_table(c"removals"), pg_sys::MyDatabaseId) };
        ObjectLock::of(database, pg_sys::RelationRelationId, table)
    }

    /// As the server's LockSharedObject() and LockDatabaseObject() do.
    fn of(database: pg_sys::Oid, class: pg_sys::Oid, object: pg_sys::Oid) -> Self {
        ObjectLock(pg_sys::LOCKTAG {
            locktag_field1: database.to_u32(),
            locktag_field2: class.to_u32(),
            locktag_field3: object.to_u32(),
            locktag_field4: 0,
            locktag_type: pg_sys::LockTagType::LOCKTAG_OBJECT as u8,
            locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
        })
    }

    /// Until the end of the transaction; waits for lock_timeout at most.
    pub fn take(&self) {
        self.acquire(false, false);
    }

    /// Until the end of the transaction.
    pub fn try_take(&self) -> bool {
        self.acquire(false, true)
    }

    /// Until `release`, or the end of the session.
    pub fn hold(&self, wait: bool) -> bool {
        self.acquire(true, !wait)
    }

    /// Waits until nobody holds it; false where that takes longer. In a deadlock this session is never the one to give way:
    /// it is the one that knows least about the lock in question.
    pub fn wait_for_release(&self, patience: Duration) -> Result<bool> {
        let released = attempt(
            || {
                let scope = guc::Scope::open();
                scope.set(c"lock_timeout", &patience.as_millis().to_string())?;
                scope.set(c"deadlock_timeout", "1h")?;
                // SAFETY: in a transaction; what is taken is given back.
                unsafe {
                    pg_sys::LockAcquire(&self.0, MODE, false, false);
                    pg_sys::LockRelease(&self.0, MODE, false);
                }
                Ok(())
            },
            &[PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE],
        )?;
        Ok(released.is_some())
    }

    pub fn release(&self) {
        if self.is_held() {
            // SAFETY: a lock that hold() took.
            unsafe { pg_sys::LockRelease(&self.0, MODE, true) };
        }
    }

    /// The abort of any transaction gives it back.
    pub fn is_held(&self) -> bool {
        // SAFETY: looks the tag up among the backend's own locks.
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        unsafe {
            pg_sys::LockHeldByMe(&self.0, MODE)
        }
        // SAFETY: as above.
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        unsafe {
            pg_sys::LockHeldByMe(&self.0, MODE, false)
        }
    }

    /// Gives back the lock on a role that GRANT of the role has just taken for the length of the transaction, from PostgreSQL
    /// 16 on. It keeps two grants from making a circle, and whoever is granted a role to as it is created is in none.
    pub fn release_after_grant(&self) {
        // SAFETY: the lock that the GRANT took, in this transaction and for the same resource owner.
        #[cfg(not(feature = "pg15"))]
        unsafe {
            pg_sys::LockRelease(&self.0, MODE, false)
        };
    }

    fn acquire(&self, for_session: bool, dont_wait: bool) -> bool {
        // Who has the lock may be building an index, and would wait for our snapshot while we wait for the lock.
        let _unwaited = (!dont_wait).then(Unwaited::begin);
        // SAFETY: a tag of the kind that the server makes for roles, in a transaction.
        let answer = unsafe { pg_sys::LockAcquire(&self.0, MODE, for_session, dont_wait) };
        answer != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}
