//! The extension's own locks, which conflict only with each other, and the locks on tables that it acquires or waits
//! for.

use std::ffi::CStr;
use std::time::Duration;

use pgrx::prelude::*;

use super::{IgnoredByBuilds, attempt, guc};
use crate::error::{Error, Result};

const MODE: pg_sys::LOCKMODE = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;

/// Releases the session-level advisory locks that a script has acquired, before the session runs other scripts.
pub fn release_advisory() {
    // SAFETY: as pg_advisory_unlock_all() does.
    unsafe { pg_sys::LockReleaseSession(pg_sys::USER_LOCKMETHOD as pg_sys::LOCKMETHODID) };
}

/// Makes a background worker release the locks that `ObjectLock::hold` has acquired when it exits. PostgreSQL itself
/// releases session-level locks only when a transaction aborts. Without this, they would stay locked after the process
/// has exited.
pub fn release_at_exit() {
    // SAFETY: the callback runs when no transaction is open any more, and before the backend's PGPROC entry is
    // released.
    unsafe { pg_sys::on_shmem_exit(Some(release_all), pg_sys::Datum::null()) };
}

unsafe extern "C-unwind" fn release_all(_code: i32, _argument: pg_sys::Datum) {
    // SAFETY: no transaction is open.
    unsafe { pg_sys::LockReleaseAll(pg_sys::DEFAULT_LOCKMETHOD as pg_sys::LOCKMETHODID, true) };
}

/// Waits for the transactions that are writing to a table, but not for those that begin to write later. Waits for each
/// for lock_timeout at most.
pub fn wait_for_writers(table: pg_sys::Oid) {
    let tag = pg_sys::LOCKTAG {
        // SAFETY: reads a backend-local variable.
        locktag_field1: unsafe { pg_sys::MyDatabaseId }.to_u32(),
        locktag_field2: table.to_u32(),
        locktag_field3: 0,
        locktag_field4: 0,
        locktag_type: pg_sys::LockTagType::LOCKTAG_RELATION as u8,
        locktag_lockmethodid: pg_sys::DEFAULT_LOCKMETHOD as u8,
    };
    // SAFETY: the tag of a relation. A transaction is open that holds no lock on the relation.
    unsafe { pg_sys::WaitForLockers(tag, pg_sys::ShareLock as pg_sys::LOCKMODE, false) };
}

/// Runs `act`, which may wait for each lock for `lock_wait` at most. Returns `None` if a lock was not available in that
/// time, or after a deadlock. If the caller has set lock_timeout, it applies instead, and exceeding it raises
/// PostgreSQL's error.
pub fn with_lock_wait<T>(lock_wait: &str, act: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    if has_lock_timeout()? { act().map(Some) } else { unless_locked(lock_wait, act) }
}

/// Runs `act` as `with_lock_wait` does, but also returns `None` if the caller's own lock_timeout is exceeded.
pub fn unless_locked<T>(lock_wait: &str, act: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
    let is_set = has_lock_timeout()?;
    let act = || {
        let scope = guc::Scope::open();
        if !is_set {
            scope.set(c"lock_timeout", lock_wait)?;
        }
        act()
    };
    attempt(act, &[PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE, PgSqlErrorCode::ERRCODE_T_R_DEADLOCK_DETECTED])
}

fn has_lock_timeout() -> Result<bool> {
    Ok(guc::get("lock_timeout")?.is_some_and(|value| value != "0"))
}

/// Locks a table for reading, until the end of the transaction. Waits for lock_timeout at most.
pub fn lock_for_reading(table: pg_sys::Oid) {
    // SAFETY: a transaction is open. Any OID may be locked, so the caller checks afterwards whether the table exists.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::AccessShareLock as i32) };
}

/// Locks a table for writing, until the end of the transaction. Waits for lock_timeout at most.
pub fn lock_for_writing(table: pg_sys::Oid) {
    // SAFETY: a transaction is open. Any OID may be locked, so the caller checks afterwards whether the table exists.
    unsafe { pg_sys::LockRelationOid(table, pg_sys::RowExclusiveLock as pg_sys::LOCKMODE) };
}

/// Locks tables for writing, until the end of the (sub)transaction. Returns false if one of the locks is not available
/// at once.
pub fn try_lock_for_writing(mut tables: impl Iterator<Item = pg_sys::Oid>) -> bool {
    let mode = pg_sys::RowExclusiveLock as pg_sys::LOCKMODE;
    // SAFETY: a transaction is open. Any OID may be locked, so the caller checks afterwards whether the table exists.
    tables.all(|table| unsafe { pg_sys::ConditionalLockRelationOid(table, mode) })
}

/// Returns the OID of a table of the extension's catalog.
///
/// # Safety
/// Must be called in a transaction.
unsafe fn catalog_table(name: &CStr) -> pg_sys::Oid {
    // SAFETY: lookups by C string. A missing schema raises an error, a missing table returns InvalidOid.
    unsafe { pg_sys::get_relname_relid(name.as_ptr(), pg_sys::get_namespace_oid(c"fluxbase_tenant".as_ptr(), false)) }
}

