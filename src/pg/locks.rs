//! Locks on roles and on the extension, of the kind that lets others use them and only keeps its like out.

use pgrx::prelude::*;

use super::Unwaited;

const MODE: pg_sys::LOCKMODE = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;

/// Advisory locks that a script took for the session, which has other scripts to run.
pub fn release_advisory() {
    // SAFETY: as pg_advisory_unlock_all() does.
    unsafe { pg_sys::LockReleaseSession(pg_sys::USER_LOCKMETHOD as pg_sys::LOCKMETHODID) };
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

    pub fn release(&self) {
        // SAFETY: a lock that hold() took.
        unsafe { pg_sys::LockRelease(&self.0, MODE, true) };
    }

    fn acquire(&self, for_session: bool, dont_wait: bool) -> bool {
        // Who has the lock may be building an index, and would wait for our snapshot while we wait for the lock.
        let _unwaited = (!dont_wait).then(Unwaited::begin);
        // SAFETY: a tag of the kind that the server makes for roles, in a transaction.
        let answer = unsafe { pg_sys::LockAcquire(&self.0, MODE, for_session, dont_wait) };
        answer != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}
