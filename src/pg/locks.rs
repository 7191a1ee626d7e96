//! Locks of the extension's own, which keep only their like out, and some that it takes or waits for on tables.

use std::ffi::CStr;
use std::time::Duration;

use pgrx::prelude::*;

use super::{IgnoredByBuilds, attempt, guc};
use crate::error::{Error, Result};

const MODE: pg_sys::LOCKMODE = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;

/// Advisory locks that a script took for the session, which has other scripts to run.
pub fn release_advisory() {
    // SAFETY: as pg_advisory_unlock_all() does.
    unsafe { pg_sys::LockReleaseSession(pg_sys::USER_LOCKMETHOD as pg_sys::LOCKMETHODID) };
}

/// In a background worker: what `ObjectLock::hold` took ends with the process. The server's own clean-up gives back the locks
/// of a session only where a transaction aborts, and a process that is gone would hold the others.
pub fn release_at_exit() {
    // SAFETY: a callback that runs once transactions are over, and before the backend's entry is given up.
    unsafe { pg_sys::on_shmem_exit(Some(release_all), pg_sys::Datum::null()) };
}

unsafe extern "C-unwind" fn release_all(_code: i32, _argument: pg_sys::Datum) {
    // SAFETY: no transaction is open.
    unsafe { pg_sys::LockReleaseAll(pg_sys::DEFAULT_LOCKMETHOD as pg_sys::LOCKMETHODID, true) };
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

/// Does what may wait for locks, for `patience` with each; `None` where that is not enough, or somebody waits in turn for what the caller
/// has locked. A caller who has set lock_timeout waits for as long as that says, and gets its error.
pub fn with_lock_wait<T>(patience: &str, act: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    if has_lock_timeout()? { act().map(Some) } else { unless_locked(patience, act) }
}

/// The same, and a caller's lock_timeout is how long to wait, and no error.
pub fn unless_locked<T>(patience: &str, act: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    let is_set = has_lock_timeout()?;
    let act = || {
        let scope = guc::Scope::open();
        if !is_set {
            scope.set(c"lock_timeout", patience)?;
        }
        act()
    };
    attempt(act, &[PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED])
}

fn has_lock_timeout() -> Result<bool> {
    Ok(guc::get("lock_timeout")?.is_some_and(|own| own != "0"))
}

/// Locks a table for writing, until the end of the transaction; waits for lock_timeout at most.
pub fn lock_for_reading(table: pg_sys::Oid) {
    // SAFETY: any oid may be locked, in a transaction.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::AccessShareLock as i32) };
}

pub fn lock_for_writing(table: pg_sys::Oid) {
    // SAFETY: a lock on an oid, in a transaction; whether there is such a table is looked at afterwards.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE) };
}

/// Locks tables for writing, until the end of the (sub)transaction; false where one cannot be had at once.
pub fn try_lock_for_writing(mut tables: impl Iterator<Item = pg_sys::Oid>) -> bool {
    let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: a lock on an oid, in a transaction; whether there is such a table is looked at afterwards.
    tables.all(|table| unsafe { pg_sys::ConditionalLockRelationOid(table, mode) })
}

/// # Safety
/// In a transaction.
unsafe fn catalog_table(name: &CStr) -> pg_sys::Oid {
    // SAFETY: lookups by C string; an error if there is no such schema, InvalidOid if there is no such table.
    unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(c"fluxbase_tenant".as_ptr(), false)) }
}

/// A lock that nothing but the extension takes, but for the one of a GRANT. Others can take those on its objects for a moment:
/// COMMENT locks what it names before the server asks whether the caller may.
pub struct ObjectLock(pg_sys::LOCKTAG);

impl ObjectLock {
    /// Held by whoever migrates the tenant with that owner role.
    pub fn of_migrations(owner: pg_sys::Oid) -> Self {
        ObjectLock::of_table(c"tenants", owner, 0)
    }

    /// Held by whoever makes spare tenants.
    pub fn of_spares() -> Self {
        ObjectLock::of_table(c"tenants", pg_sys::InvalidOid, 0)
    }

    /// Of a background worker, by its leader's number and its own.
    pub fn of_worker(leader: u32, number: u32) -> Result<Self> {
        let number = u16::try_from(number).map_err(|_| Error::internal("too many workers"))?;
        Ok(ObjectLock::of_table(c"fleet_runs", leader.into(), number))
    }

    /// Held by whoever counts the tenants and adds one, for no longer than that takes.
    pub fn of_limit() -> Self {
        ObjectLock::of_table(c"tenant_limit", pg_sys::InvalidOid, 0)
    }

    /// Held by whoever removes what deleted tenants left.
    pub fn of_removals() -> Self {
        ObjectLock::of_table(c"removals", pg_sys::InvalidOid, 0)
    }

    /// On what a table of the catalog keeps: the server locks nothing under the oid of such a table as a class.
    fn of_table(name: &CStr, object: pg_sys::Oid, part: u16) -> Self {
        // SAFETY: reads a variable of the backend, in a transaction.
        let (database, class) = unsafe { (pg_sys::MyDatabaseId, catalog_table(name)) };
        ObjectLock::of(database, class, object, part)
    }

    /// As the server's LockSharedObject() and LockDatabaseObject() do.
    fn of(database: pg_sys::Oid, class: pg_sys::Oid, object: pg_sys::Oid, part: u16) -> Self {
        ObjectLock(pg_sys::LOCKTAG {
            locktag_field1: database.to_u32(),
            locktag_field2: class.to_u32(),
            locktag_field3: object.to_u32(),
            locktag_field4: part,
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

    /// Waits until nobody holds it; false where that takes longer. In a deadlock this session is the last to give way: it is
    /// the one that knows least about the lock in question.
    pub fn wait_for_release(&self, patience: Duration) -> Result<bool> {
        let released = attempt(
            || {
                let scope = guc::Scope::open();
                scope.set(c"lock_timeout", &patience.as_millis().to_string())?;
                // Others look for a deadlock once, when their own wait has lasted for this long, and may come too early.
                scope.set(c"deadlock_timeout", &(patience * 9 / 10).as_millis().to_string())?;
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

    /// While nobody else holds it.
    pub fn with<T>(self, act: impl FnOnce() -> T) -> T {
        struct Held(ObjectLock);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.release();
            }
        }
        self.hold(true);
        let _held = Held(self);
        act()
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
    pub fn release_after_grant(role: pg_sys::Oid) {
        // A role belongs to no database.
        let lock = ObjectLock::of(pg_sys::InvalidOid, pg_sys::AuthIdRelationId, role, 0);
        if cfg!(not(feature = "pg15")) {
            // SAFETY: the lock that the GRANT took, in this transaction and for the same resource owner.
            unsafe { pg_sys::LockRelease(&lock.0, MODE, false) };
        }
    }

    fn acquire(&self, for_session: bool, dont_wait: bool) -> bool {
        // Who has the lock may be building an index, and would wait for our snapshot while we wait for the lock.
        let _ignored = (!dont_wait).then(IgnoredByBuilds::begin);
        // SAFETY: a tag as the server makes them, in a transaction.
        let answer = unsafe { pg_sys::LockAcquire(&self.0, MODE, for_session, dont_wait) };
        answer != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}
