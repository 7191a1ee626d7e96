//! Waiting, as a backend should: awake for its latch, and for the orders to stop that come with it.

use std::time::Duration;

use pgrx::{check_for_interrupts, pg_sys};

/// Sleeps for so long, or until somebody sets the latch; raises what was ordered meanwhile.
pub fn pause(length: Duration) {
    let events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    // SAFETY: this backend's own latch.
    unsafe {
        pg_sys::WaitLatch(
            pg_sys::MyLatch,
            events as i32,
            length.as_millis() as std::ffi::c_long,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    check_for_interrupts!();
}