/// A lock that only the extension acquires, except the one that GRANT acquires on a role. It is not a lock on an
/// existing object, because any role can lock such an object for a moment: COMMENT locks the object that it names
/// before PostgreSQL checks the caller's privileges.
pub struct ObjectLock(pg_sys::LOCKTAG);

impl ObjectLock {
    /// Returns the lock that is held while the tenant with this owner role is migrated.
    pub fn of_migrations(owner: pg_sys::Oid) -> Self {
        ObjectLock::of_table(c"tenants", owner, 0)
    }

    /// Returns the lock that is held while spare tenants are created.
    pub fn of_spares() -> Self {
        ObjectLock::of_table(c"tenants", pg_sys::InvalidOid, 0)
    }

    /// Returns the lock that a background worker of a fleet run holds as long as it lives. `leader` identifies the run,
    /// `number` the worker.
    pub fn of_worker(leader: u32, number: u32) -> Result<Self> {
        let number = u16::try_from(number).map_err(|_| Error::internal("too many workers"))?;
        Ok(ObjectLock::of_table(c"fleet_runs", leader.into(), number))
    }

    /// Returns the lock that is held only while the tenants are counted and one is added.
    pub fn of_limit() -> Self {
        ObjectLock::of_table(c"tenant_limit", pg_sys::InvalidOid, 0)
    }

    /// Returns the lock that a background worker holds while it removes what deleted tenants left outside their
    /// schemas.
    pub fn of_removals() -> Self {
        ObjectLock::of_table(c"removals", pg_sys::InvalidOid, 0)
    }

    /// Returns a lock whose class is a table of the extension's catalog. PostgreSQL itself acquires no lock with such a
    /// class.
    fn of_table(name: &CStr, object: pg_sys::Oid, part: u16) -> Self {
        // SAFETY: reads a backend-local variable. A transaction is open.
        let (database, class) = unsafe { (pg_sys::MyDatabaseId, catalog_table(name)) };
        ObjectLock::of(database, class, object, part)
    }

    /// Fills the tag as PostgreSQL's LockSharedObject() and LockDatabaseObject() do.
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

    /// Acquires the lock until the end of the transaction. Waits for lock_timeout at most.
    pub fn take(&self) {
        self.acquire(false, false);
    }

    /// Acquires the lock until the end of the transaction. Returns false if it is not available at once.
    pub fn try_take(&self) -> bool {
        self.acquire(false, true)
    }

    /// Acquires the lock until `release`, the end of the session, or the abort of any transaction. Returns false if it
    /// is not available at once and `wait` is false.
    pub fn hold(&self, wait: bool) -> bool {
        self.acquire(true, !wait)
    }

    /// Waits until no session holds the lock. Returns false if that takes longer than `limit`. In a deadlock, this
    /// session is the last to be cancelled, because it knows the least about the lock that causes it.
    pub fn wait_for_release(&self, limit: Duration) -> Result<bool> {
        let released = attempt(
            || {
                let scope = guc::Scope::open();
                scope.set(c"lock_timeout", &limit.as_millis().to_string())?;
                // The other sessions check for a deadlock only once, after their own deadlock_timeout, which may be
                // before the deadlock exists. So this session has to check as well.
                scope.set(c"deadlock_timeout", &(limit * 9 / 10).as_millis().to_string())?;
                // SAFETY: a transaction is open. The lock acquired is released.
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

    /// Runs `act` while holding the lock. Waits for the lock first.
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

    /// Releases the lock if this session holds it.
    pub fn release(&self) {
        if self.is_held() {
            // SAFETY: a lock that hold() has acquired.
            unsafe { pg_sys::LockRelease(&self.0, MODE, true) };
        }
    }

    /// Reports whether this session holds the lock. The abort of any transaction releases it.
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

    /// Releases the lock on a role that GRANT of this role has just acquired until the end of the transaction, in
    /// PostgreSQL 16 and later. The lock keeps concurrent grants from creating a cycle of memberships. The extension
    /// grants the role only to owner roles, which have no members and so cannot be part of a cycle.
    pub fn release_after_grant(role: pg_sys::Oid) {
        // A role belongs to no database.
        let lock = ObjectLock::of(pg_sys::InvalidOid, pg_sys::AuthIdRelationId, role, 0);
        if cfg!(not(feature = "pg15")) {
            // SAFETY: the lock that GRANT has acquired in this transaction, for the same resource owner.
            unsafe { pg_sys::LockRelease(&lock.0, MODE, false) };
        }
    }

    fn acquire(&self, for_session: bool, dont_wait: bool) -> bool {
        // The holder of the lock may be building an index, and would wait for this session's snapshot while this
        // session waits for the lock.
        let _ignored = (!dont_wait).then(IgnoredByBuilds::begin);
        // SAFETY: a valid tag. A transaction is open.
        let answer = unsafe { pg_sys::LockAcquire(&self.0, MODE, for_session, dont_wait) };
        answer != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}
