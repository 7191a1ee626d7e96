//! Locks on roles, of the kind that lets others use the role and only keeps their like out.

use pgrx::prelude::*;

const MODE: pg_sys::LOCKMODE = pg_sys::ShareUpdateExclusiveLock as pg_sys::LOCKMODE;

pub struct RoleLock(pg_sys::LOCKTAG);

impl RoleLock {
    pub fn of(role: pg_sys::Oid) -> Self {
        // As the server's LockSharedObject() does: a shared object belongs to no database.
        RoleLock(pg_sys::LOCKTAG {
            locktag_field1: 0,
            locktag_field2: pg_sys::AuthIdRelationId.to_u32(),
            locktag_field3: role.to_u32(),
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
        // SAFETY: a tag of the kind that the server makes for roles, in a transaction.
        let answer = unsafe { pg_sys::LockAcquire(&self.0, MODE, for_session, dont_wait) };
        answer != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
    }
}
